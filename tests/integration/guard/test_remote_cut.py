"""An answer of a gateway that was cut short is none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interlock.errors import BackendError
from interlock.guard import remote
from interlock.guard.remote import RemoteGuard

WHOLE = b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"a": "b"}\r\n'


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Give each connection one answer and close it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)
    listener.close()


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_cut_answer_is_no_answer(cut: int) -> None:
    with answering(WHOLE[:-cut]) as url, pytest.raises(BackendError) as caught:
        RemoteGuard(url).request("GET", "/")
    assert caught.value.code == "gateway-unreachable"


MADE = b'HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 11\r\n\r\n{"id": "j"}'


def test_who_waits_for_a_job_outlasts_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with answering(MADE, b"", WHOLE[:-3], WHOLE) as url:
        assert RemoteGuard(url).outcome(b"{}", "key") == {"a": "b"}


def test_and_ends_when_the_gateway_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    monkeypatch.setattr(remote, "RESTART_S", 0.0)
    with answering(MADE, b"", b"") as url, pytest.raises(BackendError) as caught:
        RemoteGuard(url).outcome(b"{}", "key")
    assert caught.value.code == "gateway-unreachable"


def test_a_handshake_that_is_cut_is_no_wrong_certificate() -> None:
    with answering(b"") as url, pytest.raises(BackendError) as caught:
        RemoteGuard(url.replace("http", "https")).request("GET", "/")
    assert caught.value.code == "gateway-unreachable"


def test_a_whole_answer_is_one() -> None:
    with answering(WHOLE) as url:
        assert RemoteGuard(url).request("GET", "/") == (200, {"a": "b"})
