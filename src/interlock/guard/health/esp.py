"""How well a circuit is expected to run: estimated success probability, and the mixture from it.

ESP is the product of the chances that nothing goes wrong: (1 - error) of each gate, decay while
waiting, (1 - assignment error) of each measurement (Nishio et al., arXiv 1903.10963, extended by
idling, and by relaxation over each gate as the least error it can have). It is an estimate from the
calibration, not a fidelity. Pooled over circuits it ranks poorly, because a flat distribution
forgives what a sharp one does not; where the ideal distribution is known, the mixture
ESP * ideal + (1 - ESP) * uniform predicts the Hellinger fidelity of the counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from interlock.backends.calibration import Calibration
from interlock.backends.noise import VIRTUAL, relaxation_fidelity
from interlock.backends.schedule import Timed, alap
from interlock.circuits.canonical import Circuit, Operation

__all__ = ["Prediction", "hellinger", "mixture_fidelity", "predict"]

#: `delay_dt` counts device cycles of at most this length.
CYCLE_US = 0.001
_SILENT = frozenset({"barrier", "reset", "gphase", "break_loop", "continue_loop"})
_LOOPS = frozenset({"for_loop", "while_loop"})


class Prediction(NamedTuple):
    """The parts of a prediction; `success` is their product, or None when a part is unknown.

    `worst` is the success with each qubit in the state that is read worse: ones are often read
    worse than noughts, and a circuit may end in ones alone.
    """

    success: float | None
    gates: float
    idle: float
    readout: float
    duration_us: float
    unknown: str | None = None
    worst: float | None = None


def predict(
    circuit: Circuit, calibration: Calibration, *, process: bool = False, read: bool = False
) -> Prediction:
    """Predict the success of a circuit written for the device (qubit numbers are the device's).

    Branches of a condition all count; a loop makes the success unknown, as does an operation
    without a usable calibration.

    Args:
        circuit: in the device's own gates.
        calibration: of the device.
        process: count every error, also those that a single input state may not show: process
            infidelity, (d + 1)/d times the average gate error. Right for circuits that scramble.
        read: every qubit in use is read out, as an estimator does with circuits that measure
            none. One without a readout error makes the success unknown.
    """
    if calibration.kind == "ideal":
        return Prediction(1.0, 1.0, 1.0, 1.0, 0.0, worst=1.0)
    gates = readout = worse = idle = 0.0
    timed: list[Timed] = []
    unknown: str | None = None
    for op in circuit.walk():
        if op.name in _LOOPS:
            unknown = unknown or f"{op.name}: the number of rounds is not known"
        duration, wrong, why = _step(op, calibration)
        unknown = unknown or why
        timed.append(Timed(op.qubits, duration))
        if op.name == "measure":
            readout += math.log1p(-min(wrong, 1 - 1e-12))
            worse += _worse(calibration, op.qubits[0])
        else:
            if wrong:
                # No gate is better than what its qubits lose while it lasts, whatever is reported.
                dim = 2 ** len(op.qubits)
                limit = sum(_decay(calibration, q, duration, process) for q in op.qubits)
                wrong = max(wrong * (dim + 1) / dim if process else wrong, -math.expm1(limit))
            gates += math.log1p(-min(wrong, 1 - 1e-12))
    if read:
        used = {q for op in circuit.walk() if op.name not in _SILENT for q in op.qubits}
        for index in sorted(used):
            known = index < calibration.num_qubits
            error = calibration.qubits[index].readout_error if known else 0.0
            if error is None:
                unknown = unknown or f"q{index}: no readout error"
            readout += math.log1p(-min(error or 0.0, 1 - 1e-12))
            worse += _worse(calibration, index)
    waits, duration_us = alap(timed)
    for wait in waits:
        idle += _decay(calibration, wait.qubit, wait.duration_us, process)
    for op, (_, duration) in zip(circuit.walk(), timed, strict=True):
        if op.name in ("delay", "delay_dt"):
            idle += sum(_decay(calibration, q, duration, process) for q in op.qubits)
    parts = math.exp(gates), math.exp(idle), math.exp(readout)
    success = None if unknown else math.prod(parts)
    worst = None if unknown else parts[0] * parts[1] * math.exp(worse)
    return Prediction(success, *parts, duration_us, unknown, worst)


def _worse(calibration: Calibration, qubit: int) -> float:
    """Logarithm of the chance that a qubit is read right in the state that is read worse."""
    if qubit >= calibration.num_qubits:
        return 0.0
    values = calibration.qubits[qubit]
    return math.log1p(-min(max(values.p01 or 0.0, values.p10 or 0.0), 1 - 1e-12))


def _step(op: Operation, calibration: Calibration) -> tuple[float, float, str | None]:
    """Duration, error, and why the error is unknown."""
    if op.control is not None or op.name in _SILENT:
        return 0.0, 0.0, None
    if op.name in ("delay", "delay_dt"):
        amount = op.params[0] if op.params else 0.0
        scale = 1e6 if op.name == "delay" else CYCLE_US
        return (float(amount) * scale if not isinstance(amount, str) else 0.0), 0.0, None
    lenient = calibration.kind == "model"
    if any(q >= calibration.num_qubits for q in op.qubits):
        return 0.0, 0.0, None if lenient else f"{op}: not on this device"
    if op.name == "measure":
        qubit = calibration.qubits[op.qubits[0]]
        error = qubit.readout_error
        why = None if error is not None else f"{op}: no readout error"
        return qubit.readout_us or 0.0, error or 0.0, why
    gate = calibration.gate_error(op.name, op.qubits)
    if gate is None or gate.error is None:
        if op.name in VIRTUAL or (lenient and gate is None):  # a broken value is never a good one
            return 0.0, 0.0, None
        return 0.0, 0.0, f"{op}: no usable calibration"
    return gate.duration_us or 0.0, gate.error, None


def _decay(calibration: Calibration, qubit: int, time_us: float, process: bool) -> float:
    if qubit >= calibration.num_qubits:
        return 0.0
    values = calibration.qubits[qubit]
    fidelity = relaxation_fidelity(values.t1_us, values.t2_us, time_us)
    return math.log(fidelity if process else (2 * fidelity + 1) / 3)


def hellinger(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Hellinger fidelity of two distributions over bit strings.

    Example:
        >>> hellinger({"0": 0.5, "1": 0.5}, {"0": 1.0})
        0.5
    """
    total = sum(math.sqrt(p * b[k]) for k, p in a.items() if k in b)
    return round(total * total, 12)


def mixture_fidelity(ideal: Mapping[str, float], success: float, width: int) -> float:
    """Hellinger fidelity that `success * ideal + (1 - success) * uniform` has to the ideal.

    Args:
        ideal: ideal distribution over the measured bits.
        success: estimated success probability.
        width: measured bits.

    Example:
        >>> mixture_fidelity({"00": 0.5, "11": 0.5}, 1.0, 2)
        1.0
        >>> mixture_fidelity({"00": 1.0}, 0.0, 2)
        0.25
    """
    flat = (1 - success) / 2**width
    total = sum(math.sqrt(p * (success * p + flat)) for p in ideal.values())
    return round(total * total, 12)
