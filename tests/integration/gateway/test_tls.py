"""A real server and real clients on loopback: who gets in, and with which key agreement."""

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from interlock.crypto.certs import Authority, expires
from interlock.crypto.tls import HybridContext, connect
from interlock.errors import IntegrityError, InterlockError

BODY = b"x" * 200_000


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    length = str(len(BODY)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": BODY})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "certs")


@contextlib.contextmanager
def serving(authority: Authority, loop: str = "asyncio", **options: Any) -> Iterator[Any]:
    seen: list[tuple[str, str]] = []
    kinds = ("ml-dsa-65", "ecdsa-p256")
    pairs = tuple(authority.issue("gw", kind=k, hosts=["localhost", "127.0.0.1"]) for k in kinds)
    context = HybridContext(pairs, on_handshake=lambda g, c: seen.append((g, c)), **options)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, loop=loop, lifespan="off", log_level="critical",
        ssl_context_factory=lambda _c, _d: context,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1], seen
    finally:
        server.should_exit = True
        thread.join(10)


def exchange(sock: Any, rounds: int = 5) -> None:
    client = http.client.HTTPConnection("gateway")
    client.sock = sock
    for _ in range(rounds):
        client.request("POST", "/", body=b"y" * 150_000)
        assert client.getresponse().read() == BODY
    sock.close()


def classical(port: int) -> bytes:
    """The standard library's TLS, which has no ML-KEM."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    with contextlib.closing(context.wrap_socket(raw)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return sock.recv(16)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_default_is_hybrid_and_the_group_is_known_to_both(
    authority: Authority, loop: str
) -> None:
    with serving(authority, loop) as (port, seen):
        for host in ("localhost", "127.0.0.1"):
            sock = connect(host, port, authority=authority.bundle_file())
            assert sock.group == "X25519MLKEM768"
            exchange(sock)
        assert seen == [("X25519MLKEM768", "")] * 2


def test_a_classical_client_gets_nothing_unless_allowed(authority: Authority) -> None:
    with serving(authority) as (port, seen):
        with contextlib.suppress(OSError):
            assert classical(port) == b""
        assert seen == [("refused:x25519", "")]
    with serving(authority, allow_classical=True) as (port, seen):
        assert classical(port).startswith(b"HTTP/1.1 200")
        assert seen == [("x25519", "")]


def test_mutual_tls_names_the_workload_and_refuses_strangers(
    authority: Authority, tmp_path: Path
) -> None:
    known = authority.issue("trainer", workload="north/service/trainer")
    forger = Authority(tmp_path / "other")
    forged = forger.issue("trainer", workload="north/service/trainer")
    old = authority.issue("late", workload="north/service/late", days=-0.001)
    options = {"client_authority": authority.bundle_file(), "require_client": True}
    with serving(authority, **options) as (port, seen):
        exchange(connect("localhost", port, authority=authority.bundle_file(), certificate=known))
        assert seen == [("X25519MLKEM768", "spiffe://interlock/north/service/trainer")]
        for certificate in (None, forged, old):
            with pytest.raises((InterlockError, OSError, http.client.HTTPException)):
                exchange(
                    connect(
                        "localhost", port, authority=authority.bundle_file(),
                        certificate=certificate,
                    )
                )  # fmt: skip
        assert len(seen) == 1


def test_the_client_refuses_a_wrong_authority_or_name(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "o").bundle_file()
    with serving(authority) as (port, _), pytest.raises(IntegrityError, match="cannot be trusted"):
        connect("localhost", port, authority=other)
    pairs = (authority.issue("elsewhere", hosts=["elsewhere.example"]),)
    context = HybridContext(pairs)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_level="critical",
                            ssl_context_factory=lambda _c, _d: context)  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with pytest.raises(IntegrityError) as caught:
        connect("127.0.0.1", listener.getsockname()[1], authority=authority.bundle_file())
    assert caught.value.got is not None
    assert "elsewhere.example" in caught.value.got
    server.should_exit = True
    thread.join(10)


def test_rotation_replaces_the_pair_and_keeps_the_authority(authority: Authority) -> None:
    first = authority.issue("svc", workload="a/service/b", days=1)
    before, ca = first.chain.read_bytes(), authority.bundle_file().read_bytes()
    ends = expires(first)
    second = authority.issue("svc", workload="a/service/b", days=2)
    assert second.chain.read_bytes() != before
    assert expires(second) > ends
    assert authority.bundle_file().read_bytes() == ca
    assert second.key.stat().st_mode & 0o077 == 0


def test_what_is_about_to_end_is_issued_anew_with_its_names(tmp_path: Path) -> None:
    from cryptography import x509

    mine = Authority(tmp_path / "certs")
    old = mine.issue("gw", hosts=["localhost", "127.0.0.1"], workload="a/service/gw", days=3)
    fresh = mine.issue("new", hosts=["localhost"], days=3)
    before, kept = old.chain.read_bytes(), fresh.chain.read_bytes()
    assert mine.rotate() == []
    assert [f.chain.name for f in mine.rotate(left=1.0)] == [
        "gw-ml-dsa-65.pem",
        "new-ml-dsa-65.pem",
    ]
    assert old.chain.read_bytes() != before
    assert fresh.chain.read_bytes() != kept
    extension = x509.SubjectAlternativeName
    names = [
        x509.load_pem_x509_certificate(data).extensions.get_extension_for_class(extension).value
        for data in (before, old.chain.read_bytes())
    ]
    assert names[0] == names[1]


def test_a_server_takes_up_renewed_certificates_for_new_connections(tmp_path: Path) -> None:
    mine = Authority(tmp_path / "certs")
    pair = mine.issue("gw", hosts=["localhost"], days=1)
    context = HybridContext((pair,))
    first = context.inner
    assert not context.renew()
    other = mine.issue("other", hosts=["localhost"])
    pair.key.write_bytes(other.key.read_bytes())  # half of a pair
    assert not context.renew()
    assert context.inner is first
    mine.issue("gw", hosts=["localhost"], days=2)
    assert context.renew()
    assert context.inner is not first


def test_openssl_without_ml_kem_is_refused(authority: Authority) -> None:
    with serving(authority) as (port, seen):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-groups", "X25519:P-256",
             "-quiet"],
            input=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", capture_output=True, timeout=60,
        )  # fmt: skip
        assert b"HTTP/1.1" not in done.stdout
        assert seen == [("refused:x25519", "")]
