"""Bad input, by the commands a person types: refused, said why, nothing overwritten."""

import base64
import json
import os
import shutil
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.crypto import kek
from interlock.crypto.keys import KeyStore
from interlock.errors import BackendError, InputError, IntegrityError, InterlockError
from interlock.ledger import Ledger
from tests.unit.ledger.test_witness import keys_of, witness  # noqa: F401 (a fixture)

Capture = pytest.CaptureFixture[str]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(capsys: Capture, *words: str, codes: tuple[str, ...]) -> str:
    """Run a command that must be refused with one of the codes; return what it said."""
    capsys.readouterr()
    exit_code = main(list(words))
    said = capsys.readouterr()
    text = said.out + said.err
    assert exit_code in (2, 4, 5, 6, 7, 8), text
    assert "Traceback" not in text
    assert any(code in text for code in codes), text
    return text


def test_a_wrong_passphrase(filled: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kek, "SCRYPT_N", 1 << 12)
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "right")
    assert main(["keys", "keep", "passphrase", "--home", str(filled)]) == 0
    before = snapshot(filled)
    for wrong in ("wrong", "right ", ""):
        monkeypatch.setenv("INTERLOCK_PASSPHRASE", wrong)
        for words in (["ledger", "rotate"], ["keys", "rotate"], ["ledger", "prove", "0-a"]):
            refused(capsys, *words, "--home", str(filled), codes=("key-passphrase",))
    assert snapshot(filled) == before
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "right")
    assert main(["ledger", "head", "--home", str(filled)]) == 0


@pytest.mark.parametrize(
    ("path", "mode"), [("keys", 0o755), ("keys/kek", 0o604), ("keys/log-ed25519.key", 0o640)]
)
def test_keys_that_others_can_read(filled: Path, capsys: Capture, path: str, mode: int) -> None:
    before = snapshot(filled)
    (filled / path).chmod(mode)
    text = refused(capsys, "ledger", "rotate", "--home", str(filled), codes=("key-permissions",))
    assert f"{mode:04o}" in text
    assert "chmod" in text
    assert snapshot(filled) == before


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def database(home: Path, sql: str) -> None:
    connection = sqlite3.connect(home / "ledger.db")
    connection.executescript(sql)
    connection.close()


FORMATS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "ledger of the future": (
        lambda home: database(home, "UPDATE meta SET value = '2' WHERE name = 'format'"),
        ("ledger-version",),
    ),
    "ledger without a version": (
        lambda home: database(home, "DELETE FROM meta WHERE name = 'format'"),
        ("ledger-version",),
    ),
    "another program's database": (
        lambda home: database(home, "DROP TABLE entries; DROP TABLE meta; DROP TABLE checkpoints"),
        ("ledger-corrupt", "ledger-truncated"),
    ),
    "no database": (
        lambda home: (home / "ledger.db").write_bytes(b"%PDF-1.7" + bytes(5000)) and None,  # type: ignore[func-returns-value]
        ("ledger-corrupt",),
    ),
    "a key of the future": (
        lambda home: rewrite(home / "keys" / "log-ed25519.key", version=2),
        ("key-format",),
    ),
    "a keeper of the future": (
        lambda home: _keeper(home / "keys" / "kek.json"),
        ("key-provider",),
    ),
    "a key file that is none": (
        lambda home: (home / "keys" / "log-ed25519.key").write_bytes(b"\xff\x00") and None,  # type: ignore[func-returns-value]
        ("key-format",),
    ),
    "public keys that are none": (
        lambda home: (home / "ledger.vkeys").write_bytes(b"\xff\xfe") and None,  # type: ignore[func-returns-value]
        ("ledger-vkeys",),
    ),
}


def _keeper(path: Path) -> None:
    path.write_text('{"provider": "cloud-of-2040"}')
    path.chmod(0o600)


@pytest.mark.parametrize("name", FORMATS)
def test_a_foreign_or_future_format(filled: Path, capsys: Capture, name: str) -> None:
    change, codes = FORMATS[name]
    change(filled)
    before = snapshot(filled)
    for words in (
        ["ledger", "rotate"],
        ["ledger", "prove", "0-aaaaaaaaaa"],
        ["erase", "a", "--yes"],
    ):
        refused(capsys, *words, "--home", str(filled), codes=codes)
    after = snapshot(filled)
    kept = [p for p in before if not p.endswith(("-wal", "-shm", ".lock"))]
    assert {p: after[p] for p in kept} == {p: before[p] for p in kept}


def test_an_envelope_of_the_future_and_one_that_is_none(
    filled: Path, tmp_path: Path, capsys: Capture
) -> None:
    home = ["--home", str(filled)]
    source, sealed, out = (tmp_path / name for name in ("plain", "sealed", "out"))
    source.write_bytes(b"counts")
    words = ["envelope", "seal", str(source), str(sealed), "--context", "c", *home]
    assert main(words) == 0
    good = sealed.read_bytes()
    cases = (
        good.replace(b"ILKENV1", b"ILKENV2", 1),
        good.replace(b'"v":1', b'"v":2', 1),
        good[:40],
        b"",
        b"%PDF-1.7",
    )
    for bad in cases:
        sealed.write_bytes(bad)
        refused(
            capsys, "envelope", "open", str(sealed), str(out), "--context", "c", *home,
            codes=("envelope-format",),
        )  # fmt: skip
        assert not out.exists()
        assert sealed.read_bytes() == bad
    sealed.write_bytes(good)
    out.write_bytes(b"kept")
    assert main(["envelope", "open", str(sealed), str(out), "--context", "c", *home]) != 0
    assert out.read_bytes() == b"kept"


def test_signed_weights_of_the_future(tmp_path: Path, capsys: Capture) -> None:
    from interlock.crypto import dsse

    numpy = pytest.importorskip("numpy")
    save = pytest.importorskip("safetensors.numpy").save_file
    model, home = tmp_path / "model", tmp_path / "home"
    model.mkdir()
    save({"w": numpy.zeros(3, numpy.float32)}, model / "m.safetensors")
    sign = ["weights", "sign", str(model), "--name", "m", "--version", "1", "--home", str(home)]
    assert main(sign) == 0
    path = model / "interlock.sig.json"
    envelope = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["interlock"]["v"] = 2
    signer = dsse.ArtefactSigner(KeyStore(home / "keys"))
    body = json.dumps(statement).encode()
    path.write_text(dsse.sign("application/vnd.in-toto+json", body, signer))
    before = snapshot(tmp_path)
    verify = ["weights", "verify", str(model), "--home", str(home)]
    assert "another version" in refused(capsys, *verify, codes=("weights-",))
    path.write_text("not an envelope")
    refused(capsys, *verify, codes=("dsse-", "weights-"))
    assert snapshot(tmp_path).keys() == before.keys()


def test_a_proof_for_another_tree(filled: Path, tmp_path: Path, capsys: Capture) -> None:
    with Ledger.open(tmp_path / "other") as other:
        for n in range(20):
            other.append("admit", {"job": f"j{n}"}, {"n": n}).wait()
        strange = str(other.prove(3))
    with Ledger.open(filled) as ledger:
        mine = str(ledger.prove(3))
        early = str(ledger.prove(4))
    keys = ["--keys", str(filled / "ledger.vkeys")]
    path = tmp_path / "p.tlog-proof"
    head, _, note = mine.partition("\n\n")
    cases = {
        "another ledger's": strange,
        "another entry's": early.replace("index 4", "index 3"),
        "another tree's head": head + "\n\n" + strange.partition("\n\n")[2],
        "of the future": mine.replace("tlog-proof@v1", "tlog-proof@v2"),
        "an index of nothing": mine.replace("index 3", "index 999999999"),
        "no number": mine.replace("index 3", "index -1"),
        "cut": mine[: len(mine) // 2],
        "none": "hello",
        "no head": head,
    }
    path.write_text(mine)
    assert main(["ledger", "verify", str(path), *keys]) == 0
    assert note
    for name, text in cases.items():
        assert text != mine, name
        path.write_text(text)
        refused(capsys, "ledger", "verify", str(path), *keys, codes=("proof", "note", "checkpoint"))
    path.write_bytes(b"\xff\xfe\x00")
    refused(capsys, "ledger", "verify", str(path), *keys, codes=("proof", "note", "storage"))


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_ten_years_off(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, years: int
) -> None:
    import time

    real, off = time.time_ns, years * 31_557_600 * 1_000_000_000
    with Ledger.open(filled, clock=lambda: real() + off) as ledger:
        with pytest.raises(IntegrityError) as caught:
            ledger.append("a", {}, {"x": 1}).wait()
        assert caught.value.code == "clock-wrong"
        assert caught.value.fix
        with pytest.raises(IntegrityError):
            ledger.rotate()
        assert len(ledger) == 20
    with Ledger.open(filled) as ledger:
        assert ledger.verify().ok
        assert ledger.append("a", {}, {}).wait().index == 20


class Liar(socketserver.StreamRequestHandler):
    """Answers whatever `script` says, as raw bytes."""

    script: list[bytes] = []
    endless = b""

    def handle(self) -> None:
        length = 0
        while line := self.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        try:
            self.wfile.write(self.script[0])
            while self.endless:
                self.wfile.write(self.endless)
        except OSError:
            return  # the caller has had enough


@contextmanager
def lying(script: bytes, endless: bytes) -> Iterator[str]:
    handler = type("L", (Liar,), {"script": [script], "endless": endless})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("answer", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 409 Conflict\r\n\r\n", b"9" * 65536),
        (b"HTTP/1.1 500 No\r\n\r\n", b"\xff" * 65536),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", b""),
        (b"HTTP/1.1 409 Conflict\r\nContent-Length: 99\r\n\r\n1", b""),
        (b"HTTP/9.9 \xff\r\n\r\n", b""),
        (b"", b""),
        (b"\x00" * 100_000, b""),
    ],
)
def test_a_witness_that_lies_in_other_ways(
    ledger: Ledger,
    witness: object,  # noqa: F811
    answer: bytes,
    endless: bytes,
) -> None:
    ledger.append("a", {}, {}).wait()
    before = ledger.checkpoint()
    with lying(answer, endless) as url, pytest.raises((BackendError, IntegrityError)) as caught:
        ledger.cosign(url, keys_of(witness), timeout_s=2.0)  # type: ignore[arg-type]
    assert caught.value.code.startswith("witness-")
    assert isinstance(caught.value, InterlockError)
    assert ledger.checkpoint() == before


def test_a_copied_home_with_foreign_keys_changes_nothing(
    filled: Path, tmp_path: Path, capsys: Capture
) -> None:
    Ledger.open(tmp_path / "other").close()
    mixed = tmp_path / "mixed"
    shutil.copytree(filled, mixed)
    shutil.rmtree(mixed / "keys")
    shutil.copytree(tmp_path / "other" / "keys", mixed / "keys")
    os.chmod(mixed / "keys", 0o700)  # noqa: PTH101
    before = snapshot(mixed)
    refused(
        capsys, "ledger", "rotate", "--home", str(mixed), codes=("ledger-vkeys", "ledger-swapped")
    )
    assert snapshot(mixed) == before


def test_what_a_ledger_from_elsewhere_says_steers_no_terminal(
    filled: Path, capsys: Capture, tamper: Callable[[Path, str], None]
) -> None:
    hostile = "x" + chr(27) + "[2J" + chr(10) + "OK: no change found"
    tamper(filled, f"UPDATE meta SET value = '{hostile}' WHERE name = 'origin'")
    assert main(["verify", "--home", str(filled)]) == 7
    shown = capsys.readouterr().out
    assert chr(27) not in shown
    assert "OK: no change found" not in shown.splitlines()
    assert "got:      x?[2J?OK" in shown


def test_an_error_steers_no_terminal() -> None:
    text = InputError("m", code="c", got=chr(27) + "]0;x" + chr(7) + chr(0x202E)).diagnostics()
    assert text.splitlines()[1] == "  got:      ?]0;x??"
