"""The process that forks confined children: imports once, single-threaded, forks a child a job.

Started by `server.ForkServer` with an empty environment. A request is one datagram on a
SEQPACKET socket: a JSON header and three descriptors (payload memfd, result pipe, status pipe).
The zygote never reads the payload; it only forks, watches the deadline, reaps and reports.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interlock.confine.levels import Limits
from interlock.confine.sandbox import confine
from interlock.errors import InterlockError

__all__ = ["main"]

Entry = Callable[[bytes], bytes]
_MAX_HEADER = 65536


@dataclass(slots=True)
class _Child:
    pid: int
    status: int
    deadline: float
    started: float
    timed_out: bool = False


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _child(entry: Entry, payload: int, result: int, limits: Limits) -> None:
    """Confine, run, write `header line, body`, and leave without running any clean-up."""
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.dup2(payload, 3)
        os.dup2(result, 4)
        os.closerange(5, 65536)
        size = os.fstat(3).st_size
        level, missing = confine(limits)
        body = b""
        head: dict[str, Any] = {"level": int(level), "missing": list(missing)}
        try:
            body = entry(os.pread(3, size, 0) if size else b"")
            head["ok"] = True
        except InterlockError as error:
            head["error"] = error.as_dict()
            head["kind"] = type(error).__name__
        except BaseException as error:  # noqa: BLE001 - a panic of a native parser is one too
            head["crash"] = f"{type(error).__name__}: {error}"[:2000]
        line = json.dumps(head).encode()
        _write(4, len(line).to_bytes(4, "big") + line + body)
        os._exit(0)
    finally:
        os._exit(70)


def _report(child: _Child, wait_status: int, usage: Any) -> None:
    code = os.waitstatus_to_exitcode(wait_status)
    status = {
        "exit": code,
        "timed_out": child.timed_out,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
        "max_rss_kb": usage.ru_maxrss,
        "wall_s": round(time.monotonic() - child.started, 6),
    }
    with contextlib.suppress(OSError):
        os.write(child.status, json.dumps(status).encode())
    os.close(child.status)


def _reap(children: dict[int, _Child]) -> None:
    while children:
        pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        _report(children.pop(pid), wait_status, usage)


def _expire(children: dict[int, _Child]) -> float:
    """Kill what is late and return the seconds until the next deadline."""
    now = time.monotonic()
    for child in children.values():
        if not child.timed_out and now >= child.deadline:
            child.timed_out = True
            os.kill(child.pid, signal.SIGKILL)
    return min((max(0.0, c.deadline - now) for c in children.values()), default=3600.0)


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    data, ancillary, flags, _ = control.recvmsg(_MAX_HEADER, socket.CMSG_LEN(3 * 4))
    if not data:
        return None
    handles = array.array("i")
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            handles.frombytes(body[: len(body) - len(body) % handles.itemsize])
    if len(handles) != 3 or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for handle in handles:
            os.close(handle)
        return {}, []
    return json.loads(data), list(handles)


def _prepare(entry: Entry, payload: int, result: int) -> None:
    """Call an entry in the zygote itself, so that later children find what it made."""
    size = os.fstat(payload).st_size
    try:
        entry(os.pread(payload, size, 0) if size else b"")
        answer = b""
    except Exception as error:  # noqa: BLE001 - told to the client, which raises it
        answer = f"{type(error).__name__}: {error}"[:2000].encode()
    gc.freeze()
    with contextlib.suppress(OSError):
        os.write(result, answer or b"ok")


def _start(
    entries: dict[str, Entry],
    request: dict[str, Any],
    handles: list[int],
    children: dict[int, _Child],
) -> None:
    payload, result, status = handles
    if request.get("prepare"):
        _prepare(entries[request["entry"]], payload, result)
        for handle in handles:
            os.close(handle)
        return
    fields = dict(request["limits"])
    fields["read_paths"] = tuple(fields["read_paths"])
    limits = Limits(**fields)
    now = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(entries[request["entry"]], payload, result, limits)
    os.close(payload)
    os.close(result)
    children[pid] = _Child(pid, status, now + limits.wall_s, now)


def _serve(control: socket.socket, entries: dict[str, Entry]) -> None:
    children: dict[int, _Child] = {}
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        sources: list[Any] = [control, wake_r]
        ready = select.select(sources, [], [], _expire(children))[0]
        if wake_r in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_r, 4096)
        _reap(children)
        if control in ready:
            received = _receive(control)
            if received is None:
                break
            if received[1]:
                _start(entries, *received, children)
    for child in children.values():
        os.kill(child.pid, signal.SIGKILL)


def main(control_fd: int, names: list[str], warm_up: list[str]) -> None:
    """Import the entries, run the warm-ups, say `ready`, and serve until the socket closes."""
    control = socket.socket(fileno=control_fd)
    try:
        entries: dict[str, Entry] = {}
        for name in names:
            module, _, attribute = name.partition(":")
            entries[name] = getattr(importlib.import_module(module), attribute)
        for name in warm_up:
            module, _, attribute = name.partition(":")
            getattr(importlib.import_module(module), attribute)()
        import resource  # noqa: F401

        import py_landlock  # noqa: F401 - imported before the fork, used after it
        import pyseccomp  # noqa: F401
    except Exception as error:  # noqa: BLE001 - told to the client, which raises it
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        sys.exit(1)
    gc.collect()
    gc.freeze()
    control.send(b'{"ready": true}')
    _serve(control, entries)
