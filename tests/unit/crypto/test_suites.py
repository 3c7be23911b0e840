"""Which algorithms do what: one registry, a home's choice, and what was signed before."""

import json
import shutil
from pathlib import Path

import pytest

from interlock.cli import envelope as envelope_command
from interlock.cli import main
from interlock.crypto import dsse, kem, signing
from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.crypto.suites import FILE, USES, algorithms, choose, chosen
from interlock.errors import InputError, IntegrityError, SetupError, UsageError
from interlock.ledger import Ledger, audit
from interlock.ledger.rotating import SUITE_CHOSEN
from tests.unit.ledger.test_export import run

HYBRID_87 = "ed25519+ml-dsa-87"


def test_the_registry_names_only_what_there_is() -> None:
    for use in USES.values():
        assert use.default in use.suites
        assert not set(use.suites) & set(use.refused)
        for names in use.suites.values():
            assert all(name in signing.SIGNATURES or name in kem.SUITES for name in names)
    # No signature of ours rests on one kind of mathematics alone.
    for use in ("ledger", "artefacts"):
        for names in USES[use].suites.values():
            assert {signing.SIGNATURES[n].nist_level > 0 for n in names} == {True, False}
    assert list(USES["envelopes"].suites) == envelope_command._SUITES


@pytest.mark.parametrize("use", USES)
def test_unknown_and_forbidden_suites_are_refused(use: str, tmp_path: Path) -> None:
    for name in USES[use].refused:
        with pytest.raises(UsageError) as caught:
            choose(tmp_path, use, name)
        assert caught.value.code == "algorithm-forbidden"
        assert USES[use].refused[name] in (caught.value.got or "")
    for name in ("rot13", "", "ed25519+ml-dsa-44 "):
        with pytest.raises(UsageError) as caught:
            choose(tmp_path, use, name)
        assert caught.value.code == "algorithm-unknown"
    with pytest.raises(UsageError):
        algorithms("homework", "cnsa")
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", InputError),
        ("[]", InputError),
        ('{"artefacts": 3}', InputError),
        ('{"artefacts": "ed25519"}', UsageError),
        ('{"artefacts": "rot13"}', UsageError),
        ('{"homework": "cnsa"}', UsageError),
    ],
)
def test_a_choice_that_is_no_choice_signs_nothing(
    text: str, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text(text)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(error):
        ArtefactSigner(KeyStore(tmp_path / "keys"))
    (tmp_path / FILE).write_text(json.dumps({"artefacts": HYBRID_87}))
    (tmp_path / FILE).chmod(0o666)
    with pytest.raises(SetupError):
        chosen(tmp_path, "artefacts")


def test_switching_is_configuration_and_what_was_signed_before_verifies(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    before = ArtefactSigner(store)
    old = dsse.sign("text/plain", b"old", before)
    assert choose(tmp_path, "artefacts", HYBRID_87) == "ed25519+ml-dsa-65"
    after = ArtefactSigner(store)
    new = dsse.sign("text/plain", b"new", after)
    assert set(after.public) == {"ed25519", "ml-dsa-87"}
    assert dsse.verify(old, before.public, "text/plain") == b"old"
    assert dsse.verify(new, after.public, "text/plain") == b"new"
    both = dsse.parse_keys(after.trusted_text())
    assert dsse.verify(old, both, "text/plain") == b"old"
    assert dsse.verify(new, both, "text/plain") == b"new"
    # Who trusts one suite alone takes nothing signed with the other.
    for text, keys in ((old, after.public), (new, before.public)):
        with pytest.raises(IntegrityError) as caught:
            dsse.verify(text, keys, "text/plain")
        assert caught.value.code == "dsse-unsigned"
    # Each suite needs both of its signatures, whatever else is there.
    for text in (old, new):
        document = json.loads(text)
        for at in range(2):
            cut = document | {"signatures": [document["signatures"][at]]}
            with pytest.raises(IntegrityError):
                dsse.verify(json.dumps(cut), both, "text/plain")
    with pytest.raises(InputError):
        dsse.verify(new, {"ml-dsa-87": both["ml-dsa-87"]}, "text/plain")


def test_the_commands_switch_weights_and_bundles_and_the_ledger_records_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    np = pytest.importorskip("numpy")
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"n": 1}).wait()
    at = ["--home", str(home)]
    for version in (1, 2):
        folder = tmp_path / f"w{version}"
        folder.mkdir()
        save_file({"w": np.full(3, float(version), np.float32)}, folder / "model.safetensors")
        sign = ["weights", "sign", str(folder), "--name", "m", "--version", str(version), *at]
        assert main([*sign, *(["--parent", str(tmp_path / "w1")] if version == 2 else [])]) == 0
        if version == 1:
            assert main(["export", str(tmp_path / "b1"), "--for", "auditor", *at]) == 0
            assert main(["keys", "use", "artefacts", "ed25519", *at]) == 2
            assert main(["keys", "use", "artefacts", HYBRID_87, *at]) == 0
    for version in (1, 2):
        assert main(["weights", "verify", str(tmp_path / f"w{version}"), *at]) == 0
    assert main(["weights", "chain", str(tmp_path / "w1"), str(tmp_path / "w2"), *at]) == 0
    assert main(["export", str(tmp_path / "b2"), "--for", "auditor", *at]) == 0
    for name in ("b1", "b2"):
        assert run(tmp_path / name).returncode == 0
    keys = tmp_path / "b2" / "bundle.keys"
    assert "ml-dsa-87" in keys.read_text()
    keys.write_text(keys.read_text().splitlines()[0] + "\n")  # Ed25519 alone
    assert run(tmp_path / "b2").returncode == 7
    with Ledger.open(home) as ledger:
        (entry,) = ledger.entries(SUITE_CHOSEN)
        assert entry.header == {
            "use": "artefacts", "suite": HYBRID_87, "before": "ed25519+ml-dsa-65",
        }  # fmt: skip
    assert audit(home).ok
    capsys.readouterr()
    assert main(["keys", "algorithms", "--json", *at]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["artefacts"]["in_use"] == HYBRID_87
    assert main(["keys", "algorithms", *at]) == 0
    assert "refused: a quantum computer breaks it" in capsys.readouterr().out


def test_envelopes_follow_the_home_and_old_ones_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    KeyStore(home / "keys").secret("x")
    at = ["--home", str(home)]
    (tmp_path / "plain").write_bytes(b"canary")
    for number in range(2):
        sealed = str(tmp_path / f"e{number}")
        seal = ["envelope", "seal", str(tmp_path / "plain"), sealed, "--context", "d", *at]
        assert main(seal) == 0
        assert ("cnsa" in capsys.readouterr().out) == bool(number)
        assert main(["keys", "use", "envelopes", "cnsa", *at]) == 0
        capsys.readouterr()
    for number in range(2):
        out = tmp_path / f"p{number}"
        opened = ["envelope", "open", str(tmp_path / f"e{number}"), str(out), "--context", "d"]
        assert main([*opened, *at]) == 0
        assert out.read_bytes() == b"canary"
    shutil.rmtree(home / "keys")
    assert main(["keys", "use", "envelopes", "cnsa", *at]) == 4
