import json
import time

import numpy as np
import pytest

from interlock.cli import main
from interlock.errors import InputError
from interlock.ledger import Ledger
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.detectors.subpca import SubPca
from interlock.monitor.metrics import vus_pr
from interlock.monitor.registry import Card, DetectorRegistry
from interlock.monitor.signed import DualKey

KEY = DualKey(b"a" * 32, b"b" * 32)


def test_one_command_rolls_back(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    registry = DetectorRegistry(tmp_path / "d", KEY.public)
    for version in (1, 2):
        card = Card(
            name="t1", version=version, owner="team", purpose="p", training_data="simulated",
            validation={"recall": 1.0}, created_s=int(time.time()), max_age_s=1000,
        )  # fmt: skip
        registry.release(card, {"w": np.ones(2)}, KEY)
    public = tmp_path / "public.json"
    keys = {"ed25519": KEY.public.ed25519, "ml_dsa_65": KEY.public.ml_dsa_65}
    public.write_text(json.dumps(keys))
    arguments = [str(tmp_path / "d"), "t1", "--public", str(public)]
    assert main(["detector", "check", *arguments]) == 0
    assert "version:       2" in capsys.readouterr().out
    assert main(["detector", "check", str(tmp_path / "d"), "t2", "--public", str(public)]) == 7
    assert not (tmp_path / "d" / "t2").exists()  # looking makes nothing
    assert main(["detector", "rollback", *arguments]) == 2
    key = tmp_path / "key.json"
    arguments_key = [*arguments, "--key", str(key)]
    seeds = {"ed25519": (b"a" * 32).hex(), "ml_dsa_65": (b"b" * 32).hex()}
    for bad in ("{}", '{"ed25519": "00", "ml_dsa_65": "00"}', "no"):
        key.write_text(bad)
        key.chmod(0o600)
        assert main(["detector", "rollback", *arguments_key]) == 4
    key.write_text(json.dumps({**seeds, "ed25519": "00" * 32}))
    assert main(["detector", "rollback", *arguments_key]) == 7
    key.write_text(json.dumps(seeds))
    capsys.readouterr()
    assert main(["detector", "rollback", *arguments_key]) == 0
    assert "version 1" in capsys.readouterr().out
    assert main(["detector", "rollback", *arguments_key]) == 7
    public.write_text("{}")
    assert main(["detector", "check", *arguments]) == 4


@pytest.fixture
def owner(tmp_path):
    """The files of an owner's keys, and a ledger's home."""
    seeds = {"ed25519": (b"a" * 32).hex(), "ml_dsa_65": (b"b" * 32).hex()}
    (tmp_path / "key.json").write_text(json.dumps(seeds))
    (tmp_path / "key.json").chmod(0o600)
    keys = {"ed25519": KEY.public.ed25519, "ml_dsa_65": KEY.public.ml_dsa_65}
    (tmp_path / "public.json").write_text(json.dumps(keys))
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("start", {}, {}).wait()
    (tmp_path / "d").mkdir(mode=0o700)
    return tmp_path


def quiet(path, *, names=("mxc", "f_hz"), rows=20_000, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, len(names))) + np.array([0.0, 5e9])[: len(names)]
    values[rows // 2 :, 0] += shift
    lines = [",".join(names), *(",".join(f"{v:.4f}" for v in row) for row in values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def release(owner, version, file, *more):
    return main([
        "detector", "release", str(owner / "d"), "fridge", str(file), "--version", str(version),
        "--owner", "device team", "--purpose", "cold stage", "--key", str(owner / "key.json"),
        "--block", "16", "--home", str(owner / "home"), *more,
    ])  # fmt: skip


def watch(owner, file, *more):
    return main([
        "monitor", str(file), "--detector", "fridge", "--detectors", str(owner / "d"),
        "--public", str(owner / "public.json"), "--home", str(owner / "home"), "--json", *more,
    ])  # fmt: skip


def test_a_released_detector_watches_and_a_withdrawn_one_does_not(owner, capsys):
    assert release(owner, 1, quiet(owner / "good.csv")) == 0
    assert "shift_found 1" in capsys.readouterr().out
    first = (owner / "d" / "fridge" / "current").read_bytes()
    assert release(owner, 2, owner / "good.csv") == 0
    capsys.readouterr()
    shifted = quiet(owner / "new.csv", seed=1, shift=4.0)
    assert watch(owner, shifted) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line["row"] >= 10_000 and line["channel"] == "mxc" for line in lines[:-1])
    assert all(line["row"] >= 10_000 for line in lines[:-1])
    assert watch(owner, quiet(owner / "other.csv", names=("a", "b"))) == 4
    assert "monitor-rows" in capsys.readouterr().err
    (owner / "d" / "fridge" / "current").write_bytes(first)  # an older signed state
    assert watch(owner, shifted) == 7
    assert "on record" in capsys.readouterr().err
    assert main(["monitor", str(shifted), "--detector", "fridge"]) == 2


def test_a_detector_that_fails_its_validation_is_not_released(owner, capsys):
    assert release(owner, 1, quiet(owner / "drifts.csv", shift=50.0)) == 4
    assert "monitor-validation" in capsys.readouterr().err
    assert release(owner, 1, quiet(owner / "short.csv", rows=100)) == 4
    assert "monitor-fit" in capsys.readouterr().err
    assert not (owner / "d" / "fridge").exists()
    assert release(owner, 2, quiet(owner / "good.csv")) == 0
    assert release(owner, 2, owner / "good.csv") == 7
    assert release(owner, 3, owner / "good.csv", "--home", str(owner / "nowhere")) == 4


def test_weights_that_are_no_numbers_are_refused():
    scorer = FusedScorer(2, block=16).fit(np.random.default_rng(0).standard_normal((100, 2)))
    good = scorer.weights()
    for name, bad in (("sd", np.zeros(2)), ("centre", np.full(2, np.nan)), ("lead", np.ones(3))):
        with pytest.raises(InputError):
            FusedScorer(2, block=16).load(good | {name: bad})
    with pytest.raises(InputError):
        FusedScorer(2, block=16).load({})
    rows = np.random.default_rng(1).standard_normal((32, 2)).astype("f4")
    again = FusedScorer(2, block=16).load(good)
    np.testing.assert_allclose(again.score(rows).features(), scorer.score(rows).features(), 1e-5)


def test_an_edge_bundle_is_made_and_scores_a_file(owner, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = quiet(owner / "good.csv", names=("a", "b"), rows=3000)
    key, public = str(owner / "key.json"), str(owner / "public.json")
    made = ["detector", "bundle", str(owner / "edge"), str(file), "--key", key, "--version", "2"]
    assert main(made) == 0
    score = ["monitor", "edge", str(owner / "edge"), "--public", public, "--json"]
    capsys.readouterr()
    assert main([*score, str(file), "--block", "1000"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["rows"] for line in lines] == [1000, 1000, 1000, 3000]
    assert all(set(line) == {"rows", "over", "peak"} for line in lines[:-1])
    assert main([*score, str(file), "--least-version", "3"]) == 7
    assert main([*score, str(quiet(owner / "one.csv", names=("a",), rows=50))]) == 4
    (owner / "edge" / "card.json").write_text("{}")
    assert main([*score, str(file)]) == 7


def test_sub_pca_ranks_the_odd_span_first():
    rng = np.random.default_rng(0)
    t = np.arange(6000)
    x = (np.sin(t / 9) + 0.1 * rng.standard_normal(6000))[:, None]
    labels = np.zeros(6000, bool)
    x[4000:4060, 0] += np.sin(t[4000:4060] / 2)
    labels[4000:4060] = True
    score = SubPca().fit(x[:2000]).score(x[2000:])
    assert vus_pr(score, labels[2000:]) > 0.8
    assert vus_pr(rng.random(4000), labels[2000:]) < 0.2


def test_keys_made_here_release_and_are_never_written_over(tmp_path, capsys):
    key, public = tmp_path / "own.json", tmp_path / "public.json"
    (tmp_path / "d").mkdir()
    assert main(["detector", "key", str(key), str(public)]) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    assert before.decode() not in capsys.readouterr().out
    assert main(["detector", "key", str(key), str(tmp_path / "p2.json")]) == 2
    assert key.read_bytes() == before
    done = main([
        "detector", "release", str(tmp_path / "d"), "fridge", str(quiet(tmp_path / "g.csv")),
        "--version", "1", "--owner", "me", "--purpose", "x", "--key", str(key), "--block", "16",
    ])  # fmt: skip
    assert done == 0
    checked = ["detector", "check", str(tmp_path / "d"), "fridge", "--public", str(public)]
    assert main(checked) == 0
