"""Plugins that misbehave, one way each; run in the confined child."""

import json
import time
from pathlib import Path


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
