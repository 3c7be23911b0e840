import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, IntegrityError, InterlockError
from interlock.ledger import Ledger, audit
from interlock.ledger.export import export
from interlock.ledger.identity import read_vkeys
from interlock.ledger.note import sign_checkpoint
from interlock.ledger.proof import Proof
from interlock.ledger.rotating import KEK_KEPT, KEK_ROTATED
from interlock.ledger.rotation import ROTATED, KeyHistory, endorse
from tests.unit.ledger.test_export import run
from tests.unit.ledger.test_note import signer


def test_heads_are_signed_by_the_keys_in_force(home: Path) -> None:
    with Ledger.open(home) as ledger, Ledger.open(home) as other:
        for generation in range(3):
            ledger.append("a", {"g": generation}, {}).wait()
            other.append("a", {"g": generation}, {}).wait()
            other.checkpoint()
            if generation < 2:
                assert ledger.rotate() == generation + 1
        other.append("a", {}, {}).wait()
        note = other.checkpoint()
        assert other.check_note(note).size == 9
    assert audit(home).ok
    with Ledger.open(home) as ledger:
        assert ledger.history().generation == 2
        assert ledger.verify().ok


def test_an_entry_of_a_user_cannot_pose_as_a_rotation(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="own"):
        ledger.append(ROTATED, {}, {})


def test_only_the_old_keys_can_endorse_new_ones() -> None:
    old = [signer(1, seed=1), signer(6, seed=1)]
    new = [signer(1, seed=2), signer(6, seed=2)]
    public = [s.key for s in new]
    good = endorse(1, public, old)
    history = KeyHistory([s.key for s in old])
    for bad in (
        endorse(1, public, new),
        endorse(1, public, [old[0], new[1]]),
        endorse(2, public, old),
        endorse(1, [signer(1, "other", 2).key, public[1]], old),
        {k: v for k, v in good.items() if k != "endorsed.ml-dsa-44"},
        good | {"key.ed25519": str(old[0].key)},
        {},
    ):
        with pytest.raises(IntegrityError) as caught:
            history.add(5, ROTATED, bad)
        assert caught.value.code == "rotation-invalid"
    history.add(5, ROTATED, good)
    assert history.at(5) == [s.key for s in old]
    assert history.at(6) == public


@pytest.fixture
def rotated(home: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A ledger rotated once; a proof made before, and one after."""
    paths = tmp_path / "before", tmp_path / "after"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"n": 1}).wait()
        paths[0].write_text(str(ledger.prove(0)))
        ledger.rotate()
        paths[1].write_text(str(ledger.prove(0)))
    return home, *paths


def test_proofs_are_checked_by_the_keys_in_force_at_their_size(
    rotated: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, before, after = rotated
    first, second = str(home / "ledger.vkeys"), str(home / "ledger.vkeys.1")
    verify = ["ledger", "verify", "--home", str(home)]
    for proof in (str(before), str(after)):
        assert main([*verify, proof]) == 0
        assert main([*verify, proof, "--keys", first]) == 0
    assert main([*verify, str(after), "--keys", second]) == 0
    capsys.readouterr()
    # Keys that came later vouch for nothing before them: that is said, the proof not called bad.
    assert main([*verify, str(before), "--keys", second]) != 0
    assert "proof-keys-later" in capsys.readouterr().err
    # Without a ledger the keys given have to have signed themselves.
    alone = ["ledger", "verify", "--home", str(tmp_path / "none")]
    assert main([*alone, str(after), "--keys", second]) == 0
    assert main([*alone, str(after), "--keys", first]) == 7
    assert main([*alone, str(before), "--keys", first]) == 0


def test_later_keys_judge_the_ledger_from_their_rotation_on(
    rotated: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = rotated[0]
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"n": 2}).wait()
        ledger.rotate()
        ledger.append("a", {}, {"n": 3}).wait()
    verify = ["verify", "--home", str(home), "--keys"]
    for generation, earlier in ((1, 1), (2, 2)):
        assert main([*verify, str(home / f"ledger.vkeys.{generation}")]) == 0
        text = capsys.readouterr().out
        assert "EARLIER" in text
        assert "not in force" in text
        assert "give --keys ledger.vkeys" in text
        report = audit(home, read_vkeys(home / f"ledger.vkeys.{generation}"))
        assert report.ok
        assert report.not_judged >= earlier
        assert report.signed_size == report.size == 5
    assert audit(home, read_vkeys(home / "ledger.vkeys")).not_judged == 0
    # Keys of nobody here are still no keys of this ledger's.
    foreign = [signer(1, str(read_vkeys(home / "ledger.vkeys")[0].name), 9).key]
    assert {fault.kind for fault in audit(home, foreign).faults} >= {"checkpoint-forged"}
    with Ledger.open(home) as ledger:
        export(ledger, tmp_path / "out")
    found = run(tmp_path / "out", "--keys", str(home / "ledger.vkeys.1"))
    assert found.returncode == 7
    assert "--keys: the first, ledger.vkeys" in found.stdout


def test_later_keys_find_what_was_changed_before_them(
    rotated: tuple[Path, Path, Path], tamper: Callable[[Path, str], None]
) -> None:
    home = rotated[0]
    later = read_vkeys(home / "ledger.vkeys.1")
    assert audit(home, later).ok
    tamper(home, "UPDATE entries SET payload = CAST(payload || 'x' AS BLOB) WHERE idx = 0")
    assert not audit(home, later).ok


def test_a_thief_of_superseded_keys_cannot_rewrite_what_later_keys_signed(
    home: Path, tmp_path: Path
) -> None:
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"n": 1}).wait()
    thief = tmp_path / "thief"
    shutil.copytree(home, thief)
    with Ledger.open(home) as ledger:
        ledger.rotate()
    later = read_vkeys(home / "ledger.vkeys.1")
    with Ledger.open(thief) as ledger:  # another history, endorsed by the stolen first keys
        ledger.append("a", {}, {"n": 666}).wait()
        header = endorse(1, later, ledger._signers())
        ledger._append_own(ROTATED, header).wait()
        with contextlib.suppress(InterlockError):
            ledger.checkpoint()
        with contextlib.suppress(InterlockError):
            ledger.close()
    report = audit(thief, later)
    assert {fault.kind for fault in report.faults} >= {"unsigned"}


def test_time_stamps_are_not_asked_of_a_proof_and_not_ignored_for_a_ledger(
    rotated: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, before, _ = rotated
    args = ["ledger", "verify", "--home", str(home), "--tsa-roots", str(tmp_path / "none.pem")]
    assert main([*args, str(before)]) != 0
    assert "proof-stamps" in capsys.readouterr().err
    assert main(args) != 0
    assert "anchor-roots" in capsys.readouterr().err


def test_old_keys_cannot_sign_heads_after_their_rotation(
    rotated: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    home, _, after = rotated
    with Ledger.open(home) as ledger:
        old = ledger._identity.signers(0)  # what a thief of the old keys has
        stolen = Proof.parse(after.read_text())
        head = ledger.check_note(stolen.note)
    lines = "".join(s.line() for s in sign_checkpoint(head, old, 1))
    forged = tmp_path / "forged"
    forged.write_text(str(dataclasses.replace(stolen, note=f"{head.text()}\n{lines}")))
    assert main(["ledger", "verify", "--home", str(home), str(forged)]) == 7
    assert main(["ledger", "export", "--home", str(home), str(tmp_path / "out")]) == 0
    assert run(tmp_path / "out", "--proof", str(forged)).returncode == 7


def test_an_export_carries_every_key_and_checks_proofs_across_rotations(
    rotated: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    home, before, after = rotated
    out = tmp_path / "out"
    with Ledger.open(home) as ledger:
        ledger.rotate()
        export(ledger, out)
    names = ["ledger.vkeys", "ledger.vkeys.1", "ledger.vkeys.2"]
    for name in names:
        assert (out / name).read_text() == (home / name).read_text()
    for proof in (before, after):
        found = run(out, "--proof", str(proof), "--keys", str(home / "ledger.vkeys"))
        assert found.returncode == 0, found.stdout
        assert "2 rotations" in found.stdout
    swapped = (out / "ledger.vkeys.1").read_text()
    (out / "ledger.vkeys.1").write_text((out / "ledger.vkeys.2").read_text())
    assert "not the keys of that rotation" in run(out).stdout
    (out / "ledger.vkeys.1").write_text(swapped)
    assert run(out).returncode == 0
    (out / "ledger.vkeys.3").write_text(swapped)
    assert run(out).returncode == 7


def test_a_new_key_encryption_key_is_recorded(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = (filled / "keys" / "kek").read_bytes()
    assert main(["keys", "rotate", "--home", str(filled)]) == 0
    assert "the ledger records it" in capsys.readouterr().out
    assert (filled / "keys" / "kek").read_bytes() != old
    with Ledger.open(filled) as ledger:
        (entry,) = ledger.entries(KEK_ROTATED)
        assert entry.header["keys"] == len(list((filled / "keys").glob("*.key")))
        assert ledger.entries("admit").__next__().payload == {"n": 0}
    assert audit(filled).ok


def test_another_keeper_of_the_key_is_recorded(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "correct horse")
    assert main(["keys", "keep", "passphrase", "--home", str(filled)]) == 0
    assert "before: file" in (text := capsys.readouterr().out)
    assert "the ledger records it" in text
    with Ledger.open(filled) as ledger:
        (entry,) = ledger.entries(KEK_KEPT)
        assert entry.header == {"keeper": "passphrase", "before": "file"}
        assert ledger.entries("admit").__next__().payload == {"n": 0}
    assert audit(filled).ok
    # A keeper that gives nothing back is not put in force, and not recorded.
    monkeypatch.setenv("TPM2TOOLS_TCTI", "swtpm:path=/nonexistent")
    assert main(["keys", "keep", "tpm", "--home", str(filled)]) != 0
    with Ledger.open(filled) as ledger:
        assert len([*ledger.entries(KEK_KEPT)]) == 1


def test_a_keeper_is_chosen_before_there_is_a_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "correct horse")
    tmp_path.chmod(0o700)
    assert main(["keys", "keep", "passphrase", "--home", str(tmp_path)]) == 0
    assert "no ledger here" in capsys.readouterr().out
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_that_is_cut_keeps_its_keeper(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "correct horse")
    (filled / "ledger.db").unlink()
    assert main(["keys", "keep", "passphrase", "--home", str(filled)]) == 7
    assert (filled / "keys" / "kek").exists()
    assert not (filled / "keys" / "kek.passphrase").exists()


def test_keys_without_a_ledger_are_rotated_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KeyStore(tmp_path / "keys").secret("x")
    assert main(["keys", "rotate", "--home", str(tmp_path)]) == 0
    assert "no ledger here" in capsys.readouterr().out
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_that_is_cut_keeps_its_key_encryption_key(filled: Path) -> None:
    old = (filled / "keys" / "kek").read_bytes()
    (filled / "ledger.db").unlink()
    assert main(["keys", "rotate", "--home", str(filled)]) == 7
    assert (filled / "keys" / "kek").read_bytes() == old
