"""The process that forks confined children: imports once, single-threaded, forks a child a job.

Started by `server.ForkServer` with an empty environment. A request is one datagram on a
SEQPACKET socket: a JSON header and three descriptors (payload memfd, result pipe, status pipe).
The zygote never reads the payload; it only forks, watches the deadline, reaps and reports.

A child is forked and confined ahead of its job, so that the job does not wait for that. It takes
one job and ends.
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


@dataclass(slots=True)
class _Spare:
    """A confined child that waits for its job."""

    pid: int
    inbox: socket.socket
    limits: str


def _child(entries: dict[str, Entry], inbox: socket.socket, limits: Limits) -> None:
    """Confine, take a job, write `header line, body`, and leave without running any clean-up."""
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.dup2(inbox.fileno(), 3)
        os.closerange(4, 65536)
        jobs = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=3)
        level, missing = confine(limits, inbox=3)
        head: dict[str, Any] = {"level": int(level), "missing": list(missing)}
        received = _receive(jobs, 2)
        if received is None or not received[1]:
            os._exit(0)
        jobs.close()
        (payload, result), body = received[1], b""
        entry = entries[received[0]["entry"]]
        size = os.fstat(payload).st_size
        try:
            body = entry(os.pread(payload, size, 0) if size else b"")
            head["ok"] = True
        except InterlockError as error:
            head["error"] = error.as_dict()
            head["kind"] = type(error).__name__
        except BaseException as error:  # noqa: BLE001 - a panic of a native parser is one too
            head["crash"] = f"{type(error).__name__}: {error}"[:2000]
        line = json.dumps(head).encode()
        _write(result, len(line).to_bytes(4, "big") + line + body)
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


def _reap(children: dict[int, _Child], spare: _Spare | None) -> _Spare | None:
    """Report the children that ended; return the spare if it lives."""
    while children or spare is not None:
        pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            break
        if pid in children:
            _report(children.pop(pid), wait_status, usage)
        elif spare is not None and pid == spare.pid:
            spare.inbox.close()
            spare = None
    return spare


def _expire(children: dict[int, _Child]) -> float:
    """Kill what is late and return the seconds until the next deadline."""
    now = time.monotonic()
    for child in children.values():
        if not child.timed_out and now >= child.deadline:
            child.timed_out = True
            os.kill(child.pid, signal.SIGKILL)
    return min((max(0.0, c.deadline - now) for c in children.values()), default=3600.0)


def _receive(control: socket.socket, count: int) -> tuple[dict[str, Any], list[int]] | None:
    """Receive one request with its descriptors; None when the other end has closed."""
    data, ancillary, flags, _ = control.recvmsg(_MAX_HEADER, socket.CMSG_LEN(count * 4))
    if not data:
        return None
    handles = array.array("i")
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            handles.frombytes(body[: len(body) - len(body) % handles.itemsize])
    if len(handles) != count or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
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


def _fork(entries: dict[str, Entry], limits: str) -> _Spare:
    fields = json.loads(limits)
    fields["read_paths"] = tuple(fields["read_paths"])
    bounds = Limits(**fields)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _child(entries, theirs, bounds)
    theirs.close()
    return _Spare(pid, ours, limits)


def _discard(spare: _Spare | None) -> None:
    """End a spare that does not fit; it is reaped like any child."""
    if spare is not None:
        spare.inbox.close()
        os.kill(spare.pid, signal.SIGKILL)


def _start(
    entries: dict[str, Entry],
    request: dict[str, Any],
    handles: list[int],
    children: dict[int, _Child],
    spare: _Spare | None,
) -> _Spare | None:
    """Give a job to a child, and have the next child ready; return that one."""
    payload, result, status = handles
    if request.get("prepare"):
        _discard(spare)  # it was forked before this was made
        _prepare(entries[request["entry"]], payload, result)
        for handle in handles:
            os.close(handle)
        return None
    limits = json.dumps(request["limits"])
    if spare is None or spare.limits != limits:
        _discard(spare)
        spare = _fork(entries, limits)
    now = time.monotonic()
    job = json.dumps({"entry": request["entry"]}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (payload, result)))]
    with contextlib.suppress(OSError):  # it died: its end is reported when it is reaped
        spare.inbox.sendmsg([job], rights)
    spare.inbox.close()
    os.close(payload)
    os.close(result)
    children[spare.pid] = _Child(spare.pid, status, now + request["limits"]["wall_s"], now)
    return _fork(entries, limits)


def _serve(control: socket.socket, entries: dict[str, Entry]) -> None:
    children: dict[int, _Child] = {}
    spare: _Spare | None = None
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        sources: list[Any] = [control, wake_r]
        ready = select.select(sources, [], [], _expire(children))[0]
        if wake_r in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_r, 4096)
        spare = _reap(children, spare)
        if control in ready:
            received = _receive(control, 3)
            if received is None:
                break
            if received[1]:
                spare = _start(entries, *received, children, spare)
    for child in children.values():
        os.kill(child.pid, signal.SIGKILL)
    _discard(spare)


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
