"""A root that is not on the machine: without it nobody replaces the signing keys."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import InputError, IntegrityError, InterlockError
from interlock.ledger import Ledger, audit
from interlock.ledger.export import export
from interlock.ledger.root import authorise, by_root, make_root, parse_root
from interlock.ledger.rotation import ROOTED, ROTATED, endorse
from tests.unit.ledger.test_export import edit, run


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    make_root(tmp_path / "root", "file")
    return tmp_path / "root"


def public(folder: Path) -> dict[str, str]:
    return parse_root((folder / "root.pub").read_text())


def cli(home: Path, *words: object) -> int:
    return main(["ledger", *map(str, words), "--home", str(home)])


def test_the_root_alone_rotates(filled: Path, offline: Path, tmp_path: Path) -> None:
    request, authorised = tmp_path / "request", tmp_path / "authorised"
    assert cli(filled, "rotate") == 0  # before there is a root, the old keys do
    assert cli(filled, "root", "enrol", offline / "root.pub") == 0
    before = (filled / "ledger.vkeys.1").read_bytes()
    assert cli(filled, "rotate") == 4
    assert cli(filled, "rotate", "--request", request) == 0
    assert main(["ledger", "root", "sign", str(offline), str(request), str(authorised)]) == 0
    with Ledger.open(filled) as ledger:
        assert ledger.history().generation == 1
    assert cli(filled, "rotate", "--authorised", authorised) == 0
    assert cli(filled, "rotate", "--authorised", authorised) == 4  # not a second time
    assert (filled / "ledger.vkeys.1").read_bytes() == before
    with Ledger.open(filled) as ledger:
        assert ledger.history().generation == 2
        ledger.append("after", {}, {}).wait()
        counts = export(ledger, tmp_path / "out")
    assert counts["header"] == 24
    assert audit(filled).ok
    result = run(tmp_path / "out", "--keys", str(filled / "ledger.vkeys"))
    assert result.returncode == 0, result.stdout


def steal(home: Path) -> None:
    with Ledger.open(home) as ledger:
        new = [s.key for s in ledger._identity.signers(1, create=True)]
        ledger._append_own(ROTATED, endorse(1, new, ledger._identity.signers(0))).wait()
        ledger.checkpoint()  # no head is signed over it


def test_keys_that_are_stolen_rotate_nothing(filled: Path, offline: Path, tmp_path: Path) -> None:
    """Whoever holds every key of the machine still cannot put others in force."""
    with Ledger.open(filled) as ledger:
        ledger.enrol(public(offline))
    with pytest.raises(IntegrityError) as caught:
        steal(filled)
    assert caught.value.code == "rotation-invalid"
    assert "rotation-forged" in [fault.kind for fault in audit(filled).faults]


def test_a_root_hands_over_to_another(filled: Path, offline: Path, tmp_path: Path) -> None:
    make_root(tmp_path / "next", "file")
    request, authorised = tmp_path / "request", tmp_path / "authorised"
    next_public = tmp_path / "next" / "root.pub"
    assert cli(filled, "root", "enrol", offline / "root.pub") == 0
    assert cli(filled, "root", "enrol", next_public) == 4
    assert cli(filled, "root", "enrol", next_public, "--request", request) == 0
    authorised.write_bytes(authorise(tmp_path / "next", request.read_bytes()))
    assert cli(filled, "root", "enrol", next_public, "--authorised", authorised) == 7
    authorised.write_bytes(authorise(offline, request.read_bytes()))
    assert cli(filled, "root", "enrol", next_public, "--authorised", authorised) == 0
    assert cli(filled, "rotate", "--request", request) == 0
    authorised.write_bytes(authorise(offline, request.read_bytes()))
    assert cli(filled, "rotate", "--authorised", authorised) == 7
    authorised.write_bytes(authorise(tmp_path / "next", request.read_bytes()))
    assert cli(filled, "rotate", "--authorised", authorised) == 0
    with Ledger.open(filled) as ledger:
        assert (ledger.history().roots, ledger.history().generation) == (2, 1)
        export(ledger, tmp_path / "out")
    assert audit(filled).ok
    assert run(tmp_path / "out").returncode == 0
    lines = [json.loads(x) for x in (tmp_path / "out" / "entries.ndjson").read_text().splitlines()]
    changed = 0
    for index, line in enumerate(lines):
        fields = json.loads(line["header"])
        for name in [n for n in fields["header"] if n.startswith(("by-root.", "root."))]:
            copy = tmp_path / "copy"
            shutil.copytree(tmp_path / "out", copy)
            value = fields["header"][name]
            bad = fields["header"] | {name: value[:-8] + value[-8:].swapcase()}
            edit(copy, index, header=json.dumps(fields | {"header": bad}))
            assert run(copy).returncode == 7, name
            shutil.rmtree(copy)
            changed += 1
    assert changed == 8


def test_a_root_signs_requests_and_nothing_else(offline: Path, tmp_path: Path) -> None:
    hidden = b"interlock/ledger/rotation/v1\n1\n\x1b[2K\rharmless\n"
    odd = b"interlock/ledger/rotation/v1\n\xff\n"
    for bad in (b"", b"pay 100", b"interlock/ledger/rotation/v2\n", b"x" * 100_000, hidden, odd):
        with pytest.raises(InputError) as caught:
            authorise(offline, bad)
        assert caught.value.code == "root-request"
    request = b"interlock/ledger/rotation/v1\n1\n"
    with pytest.raises(InterlockError) as missing:
        authorise(tmp_path / "none", request)
    assert missing.value.code == "root-missing"
    with pytest.raises(InterlockError) as there:
        make_root(offline, "file")
    assert there.value.code == "root-exists"
    good = authorise(offline, request)
    for bad in (None, b"", b"[]", b"{}", b'{"request": 1}', good.replace(b"v1", b"v2", 1)):
        with pytest.raises(InputError) as refused:
            by_root(bad, request)
        assert refused.value.code == "root-authorisation"
    assert set(by_root(good, request)) == {"by-root.ed25519", "by-root.ml-dsa-65"}


def test_a_root_is_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INTERLOCK_PASSPHRASE", raising=False)
    monkeypatch.delenv("INTERLOCK_PASSPHRASE_FILE", raising=False)
    folder = tmp_path / "root"
    assert main(["ledger", "root", "make", str(folder)]) == 5
    assert not folder.exists()
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "words")
    assert main(["ledger", "root", "make", str(folder)]) == 0
    assert not (folder / "kek").exists()


@pytest.mark.parametrize("text", ["", "ed25519:AAAA", "ed25519:AA\nml-dsa-65:!", "a:b\nc:d"])
def test_what_is_no_root_is_not_enrolled(filled: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "root.pub").write_text(text)
    assert cli(filled, "root", "enrol", tmp_path / "root.pub") == 4
    with Ledger.open(filled) as ledger:
        assert list(ledger.entries(ROOTED)) == []


def test_rotation_under_load_fails_no_read_and_no_write(home: Path) -> None:
    stop, failures = threading.Event(), []
    counts = {"reads": 0, "writes": 0}
    with Ledger.open(home) as ledger, Ledger.open(home) as other:
        first = ledger.append("a", {"n": -1}, {"n": -1}).wait()

        def write() -> None:
            while not stop.is_set():
                try:
                    other.append("a", {"n": 1}, {"n": 1}).wait()
                    other.checkpoint()
                    counts["writes"] += 1
                except InterlockError as error:
                    failures.append(error)

        def read() -> None:
            while not stop.is_set():
                try:
                    with Ledger.read(home) as reader:
                        assert reader.find(first.id).payload["n"] == -1
                        reader.check_note(reader.heads()[-1][1])
                    counts["reads"] += 1
                except InterlockError as error:
                    failures.append(error)

        threads = [threading.Thread(target=work) for work in (write, read)]
        for thread in threads:
            thread.start()
        for generation in range(1, 6):
            assert ledger.rotate() == generation
        while not failures and min(counts.values()) < 5:
            pass
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert ledger.verify().ok
