"""Plugins that misbehave, one way each; run in the confined child."""

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any


def honest(payload: bytes) -> bytes:
    fields = json.loads(payload)
    bad = fields.get("x", 0) > 1
    return json.dumps([{"message": "x is large", "got": str(fields["x"])}] if bad else []).encode()


def raises(payload: bytes) -> bytes:
    raise RuntimeError("no")


def hangs(payload: bytes) -> bytes:
    time.sleep(600)
    return b"[]"


def spins(payload: bytes) -> bytes:
    while True:
        pass


def eats_memory(payload: bytes) -> bytes:
    return b"[]" if len([bytearray(1 << 20) for _ in range(4096)]) else b""


def talks_nonsense(payload: bytes) -> bytes:
    return b'{"violations": []}'


def reads_files(payload: bytes) -> bytes:
    return json.dumps([{"message": Path("/etc/hostname").read_text()}]).encode()


def exits(payload: bytes) -> bytes:
    import os

    os._exit(0)


def forks(_: bytes) -> bytes:
    while True:
        os.fork()


def starts_threads(_: bytes) -> bytes:
    threading.Thread(target=time.sleep, args=(60,)).start()
    return b"[]"


def answers_text(_: bytes) -> Any:
    return "[]"


def answers_no_utf8(_: bytes) -> bytes:
    return b'[{"message": "\xff"}]'


def answers_too_much(_: bytes) -> bytes:
    return b"[" + b" " * (2 << 20) + b"]"


def forges_its_answer(_: bytes) -> bytes:
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, b'\x00\x00\x00\x0c{"ok": true}[]')
    os._exit(0)


def kills_its_parent(_: bytes) -> bytes:
    os.kill(os.getppid(), 9)
    return b"[]"
