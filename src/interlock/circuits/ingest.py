"""Reading circuits from outside: told by their bytes, parsed in a confined child, checked again.

The parent opens the file, bounds its size, and knows its format from its first bytes. Everything
else happens in a child that has no files, no network and no time to waste; what comes back is
plain data, which the parent checks like any other input.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from interlock.circuits.canonical import Circuit
from interlock.circuits.sniff import Format, sniff
from interlock.circuits.validate import MAX_OPERATIONS, MAX_QUBITS, validate
from interlock.confine import ForkServer, Level
from interlock.confine import Limits as Bounds
from interlock.errors import BackendError, InputError

if TYPE_CHECKING:
    from interlock.confine import Completed

__all__ = ["Ingested", "Limits", "ingest", "load_bytes", "read_circuit"]

_MODULE = "interlock.circuits.ingest_child"
_TEXT = f"{_MODULE}:parse_text"
_QPY = f"{_MODULE}:parse_qpy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What reading one circuit may take.

    Attributes:
        max_bytes: size of the file.
        max_operations: operations, written out; a text with more statements is refused before it
            is parsed.
        timeout_s: wall-clock time in the child; then it is killed.
        memory_mb: address space of the child.
        minimum: the weakest isolation that may parse it.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_operations: int = MAX_OPERATIONS
    timeout_s: float = 30.0
    memory_mb: int = 2048
    minimum: Level = Level.PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """A circuit that was read, and how.

    Attributes:
        circuit: in canonical form; `lines` is set for OpenQASM.
        format: told from the bytes.
        level: isolation the parser ran at.
        seconds: wall-clock time of the parser.
    """

    circuit: Circuit
    format: Format
    level: Level
    seconds: float


def read_circuit(
    source: Path | bytes,
    *,
    format: Format | None = None,  # noqa: A002 - the word users look for
    limits: Limits | None = None,
) -> Circuit:
    """Read a circuit from a file or from bytes.

    Args:
        source: a path, or the content itself. A string is neither, so that text is never taken
            for a path.
        format: what it should be; a contradiction with its bytes is refused.
        limits: size, time and memory.

    Raises:
        InputError: `circuit-format`, `circuit-file`, `circuit-too-large`, or what the parser found
            wrong, with line and column.

    Example:
        >>> read_circuit(b"OPENQASM 2.0; qreg q[1]; U(0,0,0) q[0];").size
        1
    """
    return ingest(source, format=format, limits=limits).circuit


def ingest(
    source: Path | bytes,
    *,
    format: Format | None = None,  # noqa: A002 - the word users look for
    limits: Limits | None = None,
) -> Ingested:
    """Read a circuit, and say how it was read; see `read_circuit`."""
    limits = limits or Limits()
    if isinstance(source, Path):
        data = load_bytes(source, limits.max_bytes)
    elif isinstance(source, bytes):
        data = source
    else:
        raise InputError(
            "a circuit is read from a path or from bytes",
            code="circuit-file",
            got=type(source).__name__,
            expected="pathlib.Path or bytes",
            fix="Path(name) for a file, text.encode() for text",
        )
    if len(data) > limits.max_bytes:
        raise _large(f"{len(data)} bytes", limits.max_bytes)
    kind = sniff(data, format)
    _sized(data, kind, limits)
    entry = _QPY if kind == "qpy" else _TEXT
    bounds = Bounds(
        wall_s=limits.timeout_s,
        cpu_s=limits.timeout_s + 1,
        memory_mb=limits.memory_mb,
    )
    head = kind[:5].encode().ljust(5) + limits.max_operations.to_bytes(8, "big")
    try:
        done = _server(entry, limits.minimum).run(entry, head + data, bounds)
    except BackendError as error:
        raise _unread(error, kind) from error
    circuit = _checked(done)
    if len(circuit.operations) > limits.max_operations:
        raise _too_many(f"{len(circuit.operations)} operations", f"at most {limits.max_operations}")
    return Ingested(circuit=circuit, format=kind, level=done.level, seconds=done.wall_s)


_HEAD_BYTES = 65_536
_COMMENT = re.compile(rb"//[^\n]*+|/\*.*?\*/", re.DOTALL)
_WIDTH = re.compile(rb"(?:qubit\s*\[\s*|qreg\s+\w+\s*\[\s*)(\d{1,18})\s*\]")


def _sized(data: bytes, kind: Format, limits: Limits) -> None:
    """Refuse what is plainly too large before the expensive work.

    Every statement of OpenQASM ends with a semicolon; comments are taken out before they count
    against anybody. The JSON needs no such look: it is decoded faster than it could be counted.
    """
    if kind not in ("qasm2", "qasm3"):
        return
    count = width = 0
    for strip in (False, True):
        text = _COMMENT.sub(b" ", data) if strip else data
        count = text.count(b";")
        width = sum(int(m[1]) for m in _WIDTH.finditer(text[:_HEAD_BYTES]))
        if count <= limits.max_operations and width <= MAX_QUBITS:
            return
    if width > MAX_QUBITS:
        raise _too_many(f"{width} qubits", f"at most {MAX_QUBITS}")
    raise _too_many(f"{count} statements", f"at most {limits.max_operations}")


def _too_many(got: str, expected: str) -> InputError:
    return InputError(
        "the circuit is too large",
        code="circuit-too-large",
        got=got,
        expected=expected,
        fix="split the circuit, or raise the limit",
    )


def _checked(done: Completed) -> Circuit:
    """Return what the child sent, held to the same rules as a stranger's JSON."""
    try:
        circuit = msgspec.msgpack.decode(done.result, type=Circuit)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            "the parser returned no circuit",
            code="circuit-unreadable",
            got=str(error),
            expected="a circuit in canonical form",
            fix="send the circuit as OpenQASM 3",
        ) from error
    validate(circuit)
    if len(circuit.lines) not in (0, len(circuit.operations)):
        return msgspec.structs.replace(circuit, lines=())
    return circuit


def _unread(error: BackendError, kind: Format) -> InputError:
    late = error.code == "worker-timeout"
    spent = late or error.code in ("worker-died", "worker-output")
    return InputError(
        "the circuit could not be read within its limits"
        if spent
        else "the parser failed on this file",
        code="circuit-unreadable",
        got=f"{kind}: {error.got}",
        expected="a circuit that parses within the time and memory allowed",
        fix="make the file smaller; it may be hostile" if spent else "mend what it says",
    )


def _large(got: str, limit: int) -> InputError:
    return InputError(
        "the file is too large",
        code="circuit-too-large",
        got=got,
        expected=f"at most {limit} bytes",
        fix="split the circuit, or raise the limit",
    )


def load_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of bounded size.

    Raises:
        InputError: `circuit-file` or `circuit-too-large`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise InputError(
            "the file cannot be opened",
            code="circuit-file",
            got=f"{type(error).__name__}: {error}",
            expected="a readable file",
            fix="check the path",
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(
            "the path is no regular file",
            code="circuit-file",
            got=str(path),
            expected="a file",
            fix="give the path of a file",
        )
    with os.fdopen(handle, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _large(f"over {max_bytes} bytes", max_bytes)
    return data


_LOCK = threading.Lock()


def _server(entry: str, minimum: Level) -> ForkServer:
    with _LOCK:
        return _made(entry, minimum)


@cache
def _made(entry: str, minimum: Level) -> ForkServer:
    warm_up = f"{_MODULE}:warm_up_{'qpy' if entry == _QPY else 'text'}"
    return ForkServer((entry,), warm_up=(warm_up,), minimum=minimum)
