import json
import time

import numpy as np

from interlock.cli import main
from interlock.monitor.detectors.subpca import SubPca
from interlock.monitor.metrics import vus_pr
from interlock.monitor.registry import Card, DetectorRegistry
from interlock.monitor.signed import DualKey

KEY = DualKey(b"a" * 32, b"b" * 32)


def test_one_command_rolls_back(tmp_path, capsys):
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
