"""`interlock serve` as its own process: REST and gRPC over TLS, seen from outside."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from interlock.access import keys
from interlock.access.store import store_of
from interlock.crypto.certs import Authority
from interlock.gateway import serve
from interlock.gateway.serve import SHARES
from interlock.guard.remote import RemoteGuard
from interlock.ledger import Ledger
from interlock.types import Principal
from tests.integration.gateway.kit import bell, policy
from tests.integration.gateway.rpc import Rpc, submission

REQUEST = b"GET / HTTP/1.1\r\nhost: gw\r\n\r\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Served:
    home: Path
    rest: int
    grpc: int
    authority: Authority
    process: subprocess.Popen[bytes]

    def key(self, name: str, tenant: str = "north") -> str:
        who = Principal(id=name, tenant=tenant)
        return keys.issue(store_of(self.home), who, lifetime_s=600)[1]

    def remote(self, name: str = "ada", **more: Any) -> RemoteGuard:
        return RemoteGuard(f"https://localhost:{self.rest}", token=self.key(name),
                           ca=self.authority.bundle_file(), **more)  # fmt: skip

    def rpc(self, pair: Any = None) -> Rpc:
        ca = self.authority.ca_file("ecdsa-p256").read_bytes()
        key = (pair.key.read_bytes(), pair.chain.read_bytes()) if pair else (None, None)
        return Rpc(f"localhost:{self.grpc}", grpc.ssl_channel_credentials(ca, *key))


@contextlib.contextmanager
def served(home: Path, *options: str, document: Any = None) -> Iterator[Served]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "p.yaml").write_text(json.dumps(document or policy()))
    authority = Authority(home / "certs")
    for kind in ("ml-dsa-65", "ecdsa-p256"):
        authority.issue("gw", kind=kind, hosts=["localhost", "127.0.0.1"])
    rest, rpc = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "serve", "--home", str(home), "--host",
         "127.0.0.1", "--port", str(rest), "--grpc-port", str(rpc), "--cert", "gw", "--policy",
         str(home / "p.yaml"), "--client-ca", str(authority.bundle_file()), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        for port in (rest, rpc):
            while process.poll() is None:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.05)
        assert process.poll() is None
        yield Served(home, rest, rpc, authority, process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("serve") / "home") as made:
        yield made


def test_both_interfaces_speak_hybrid_tls_and_share_one_queue(gateway: Served) -> None:
    key = gateway.key("ada")
    rpc = gateway.rpc()
    made = rpc("Submit", submission(bell(20), idempotency_key="tls"), key)
    status, again = gateway.remote().request(
        "POST", "/v1/jobs", json.dumps(bell(20)).encode(), {"idempotency-key": "tls"}
    )
    assert (status, again["id"]) == (200, made["id"])
    assert rpc("GetResult", {"id": made["id"], "wait": 20.0}, key)["outcome"]["outcome"] == (
        "RELEASE"
    )


def test_a_workload_is_known_by_its_certificate(gateway: Served) -> None:
    pair = gateway.authority.issue("lea", kind="ecdsa-p256", workload="north/service/lea")
    assert gateway.rpc(pair)("GetTenant")["name"] == "north"
    assert gateway.rpc().fails("GetTenant") == ("UNAUTHENTICATED", "unauthenticated")


def test_a_classical_grpc_client_is_refused(gateway: Served) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", gateway.grpc), timeout=5)
    with contextlib.suppress(OSError), contextlib.closing(context.wrap_socket(raw)) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert sock.recv(16) == b""


def test_handshakes_that_never_begin_shut_out_nobody(gateway: Served) -> None:
    for port in (gateway.rest, gateway.grpc):
        with contextlib.ExitStack() as stack:
            half = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                for _ in range(SHARES["share"] + 20)
            ]
            assert all(ended(sock) for sock in half[:20])
            if port == gateway.rest:
                gateway.remote().request("GET", "/v1/tenant")
            else:
                gateway.rpc()("Health")


def ended(sock: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        return sock.recv(1) == b""
    return True


def test_a_connection_without_a_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    monkeypatch.setattr(serve, "HEAD_S", 0.2)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)  # an answer may take longer than that
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=serve._protocol(False), lifespan="off", log_config=None)
    server = serve._server(config, socket.socket(), None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = listener.getsockname()
            for sent, answer in ((b"", b""), (b"GET / HT", b""), (REQUEST, b"HTTP/1.1 204")):
                with socket.create_connection(address, timeout=20) as sock:
                    sock.sendall(sent)
                    with contextlib.suppress(ConnectionError):
                        assert sock.recv(12) == answer
        finally:
            server.should_exit = True
            thread.join(20)


def test_the_inner_socket_of_grpc_takes_nobody_by_itself(gateway: Served) -> None:
    (inner,) = (gateway.home / "run").glob("grpc-*.sock")
    direct = Rpc(f"unix:{inner}")
    assert direct.fails("GetTenant", {}, gateway.key("ada")) == (
        "UNAUTHENTICATED",
        "unauthenticated",
    )


def test_the_ledger_has_the_group_of_every_handshake(tmp_path: Path) -> None:
    with served(tmp_path / "home") as made:
        made.rpc()("Health")
        made.remote().request("GET", "/v1/tenant")
        test_a_classical_grpc_client_is_refused(made)
    with Ledger.open(made.home) as ledger:
        groups = [str(e.header["group"]) for e in ledger.entries("tls")]
    assert groups.count("X25519MLKEM768") >= 2
    assert "refused:x25519" in groups
    assert set(groups) == {"X25519MLKEM768", "refused:x25519"}
