"""What runs in the confined child: bytes in, a circuit as MessagePack out."""

from __future__ import annotations

import contextlib
import gc
import io

import msgspec

from interlock.circuits.canonical import Circuit
from interlock.circuits.qasm import Limits, parse
from interlock.errors import InputError

__all__ = ["parse_qpy", "parse_text", "warm_up_qpy", "warm_up_text"]

_SAMPLE = (
    b'OPENQASM 3.0; include "stdgates.inc"; input float t; gate sxdg a { sdg a; h a; sdg a; }'
    b" qubit[2] q; bit[2] c; sxdg q[0]; rx(sin(t)) q[0]; c = measure q; if (c[0]) { x q[0]; }"
)

_HEAD_QASM, _HEAD_JSON, _HEAD_QPY = (
    kind + (1000).to_bytes(8, "big") for kind in (b"qasm3", b"json ", b"qpy  ")
)


def parse_text(payload: bytes) -> bytes:
    """Parse OpenQASM or JSON; the first five bytes say which, the next eight how large at most."""
    kind, limit, data = payload[:5].strip(), int.from_bytes(payload[5:13], "big"), payload[13:]
    text = data.decode("utf-8-sig")
    # A reader makes no cycles, and this process ends with it: looking for some costs a third.
    gc.disable()
    if kind == b"json":
        circuit = Circuit.from_json(text)
    else:
        circuit = parse(text, Limits(max_operations=limit))
    return msgspec.msgpack.encode(circuit)


def parse_qpy(payload: bytes) -> bytes:
    """Parse QPY of one circuit with Qiskit."""
    from qiskit import QuantumCircuit, qpy

    from interlock.circuits.qiskit_adapter import from_qiskit

    try:
        circuits = qpy.load(io.BytesIO(payload[13:]))
    except InputError:
        raise
    except BaseException as error:
        raise InputError(
            "the QPY file cannot be read",
            code="circuit-unreadable",
            got=_plain(f"{type(error).__name__}: {error}"),
            expected="a file written by qiskit.qpy.dump",
            fix="write it again, or send OpenQASM 3",
        ) from error
    if len(circuits) != 1 or not isinstance(circuits[0], QuantumCircuit):
        raise InputError(
            "the QPY file does not hold one circuit",
            code="circuit-unreadable",
            got=f"{len(circuits)} programs",
            expected="one circuit",
            fix="write one file for each circuit",
        )
    return msgspec.msgpack.encode(from_qiskit(circuits[0]))


def _plain(text: str) -> str:
    """Return the printable part of a foreign message, its first line."""
    first = text.replace("\\n", "\n").split("\n")[0]
    return "".join(c for c in first if c.isprintable())[:200]


def warm_up_text() -> None:
    """Run every path once, so that the confined child imports nothing."""
    done = msgspec.msgpack.decode(parse_text(_HEAD_QASM + _SAMPLE), type=Circuit)
    parse_text(_HEAD_JSON + done.to_json())
    with contextlib.suppress(InputError):
        parse_text(_HEAD_QASM + b"OPENQASM 3.0; nothing q;")


def warm_up_qpy() -> None:
    """Run every path once, so that the confined child imports nothing."""
    from qiskit import QuantumCircuit, qpy
    from qiskit.circuit import ClassicalRegister, Parameter
    from qiskit.circuit.classical import expr
    from qiskit.circuit.library import QFTGate, UnitaryGate

    register = ClassicalRegister(2, "r")
    circuit = QuantumCircuit(3, 1)
    circuit.add_register(register)
    a = Parameter("a")
    circuit.rx(a * 2 + 1, 0)
    circuit.ry(a.sin() * a, 0)
    circuit.append(QFTGate(3), range(3))
    circuit.append(UnitaryGate([[0, 1], [1, 0]]), [0])
    circuit.mcx([0, 1], 2, ctrl_state=1)
    circuit.delay(1, 0, unit="us")
    circuit.barrier()
    circuit.measure([0, 1], register)
    with circuit.if_test((register, 1)) as otherwise:
        circuit.x(0)
    with otherwise:
        circuit.reset(0)
    with circuit.while_loop(expr.logic_not(register[0])):
        circuit.break_loop()
    with circuit.for_loop(range(2), Parameter("i")) as i:
        circuit.rz(i, 0)
    with circuit.switch(register) as case, case(case.DEFAULT):
        circuit.x(0)
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    parse_qpy(_HEAD_QPY + buffer.getvalue())
    with contextlib.suppress(InputError):
        parse_qpy(_HEAD_QPY + buffer.getvalue()[:-9])
