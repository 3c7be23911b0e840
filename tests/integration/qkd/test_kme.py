import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.crypto.qkd.client import QkdClient, QkdKey
from interlock.crypto.qkd.update import combine, mac, open_update, seal_update
from interlock.errors import BackendError, InputError, IntegrityError, SetupError
from tests.integration.qkd.conftest import Authority, Kme

pytestmark = pytest.mark.enable_socket


def test_both_ends_get_the_same_keys_once(kme: Kme) -> None:
    alice, bob, carol = (kme.client(f"sae-{n}") for n in ("alice", "bob", "carol"))
    assert alice.status("sae-bob")["stored_key_count"] == 300
    keys = alice.enc_keys("sae-bob", number=3)
    ids = [key.id for key in keys]
    assert alice.status("sae-bob")["stored_key_count"] == 297
    with pytest.raises(BackendError):
        carol.dec_keys("sae-alice", ids)
    assert bob.dec_keys("sae-alice", ids) == keys
    with pytest.raises(BackendError) as caught:
        bob.dec_keys("sae-alice", ids)
    assert caught.value.code == "qkd-refused"
    assert "key" not in repr(keys[0]).replace("QkdKey", "").replace(keys[0].id, "")


def test_wrong_requests_are_refused(kme: Kme) -> None:
    alice = kme.client("sae-alice")
    for number, size in ((0, 256), (129, 256), (1, 8), (1, 2048), (1, 255)):
        with pytest.raises(BackendError) as caught:
            alice.enc_keys("sae-bob", number=number, size=size)
        assert "400" in (caught.value.got or "")
    with pytest.raises(BackendError):
        alice.status("sae-nobody")
    with pytest.raises(BackendError):
        alice.status("../../etc/passwd")
    for _ in range(2):
        alice.enc_keys("sae-bob", number=128)
    with pytest.raises(BackendError) as caught:
        alice.enc_keys("sae-bob", number=128)
    assert "503" in (caught.value.got or "")


def test_who_has_no_right_certificate_gets_nothing(kme: Kme, tmp_path: Path) -> None:
    stranger = kme.client("sae-alice", Authority(tmp_path / "other"))
    with pytest.raises(BackendError):
        stranger.status("sae-bob")
    with pytest.raises(BackendError) as caught:
        kme.client("sae-mallory").enc_keys("sae-bob")
    assert "401" in (caught.value.got or "")
    certificate = kme.authority.member("sae-alice")
    key = certificate.with_suffix(".key")
    key.chmod(0o644)
    with pytest.raises(SetupError) as readable:
        QkdClient(kme.url, certificate=certificate, private_key=key, authority=kme.authority.path)
    assert readable.value.code == "key-permissions"
    with pytest.raises(InputError):
        QkdClient(
            kme.url.replace("https", "http"),
            certificate=kme.authority.path,
            private_key=kme.authority.path,
            authority=kme.authority.path,
        )


def test_the_conformance_probe_passes(kme: Kme, tmp_path: Path) -> None:
    """The probe asks with one certificate for both ends, so the SAE is its own slave here."""
    certificate = kme.authority.member("sae-alice")
    report = tmp_path / "report.json"
    command = [str(Path(sys.executable).with_name("qkdsec"))]
    if not Path(command[0]).exists():
        command = [sys.executable, "-c", "from qkdsec._cli import app; app()"]
    command += ["doctor", kme.url, "--slave-sae-id", "sae-alice", "--cert", str(certificate)]
    command += ["--key", str(certificate.with_suffix(".key")), "--format", "json"]
    command += ["--ca-cert", str(kme.authority.path), "--output", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert report.exists(), done.stdout + done.stderr
    document = json.loads(report.read_text())
    probes = document.get("probes") or document.get("results")
    assert [p["name"] for p in probes if p["status"] != "pass"] == []
    assert len(probes) >= 10


@pytest.fixture
def signer(tmp_path: Path) -> ArtefactSigner:
    return ArtefactSigner(KeyStore(tmp_path / "keys"))


def test_an_update_is_signed_and_authenticated(kme: Kme, signer: ArtefactSigner) -> None:
    alice, bob = kme.client("sae-alice"), kme.client("sae-bob")
    data = bytes(range(256)) * 1000

    def sealed() -> str:
        return seal_update(data, {"step": 7}, signer, kme=alice, slave="sae-bob", policy="required")

    opened = open_update(
        data, sealed(), signer.public, kme=bob, master="sae-alice", policy="required"
    )
    assert (opened.header, opened.qkd) == ({"step": 7}, "verified")
    for changed in (data[:-1], data[:-1] + b"x", b""):
        with pytest.raises(IntegrityError):
            open_update(
                changed, sealed(), signer.public, kme=bob, master="sae-alice", policy="optional"
            )
    replayed = sealed()
    open_update(data, replayed, signer.public, kme=bob, master="sae-alice", policy="required")
    with pytest.raises(BackendError) as caught:
        open_update(data, replayed, signer.public, kme=bob, master="sae-alice", policy="required")
    assert caught.value.code == "qkd-required"


def test_a_kme_that_is_down_never_lowers_the_policy(
    kme: Kme, tmp_path: Path, signer: ArtefactSigner
) -> None:
    path = kme.authority.member("sae-alice")
    down = QkdClient(
        "https://127.0.0.1:9",
        certificate=path,
        private_key=path.with_suffix(".key"),
        authority=kme.authority.path,
        timeout_s=1,
    )
    for client in (down, None):
        with pytest.raises(BackendError) as caught:
            seal_update(b"x", {}, signer, kme=client, slave="sae-bob", policy="required")
        assert caught.value.code == "qkd-required"
    without = seal_update(b"x", {}, signer, kme=down, slave="sae-bob", policy="optional")
    bob = kme.client("sae-bob")
    opened = open_update(
        b"x", without, signer.public, kme=bob, master="sae-alice", policy="optional"
    )
    assert opened.qkd.startswith("absent: qkd-unreachable")
    with pytest.raises(BackendError):
        open_update(b"x", without, signer.public, kme=bob, master="sae-alice", policy="required")
    sent = seal_update(
        b"x", {}, signer, kme=kme.client("sae-alice"), slave="sae-bob", policy="optional"
    )
    opened = open_update(b"x", sent, signer.public, kme=down, master="sae-alice", policy="optional")
    assert opened.qkd.startswith("unchecked: qkd-unreachable")
    with pytest.raises(BackendError):
        open_update(b"x", sent, signer.public, kme=down, master="sae-alice", policy="required")


def test_a_mac_is_bound_to_header_length_and_bytes() -> None:
    key = QkdKey("k", bytes(range(32)))
    tags = {
        mac(key, header, data)
        for header, data in ((b"a", b"bc"), (b"ab", b"c"), (b"", b"abc"), (b"abc", b""))
    }
    assert len(tags) == 4
    with pytest.raises(InputError):
        mac(QkdKey("k", bytes(16)), b"", b"")


def test_the_combiner_needs_every_part() -> None:
    def made(a: bytes, b: bytes, c: bytes, key_id: str = "k", who: bytes = b"x") -> bytes:
        return combine(a, b, QkdKey(key_id, c), context={"sae": who}, suite="s")

    one = made(b"1" * 32, b"2" * 32, b"3" * 32)
    others = [
        made(b"0" * 32, b"2" * 32, b"3" * 32),
        made(b"1" * 32, b"0" * 32, b"3" * 32),
        made(b"1" * 32, b"2" * 32, b"0" * 32),
        made(b"1" * 32, b"2" * 32, b"3" * 32, key_id="l"),
        made(b"1" * 32, b"2" * 32, b"3" * 32, who=b"y"),
        made(b"1" * 32 + b"2", b"2" * 31, b"3" * 32),
    ]
    assert len({one, *others}) == 7


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_kme_that_drips_is_given_up(kme: Kme, part: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    path = kme.authority.member("localhost")
    context.load_cert_chain(path, path.with_suffix(".key"))
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            raw, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as one:
                one.recv(4096)
                one.sendall(b"HTTP/1.1 200 OK\r\n")
                if part == "body":
                    one.sendall(b"Content-Length: 100000\r\n\r\n")
                while not stop.wait(0.05):
                    one.sendall(b"X")

        server = threading.Thread(target=drip)
        server.start()
        slow = QkdClient(
            f"https://127.0.0.1:{listener.getsockname()[1]}",
            certificate=path,
            private_key=path.with_suffix(".key"),
            authority=kme.authority.path,
            timeout_s=0.5,
        )
        try:
            with pytest.raises(BackendError, match="reached") as caught:
                slow.status("sae-bob")
            assert caught.value.code == "qkd-unreachable"
            assert "no whole answer" in (caught.value.got or "")
        finally:
            stop.set()
            server.join()


def test_an_answer_nested_without_end_is_no_answer(
    kme: Kme, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = b"[" * 200_000
    monkeypatch.setattr(QkdClient, "_exchange", lambda *_: (200, deep))
    with pytest.raises(BackendError) as caught:
        kme.client("sae-alice").status("sae-bob")
    assert caught.value.code == "qkd-answer"
