import json
import os
import struct
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.cli import main
from interlock.crypto.envelope import open_bytes, open_stream, seal_bytes, seal_stream
from interlock.crypto.kem import SUITES, KemPrivate, public_key, suite
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, IntegrityError, UsageError
from tests.vectors.crypto.hpke_reader import open_hpke

MIB = 1 << 20
SEED = bytes(range(32))
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB]


@pytest.fixture(params=sorted(SUITES))
def key(request: pytest.FixtureRequest) -> KemPrivate:
    return suite(request.param).private(SEED)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(key: KemPrivate, size: int) -> None:
    data = os.urandom(size)
    envelope = seal_bytes(data, key.public(), context="dataset/d1")
    assert open_bytes(envelope, key, context="dataset/d1") == data
    assert data[:64] not in envelope or size < 64


def second_reader(envelope: bytes, name: str, seed: bytes) -> tuple[dict[str, object], bytes]:
    """The format, read from its description, on HPKE rebuilt from its parts."""
    assert envelope[:8] == b"ILKENV1\n"
    (length,) = struct.unpack(">I", envelope[8:12])
    header = envelope[12 : 12 + length]
    at = 12 + length
    (wrapped,) = struct.unpack(">H", envelope[at : at + 2])
    info = b"interlock/envelope/v1\0" + header
    cipher = AESGCM(open_hpke(name, seed, envelope[at + 2 : at + 2 + wrapped], info))
    body, out = envelope[at + 2 + wrapped :], b""
    chunks = [body[i : i + MIB + 16] for i in range(0, len(body), MIB + 16)]
    for number, chunk in enumerate(chunks):
        nonce = bytes(7) + struct.pack(">I?", number, number == len(chunks) - 1)
        out += cipher.decrypt(nonce, chunk, None)
    return json.loads(header), out


@pytest.mark.parametrize("size", SIZES)
def test_a_second_reader_opens_it(key: KemPrivate, size: int) -> None:
    data = os.urandom(size)
    envelope = seal_bytes(data, key.public(), context="c")
    header, plain = second_reader(envelope, key.suite, SEED)
    assert plain == data
    assert header["context"] == "c"


def test_every_single_changed_byte_of_the_head_is_refused(key: KemPrivate) -> None:
    envelope = seal_bytes(b"counts", key.public(), context="result/j1")
    for at in range(len(envelope)):
        changed = bytearray(envelope)
        changed[at] ^= 1
        with pytest.raises((InputError, IntegrityError, UsageError)):
            open_bytes(bytes(changed), key, context="result/j1")


def test_cut_joined_and_reordered_pieces_are_refused(key: KemPrivate) -> None:
    envelope = seal_bytes(os.urandom(3 * MIB), key.public(), context="c")
    head = len(envelope) - 3 * (MIB + 16)
    pieces = [envelope[head + i * (MIB + 16) :][: MIB + 16] for i in range(3)]
    start = envelope[:head]
    for body in (
        pieces[:2],
        [pieces[0], pieces[2]],
        [pieces[1], pieces[0], pieces[2]],
        [pieces[0], pieces[0], pieces[1], pieces[2]],
        [*pieces, b"x"],
        [],
    ):
        with pytest.raises(IntegrityError):
            open_bytes(start + b"".join(body), key, context="c")
    for cut in range(0, head, 97):
        with pytest.raises((InputError, IntegrityError)):
            open_bytes(envelope[:cut], key, context="c")


def test_another_key_suite_or_context_is_refused() -> None:
    one, two = suite("x25519-mlkem768").private(SEED), suite("x25519-mlkem768").private(bytes(32))
    cnsa = suite("cnsa").private(SEED)
    envelope = seal_bytes(b"x", one.public(), context="result/j1")
    for key, context, code in (
        (two, "result/j1", "envelope-recipient"),
        (cnsa, "result/j1", "envelope-recipient"),
        (one, "result/j2", "envelope-context"),
    ):
        with pytest.raises(IntegrityError) as caught:
            open_bytes(envelope, key, context=context)
        assert caught.value.code == code
    forged = envelope.replace(b"result/j1", b"result/j2")
    with pytest.raises(IntegrityError):
        open_bytes(forged, one, context="result/j2")


def test_a_file_on_the_disk_holds_no_plaintext(tmp_path: Path) -> None:
    key = KeyStore(tmp_path / "keys").kem_key("data", "x25519-mlkem768")
    canary = b"CANARY-55aa-molecule"
    with (tmp_path / "data.env").open("wb") as out:
        seal_stream(BytesIO(canary * 100_000), out, key.public(), context="dataset/d")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert canary not in path.read_bytes()
    again = KeyStore(tmp_path / "keys").kem_key("data", "x25519-mlkem768")
    with (tmp_path / "data.env").open("rb") as source:
        plain = b"".join(open_stream(source, again, context="dataset/d"))
    assert plain == canary * 100_000


KINDS = {
    "circuit/bell": b"OPENQASM 3.0; // CANARY-circuit-7f\nqubit[2] q; h q[0]; cx q[0], q[1];\n",
    "result/job-17": b'{"counts": {"00": 498, "11": 526}, "note": "CANARY-result-7f"}',
    "dataset/patients": b"id,value\n" + b"CANARY-dataset-7f,1\n" * 60_000,
}


@pytest.mark.parametrize("name", sorted(SUITES))
def test_circuits_results_and_datasets_leave_no_plaintext_on_the_disk(
    tmp_path: Path, name: str
) -> None:
    kept, away = tmp_path / "kept", tmp_path / "away"
    kept.mkdir()
    away.mkdir()
    home = ["--home", str(kept / "home")]
    assert main(["envelope", "key", "--suite", name, *home]) == 0
    for context, plain in KINDS.items():
        source, sealed = away / "plain", kept / context.replace("/", "-")
        source.write_bytes(plain)
        seal = ["envelope", "seal", str(source), str(sealed), "--context", context]
        assert main([*seal, "--suite", name, *home]) == 0
    found = [path for path in kept.rglob("*") if path.is_file()]
    assert len(found) > len(KINDS)
    for path in found:
        assert b"CANARY" not in path.read_bytes()
    for context, plain in KINDS.items():
        opened, sealed = away / "opened", kept / context.replace("/", "-")
        args = ["envelope", "open", str(sealed), str(opened), *home, "--context"]
        for other in KINDS.keys() - {context}:
            assert main([*args, other]) == 7
            assert not opened.exists()
        assert main([*args, context]) == 0
        assert opened.read_bytes() == plain
        opened.unlink()


def test_keys_and_suites_that_are_not_known_are_refused() -> None:
    with pytest.raises(UsageError):
        suite("rot13")
    with pytest.raises(InputError):
        public_key("cnsa", b"short")
    raw = suite("cnsa").private(SEED).public_bytes
    assert public_key("cnsa", raw).public_bytes == raw


@pytest.mark.parametrize("name", sorted(SUITES))
def test_the_commands_seal_and_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    home, other = ["--home", str(tmp_path / "h")], ["--home", str(tmp_path / "o")]
    suite_option = ["--suite", name]
    assert main(["envelope", "key", *home, *suite_option]) == 0
    (tmp_path / "to").write_text(capsys.readouterr().out)
    plain, sealed, opened = tmp_path / "plain", tmp_path / "sealed", tmp_path / "opened"
    plain.write_bytes(os.urandom(3 * MIB + 5))
    to = ["--to", str(tmp_path / "to")]
    what = ["--context", "dataset/d"]
    assert main(["envelope", "seal", str(plain), str(sealed), *to, *what, *other]) == 0
    args = ["envelope", "open", str(sealed)]
    assert main([*args, str(opened), *what, *home, *suite_option]) == 0
    assert opened.read_bytes() == plain.read_bytes()
    assert opened.stat().st_mode & 0o077 == 0
    assert main([*args, str(opened), *what, *home, *suite_option]) == 2
    assert main([*args, str(tmp_path / "x"), *what, *other, *suite_option]) == 7
    sealed.write_bytes(sealed.read_bytes()[:-100])
    assert main([*args, str(tmp_path / "x"), *what, *home, *suite_option]) == 7
    assert not (tmp_path / "x").exists()
    assert main(["envelope", "seal", "/nonexistent", str(tmp_path / "y"), *what, *home]) == 6
    (tmp_path / "to").write_text("cnsa:AAAA")
    assert main(["envelope", "seal", str(plain), str(tmp_path / "y"), *to, *what]) == 4
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted(
        ["opened", "plain", "sealed", "to"]
    )


def test_a_suite_asked_for_is_never_lowered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path / "h")]
    assert main(["envelope", "key", *home]) == 0
    (tmp_path / "to").write_text(capsys.readouterr().out)
    (tmp_path / "plain").write_bytes(b"x")
    seal = ["envelope", "seal", str(tmp_path / "plain"), str(tmp_path / "out"), "--context", "c"]
    to = ["--to", str(tmp_path / "to")]
    assert main([*seal, *to, "--suite", "cnsa"]) == 2
    assert "envelope-suite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*seal, *to, "--suite", "x25519-mlkem768"]) == 0
