"""A volume that is really full: a tmpfs of 2 MiB. Needs the right to mount (root).

`test_crash.py` has the same for everybody with a limit on file size instead.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.crypto.keys import KeyStore
from interlock.errors import StorageError
from interlock.ledger import Ledger, audit
from interlock.ledger.export import export


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "volume"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a volume; test_crash.py limits the file size instead")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Use up the last byte."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as handle:
        for size in (65536, 4096, 1):
            try:
                while handle.write(b"x" * size):
                    pass
            except OSError:
                continue
    return ballast


def test_a_ledger_on_a_full_volume_refuses_loses_nothing_and_goes_on(volume: Path) -> None:
    home = volume / "home"
    reserve = volume / "reserve"
    reserve.write_bytes(bytes(256 * 1024))
    promised = []
    with Ledger.open(home) as ledger:

        def write() -> None:
            for n in range(2000):
                entry = ledger.append("a", {"n": n}, {"x": "y" * 5000}).wait()
                promised.append(entry.id)

        with pytest.raises(StorageError) as caught:
            write()
        assert caught.value.code == "storage-full"
        assert len(promised) > 20
        with pytest.raises(StorageError):
            ledger.append("a", {}, {"x": "y" * 50_000}).wait()
        assert [e.id for e in ledger.entries()] == promised  # readable while it is full
        reserve.unlink()
        after = ledger.append("a", {}, {"x": "z"}).wait()
        assert after.index == len(promised)
    with Ledger.open(home) as ledger:
        assert [e.id for e in ledger.entries()] == [*promised, after.id]
    report = audit(home)
    assert report.ok, report.faults
    assert report.size == len(promised) + 1


def test_a_ledger_is_not_half_made_on_a_full_volume(volume: Path) -> None:
    home = volume / "home"
    ballast = fill(volume)
    with pytest.raises(StorageError):
        Ledger.open(home)
    assert main(["ledger", "head", "--home", str(home)]) in (4, 6)
    ballast.unlink()
    with Ledger.open(home) as ledger:
        assert ledger.append("a", {}, {}).wait().index == 0
        assert ledger.verify().ok


@pytest.mark.parametrize("kept", [0, 4096, 12_288])
def test_keys_survive_a_rotation_on_a_full_volume(volume: Path, kept: int) -> None:
    folder = volume / "keys"
    store = KeyStore(folder)
    secrets = {f"s{n}": store.secret(f"s{n}") for n in range(5)}
    (volume / "room").write_bytes(bytes(kept))
    ballast = fill(volume)
    (volume / "room").unlink()
    failed = 0
    for n in range(6):
        with contextlib.suppress(OSError):
            (volume / f"more{n}").write_bytes(bytes(4096))
        try:
            store.rotate_kek()
        except StorageError:
            failed += 1
    assert failed
    assert {name: KeyStore(folder).secret(name) for name in secrets} == secrets
    ballast.unlink()
    assert KeyStore(folder).rotate_kek() == 5
    assert {name: KeyStore(folder).secret(name) for name in secrets} == secrets


def test_an_export_and_an_erasure_on_a_full_volume_say_so(volume: Path) -> None:
    home = volume / "home"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"x": "CANARY"}, subject="alice").wait()
        ledger.checkpoint()
        ballast = fill(volume)
        with pytest.raises(StorageError):
            export(ledger, volume / "out")
        with pytest.raises(StorageError):
            ledger.erase("alice")
        ballast.unlink()
        ledger.erase("alice")
        assert next(ledger.entries("a")).erased
        assert [e.header["reason"] for e in ledger.entries("ledger.erased")] == ["erase"]
    assert audit(home).ok


@pytest.mark.parametrize("room", [40 << 10, 70 << 10, 90 << 10])
def test_a_disk_full_at_first_use_is_no_changed_ledger(
    volume: Path, capsys: pytest.CaptureFixture[str], room: int
) -> None:
    with fill(volume).open("r+b") as ballast:
        ballast.truncate(ballast.seek(0, 2) - room)
    home = volume / "home"
    with pytest.raises(StorageError), Ledger.open(home) as ledger:
        ledger.append("a", {}, {"x": "y" * room}).wait()
    assert main(["verify", "--home", str(home)]) in (0, 4)
    assert "CHANGED" not in capsys.readouterr().out
    (volume / "ballast").unlink()
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"x": "y"}).wait()
    assert main(["verify", "--home", str(home)]) == 0
