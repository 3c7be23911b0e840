"""An answer of a gateway that was cut short is none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interlock.errors import BackendError
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


def test_a_whole_answer_is_one() -> None:
    with answering(WHOLE) as url:
        assert RemoteGuard(url).request("GET", "/") == (200, {"a": "b"})
