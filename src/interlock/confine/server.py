"""The client of the zygote: run an entry in a confined child and get bytes back, or a clear error.

No pickle crosses: the payload is bytes in a memfd, the result is a JSON line and bytes.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import errno
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import interlock.errors
from interlock.confine.levels import Level, Limits
from interlock.errors import BackendError, InterlockError, SetupError
from interlock.extras import to_install

__all__ = ["Completed", "ForkServer", "run_confined"]

_START_S = 120.0
_GRACE_S = 5.0
_BOOT = (
    "import sys,json;a=json.loads(sys.argv[1]);sys.path[:]=a['path'];"
    "from interlock.confine.zygote import main;main(a['fd'],a['entries'],a['warm_up'])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a confined child returned, how it was held, and what it used."""

    result: bytes = field(repr=False)
    level: Level
    missing: tuple[str, ...]
    wall_s: float
    cpu_s: float
    max_rss_kb: int


class ForkServer:
    """A warm zygote that forks one confined child a job.

    Safe to use from several threads. After a fork of the calling process, or when the zygote has
    died, the next job starts a new one.

    Args:
        entries: `module:function` names the server may run, each `bytes -> bytes`. They are
            imported once, before any job.
        warm_up: `module:function` names called once in the zygote, without arguments.
        minimum: the lowest level accepted; below it `run` raises and returns no result.
    """

    def __init__(
        self,
        entries: tuple[str, ...],
        *,
        warm_up: tuple[str, ...] = (),
        minimum: Level = Level.PROCESS,
    ) -> None:
        self._entries = entries
        self._warm_up = warm_up
        self._minimum = minimum
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, or None before the first job."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the zygote now instead of at the first job."""
        with self._lock:
            self._ensure()

    def close(self) -> None:
        """End the zygote and every child it has."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._process = self._control = None

    def _ensure(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._control
            self._stop()
        if sys.platform != "linux":
            raise SetupError(
                "confined children need Linux",
                code="isolation-unavailable",
                got=sys.platform,
                expected="linux",
                fix="run Interlock in a Linux container or virtual machine",
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = {
            "fd": theirs.fileno(),
            "entries": list(self._entries),
            "warm_up": list(self._warm_up),
            "path": [p for p in sys.path if p],
        }
        single = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON")
        environment = {f"{name}_NUM_THREADS": "1" for name in single}
        environment |= {"HOME": "/nonexistent", "LANG": "C.UTF-8", "QISKIT_PARALLEL": "FALSE"}
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
                [sys.executable, "-I", "-c", _BOOT, json.dumps(boot)],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._process, self._control, self._owner = process, ours, os.getpid()
        ours.settimeout(_START_S)
        try:
            hello = json.loads(ours.recv(65536) or b'{"failed": "it ended"}')
        except OSError as error:
            hello = {"failed": str(error)}
        ours.settimeout(None)
        if "failed" in hello:
            self._stop()
            lacking = re.search("No module named '([^']+)'", str(hello["failed"]))
            raise SetupError(
                "the worker process did not start",
                code="worker-start",
                got=str(hello["failed"]),
                expected="the worker to import " + ", ".join(self._entries),
                fix=to_install(lacking[1]) if lacking else "mend what it reports, then try again",
            )
        atexit.register(self.close)
        return ours

    def run(self, entry: str, payload: bytes, limits: Limits | None = None) -> Completed:
        """Run `entry(payload)` in a fresh confined child.

        Raises:
            BackendError: the child timed out, died, crashed or wrote too much
                (`worker-timeout`, `worker-died`, `worker-crashed`, `worker-output`).
            SetupError: confinement below the minimum (`isolation-insufficient`).
            InterlockError: what the entry itself raised.
        """
        if entry not in self._entries:
            raise SetupError(
                f"the worker does not know {entry!r}",
                code="worker-entry",
                got=entry,
                expected="one of " + ", ".join(self._entries),
                fix="name the entry when the server is made",
            )
        bounds = limits or Limits()
        result_r, result_w = os.pipe()
        status_r, status_w = os.pipe()
        memory = os.memfd_create("job", os.MFD_CLOEXEC)
        try:
            try:
                with open(memory, "wb", closefd=False) as file:
                    file.write(payload)
                self._send(entry, bounds, (memory, result_w, status_w))
            finally:
                for handle in (memory, result_w, status_w):
                    os.close(handle)
            data, late = _drain(result_r, time.monotonic() + bounds.wall_s + _GRACE_S, bounds)
            short = not late and len(data) <= bounds.max_result_bytes
            status = _status(status_r) if short else {}
        finally:
            os.close(result_r)
            os.close(status_r)
        return self._judge(entry, data, status, bounds, late=late)

    def prepare(self, entry: str, payload: bytes, timeout_s: float = 120.0) -> None:
        """Call an entry in the zygote, unconfined, so that later children inherit what it made.

        Only for payloads of the caller's own making: nothing hostile may come here.

        Raises:
            BackendError: it failed (`worker-crashed`) or the zygote ended (`worker-died`).
        """
        result_r, result_w = os.pipe()
        status_r, status_w = os.pipe()
        memory = _memory(payload)
        try:
            try:
                self._send(entry, None, (memory, result_w, status_w))
            finally:
                for handle in (memory, result_w, status_w):
                    os.close(handle)
            deadline = time.monotonic() + timeout_s
            answer, late = _drain(result_r, deadline, Limits(max_result_bytes=4096))
        finally:
            os.close(result_r)
            os.close(status_r)
        if late:
            self.close()
            raise _failed("worker-timeout", entry, f"not prepared in {timeout_s:g} s")
        if answer != b"ok":
            code = "worker-crashed" if answer else "worker-died"
            raise _failed(code, entry, answer.decode(errors="replace") or "the zygote ended")

    def _send(self, entry: str, limits: Limits | None, handles: tuple[int, ...]) -> None:
        request = (
            {"entry": entry, "prepare": True}
            if limits is None
            else {"entry": entry, "limits": asdict(limits)}
        )
        header = json.dumps(request).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))]
        for attempt in (1, 2):
            with self._lock:
                control = self._ensure()
                try:
                    control.sendmsg([header], rights)
                except OSError as error:
                    self._stop()
                    if attempt == 2 or error.errno not in (errno.EPIPE, errno.ECONNRESET):
                        raise _failed("worker-died", entry, f"zygote: {error}") from error
                else:
                    return

    def _judge(
        self, entry: str, data: bytes, status: dict[str, Any], limits: Limits, *, late: bool
    ) -> Completed:
        if status.get("timed_out") or late:
            if late:
                self.close()
            raise _failed("worker-timeout", entry, f"no result in {limits.wall_s:g} s")
        if len(data) > limits.max_result_bytes:
            raise _failed("worker-output", entry, f"more than {limits.max_result_bytes} bytes")
        head = _head(data)
        if not status or status["exit"] != 0 or head is None:
            got = f"exit {status['exit']}" if status else "the worker process ended"
            if status and status["exit"] < 0:
                got = f"signal {-status['exit']}"
            raise _failed("worker-died", entry, got)
        header, body = head
        level, missing = Level(header["level"]), tuple(header["missing"])
        if level < self._minimum:
            raise SetupError(
                "this machine cannot confine the worker as required",
                code="isolation-insufficient",
                got=f"{level.name}: " + "; ".join(missing),
                expected=self._minimum.name,
                fix="use a kernel with Landlock and seccomp, or lower the policy's minimum level",
            )
        if "error" in header:
            raise _rebuild(header["kind"], header["error"])
        if "crash" in header:
            raise _failed("worker-crashed", entry, str(header["crash"]))
        return Completed(
            result=body,
            level=level,
            missing=missing,
            wall_s=status["wall_s"],
            cpu_s=status["cpu_s"],
            max_rss_kb=status["max_rss_kb"],
        )


def _memory(payload: bytes) -> int:
    handle = os.memfd_create("job", os.MFD_CLOEXEC)
    with open(handle, "wb", closefd=False) as file:
        file.write(payload)
    return handle


def _drain(handle: int, deadline: float, limits: Limits) -> tuple[bytes, bool]:
    """Read to the end, past the size limit by at most one block; late means no end in time."""
    blocks: list[bytes] = []
    size = 0
    while size <= limits.max_result_bytes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return b"".join(blocks), True
        block = os.read(handle, 1 << 20)
        if not block:
            break
        blocks.append(block)
        size += len(block)
    return b"".join(blocks), False


def _status(handle: int) -> dict[str, Any]:
    if not select.select([handle], [], [], _GRACE_S)[0]:
        return {}
    with contextlib.suppress(ValueError):
        status: dict[str, Any] = json.loads(os.read(handle, 4096))
        return status
    return {}


def _head(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Split `length, JSON, body`; None when it is not that (a hostile child may write anything)."""
    size = int.from_bytes(data[:4], "big")
    try:
        header = json.loads(data[4 : 4 + size])
        Level(header["level"])
        [str(line) for line in header["missing"]]
        if not any(key in header for key in ("ok", "crash")):
            str(header["kind"]), dict(header["error"])
    except (ValueError, KeyError, TypeError):
        return None
    return header, data[4 + size :]


def _rebuild(kind: str, fields: dict[str, Any]) -> InterlockError:
    known = getattr(interlock.errors, kind, BackendError)
    if not (isinstance(known, type) and issubclass(known, InterlockError)):
        known = BackendError
    text = {k: fields[k] for k in ("got", "expected", "fix") if isinstance(fields.get(k), str)}
    return known(str(fields.get("message")), code=str(fields.get("code")), **text)


_WHAT = {
    "worker-timeout": ("the worker missed its deadline", "a smaller job or a longer wall_s"),
    "worker-died": ("the worker process died", "see its limits; a smaller job may pass"),
    "worker-crashed": ("the worker raised", "check the input; report it if the input is sound"),
    "worker-output": ("the worker returned too much", "fewer shots or circuits a job"),
}


def _failed(code: str, entry: str, got: str) -> BackendError:
    message, fix = _WHAT[code]
    return BackendError(message, code=code, got=got, expected=f"a result of {entry}", fix=fix)


def run_confined(
    entry: str, payload: bytes, limits: Limits | None = None, *, minimum: Level = Level.PROCESS
) -> Completed:
    """Run one entry in a confined child of a process started for it alone.

    For a single job; a service keeps a `ForkServer`.

    Example:
        >>> run_confined("interlock.confine.entry:echo", b"hello").result
        b'hello'
    """
    with ForkServer((entry,), minimum=minimum) as server:
        return server.run(entry, payload, limits)
