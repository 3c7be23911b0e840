"""How Cirq's gates are said in gates of the vocabulary.

Cirq gives most angles as exponents, in half turns. The angle of an exponent is the double with the
fewest digits that has that exponent, so that `cirq.ZZPowGate(exponent=0.3 / math.pi)` is the
rotation by 0.3 that another SDK writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from interlock.circuits.canonical import Operation
from interlock.circuits.controlled import scaled, steps_of
from interlock.circuits.convert import from_matrix, unsupported
from interlock.circuits.expression import Param
from interlock.circuits.operation import finite_or_text
from interlock.circuits.sympy_text import from_sympy

__all__ = ["angle", "rules"]


def angle(exponent: Any) -> Param:
    """Return the angle of an exponent in half turns.

    Example:
        >>> angle(0.5), angle(0.3 / math.pi)
        (1.5707963267948966, 0.3)
    """
    value = from_sympy(exponent)
    if isinstance(value, str):
        import sympy

        return from_sympy(sympy.pi * exponent)
    exact = value * math.pi
    if len(repr(value)) > 12:
        short = float(f"{exact:.15g}")
        if short / math.pi == value:
            return finite_or_text(short)
    return finite_or_text(exact)


Rule = Callable[[Any, list[int]], "list[Operation] | None"]
_QUARTERS = {
    "Z": {1.0: "z", 0.5: "s", -0.5: "sdg", 0.25: "t", -0.25: "tdg"},
    "X": {1.0: "x", 0.5: "sx", -0.5: "sxdg"},
    "Y": {1.0: "y"},
    "H": {1.0: "h"},
    "CX": {1.0: "cx", 0.5: "csx"},
    "CY": {1.0: "cy"},
    "CZ": {1.0: "cz"},
    "SWAP": {1.0: "swap"},
    "ISWAP": {1.0: "iswap"},
    "CCX": {1.0: "ccx"},
    "CCZ": {1.0: "ccz"},
}


def _power(
    kind: str, rest: Callable[[Param, list[int]], Iterable[Any] | None], period: float = 2.0
) -> Rule:
    """Return the rule of a gate to a power: its own name where it has one, else `rest`.

    A global shift s of a gate to the power e is the phase pi s e.
    """

    def rule(gate: Any, wires: list[int]) -> list[Operation] | None:
        exponent, shift = gate.exponent, gate.global_shift
        if isinstance(exponent, (int, float)) and not shift:
            within = float(exponent) % period
            name = _QUARTERS[kind].get(within - period if within > 1.0 else within)
            if name is not None:
                return steps_of((name, (), wires))
        turned = angle(exponent)
        steps = rest(turned, wires)
        phase = [("gphase", (scaled(turned, shift),), ())] if shift else []
        return None if steps is None else steps_of(*steps, *phase)

    return rule


def _rotation(kind: str, name: str) -> Rule:
    """Return the rule of a Pauli (product) to a power: with the shift -1/2 it is the rotation."""
    tail = _power(kind, lambda t, w: ((name, (t,), w), ("gphase", (scaled(t, 0.5),), ())))

    def rule(gate: Any, wires: list[int]) -> list[Operation] | None:
        if gate.global_shift == -0.5:
            return steps_of((name, (angle(gate.exponent),), wires))
        return tail(gate, wires)

    return rule


def rules(module: Any) -> dict[type, Rule]:
    """Return the rule of each class. A subclass has none: it may be another gate."""
    turn = math.pi / 4

    def z_power(gate: Any, wires: list[int]) -> list[Operation] | None:
        if gate.global_shift == -0.5:
            return steps_of(("rz", (angle(gate.exponent),), wires))
        return _power("Z", lambda t, w: (("p", (t,), w),))(gate, wires)

    def exact(name: str) -> Rule:
        return lambda gate, wires: steps_of((name, (from_sympy(gate._rads),), wires))

    def fixed(name: str) -> Rule:
        return lambda _gate, wires: steps_of((name, (), wires))

    def phased_x(gate: Any, wires: list[int]) -> list[Operation]:
        turned, axis = angle(gate.exponent), angle(gate.phase_exponent)
        phase = scaled(turned, gate.global_shift + 0.5)
        return steps_of(("r", (turned, axis), wires), ("gphase", (phase,), ()))

    def fsim(gate: Any, wires: list[int]) -> list[Operation]:
        theta, phi = from_sympy(gate.theta), from_sympy(gate.phi)
        return steps_of(
            ("xx_plus_yy", (scaled(theta, 2.0), 0.0), wires), ("cp", (scaled(phi, -1.0),), wires)
        )

    table: dict[type, Rule] = {
        module.XPowGate: _rotation("X", "rx"),
        module.YPowGate: _rotation("Y", "ry"),
        module.ZPowGate: z_power,
        module.Rx: exact("rx"), module.Ry: exact("ry"), module.Rz: exact("rz"),
        module.HPowGate: _power("H", lambda t, w: (
            ("ry", (-turn,), w), ("p", (t,), w), ("ry", (turn,), w))),
        module.CXPowGate: _power("CX", lambda t, w: (
            ("crx", (t,), w), ("p", (scaled(t, 0.5),), w[:1]))),
        module.CZPowGate: _power("CZ", lambda t, w: (("cp", (t,), w),)),
        module.SwapPowGate: _power("SWAP", lambda t, w: (
            ("cx", (), w), ("crx", (t,), w[::-1]), ("p", (scaled(t, 0.5),), w[1:]),
            ("cx", (), w))),
        module.ISwapPowGate: _power("ISWAP", lambda t, w: (
            ("xx_plus_yy", (scaled(t, -1.0), 0.0), w),), period=4.0),
        module.XXPowGate: _pauli_pair("rxx"),
        module.YYPowGate: _pauli_pair("ryy"),
        module.ZZPowGate: _pauli_pair("rzz"),
        module.MSGate: _pauli_pair("rxx"),
        module.CCXPowGate: _power("CCX", lambda _t, _w: None),
        module.CCZPowGate: _power("CCZ", lambda _t, _w: None),
        module.CSwapGate: fixed("cswap"),
        module.PhasedXPowGate: phased_x,
        module.FSimGate: fsim,
        module.IdentityGate: lambda _gate, wires: steps_of(*(("id", (), (w,)) for w in wires)),
        module.GlobalPhaseGate: lambda gate, _wires: _phase(gate),
        module.MatrixGate: lambda gate, wires: [from_matrix(module.unitary(gate), wires)],
    }  # fmt: skip
    if hasattr(module, "CYPowGate"):  # since Cirq 1.6
        table[module.CYPowGate] = _power("CY", lambda t, w: (
            ("cry", (t,), w), ("p", (scaled(t, 0.5),), w[:1])))  # fmt: skip
    for pauli, name in ((module.X, "x"), (module.Y, "y"), (module.Z, "z")):
        table[type(pauli)] = fixed(name)
    return table


def _pauli_pair(name: str) -> Rule:
    def rule(gate: Any, wires: list[int]) -> list[Operation]:
        turned = angle(gate.exponent)
        phase = scaled(turned, gate.global_shift + 0.5)
        return steps_of((name, (turned,), wires), ("gphase", (phase,), ()))

    return rule


def _phase(gate: Any) -> list[Operation] | None:
    import cmath

    try:
        return steps_of(("gphase", (cmath.phase(complex(gate.coefficient)),), ()))
    except TypeError:
        raise unsupported("a symbolic global phase", gate.coefficient, "bind it") from None
