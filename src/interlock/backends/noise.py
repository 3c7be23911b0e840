"""A noise model from a calibration: relaxation, depolarising rest, assignment errors.

Each gate's channel is thermal relaxation over its duration followed by depolarising noise, sized
so that the average gate infidelity is the calibrated error (the construction of Aer's device
models, here from the calibration alone, so that a subset, a scaled or a drifted device can be
built). Crosstalk, leakage and coherent errors are not in it unless added.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import msgspec

from interlock.backends.calibration import Calibration, Gate, Qubit

__all__ = ["noise_model", "relaxation", "relaxation_fidelity", "scaled"]

#: Gates done in software: no time, no error.
VIRTUAL = frozenset({"rz", "barrier", "u1", "p", "global_phase"})


def scaled(calibration: Calibration, factor: float) -> Calibration:
    """Return the calibration of the same device with every error `factor` times as strong.

    Example:
        >>> c = Calibration(device="d", kind="twin", num_qubits=1, gates=(),
        ...                 qubits=(Qubit(t1_us=100.0, p01=0.01, p10=0.02),))
        >>> scaled(c, 2.0).qubits[0].t1_us, scaled(c, 2.0).qubits[0].p10
        (50.0, 0.04)
    """

    def times(value: float | None, top: float) -> float | None:
        return None if value is None else min(top, value * factor)

    def over(value: float | None) -> float | None:
        return value if value is None or factor <= 0 else value / factor

    return msgspec.structs.replace(
        calibration,
        qubits=tuple(
            msgspec.structs.replace(
                q, t1_us=over(q.t1_us), t2_us=over(q.t2_us),
                p01=times(q.p01, 0.5), p10=times(q.p10, 0.5),
            )
            for q in calibration.qubits
        ),
        gates=tuple(
            msgspec.structs.replace(g, error=times(g.error, 0.75)) for g in calibration.gates
        ),
    )  # fmt: skip


def relaxation_fidelity(t1_us: float | None, t2_us: float | None, time_us: float) -> float:
    """Process fidelity of one qubit's thermal relaxation to the ground state.

    Example:
        >>> round(relaxation_fidelity(100.0, 100.0, 1.0), 4)
        0.9925
    """
    x, z = _decay(t1_us, t2_us, time_us)
    return (1 + 2 * x + z) / 4


def _decay(t1_us: float | None, t2_us: float | None, time_us: float) -> tuple[float, float]:
    t1 = t1_us or math.inf
    t2 = min(t2_us or math.inf, 2 * t1)
    return math.exp(-time_us / t2), math.exp(-time_us / t1)


@lru_cache(maxsize=4096)
def relaxation(
    t1_us: float | None, t2_us: float | None, time_us: float, *, exact: bool = True
) -> Any:
    """Return the Aer `QuantumError` of waiting, or None when it does nothing.

    Args:
        t1_us: relaxation time.
        t2_us: dephasing time; above twice T1 it is taken as that.
        time_us: how long.
        exact: False writes T2 above T1, which has no mixture of unitaries and resets, as the one
            with the same fidelity and the same decay of every Bloch component; it pulls less to
            the ground state. Aer's trajectories fail on Kraus sets ("Kraus is empty"), or crash.
    """
    from qiskit.circuit import Reset
    from qiskit.circuit.library import IGate, XGate, YGate
    from qiskit_aer.noise import QuantumError, thermal_relaxation_error

    if time_us <= 0 or (not t1_us and not t2_us):
        return None
    t1 = t1_us or 1e9
    t2 = min(t2_us or 2 * t1, 2 * t1)
    if exact or t2 <= t1:
        return thermal_relaxation_error(t1, t2, time_us)
    x, z = _decay(t1, t2, time_us)
    flip, reset = (x - z) / 2, max(0.0, 1 - 2 * x + z)
    steps = ((Reset(), reset), (XGate(), flip), (YGate(), flip), (IGate(), 1 - 2 * flip - reset))
    return QuantumError([([(gate, [0])], chance) for gate, chance in steps])


def _gate_error(gate: Gate, qubits: tuple[Qubit, ...], *, exact: bool = True) -> Any:
    from qiskit_aer.noise import depolarizing_error

    width = len(qubits)
    time_us = gate.duration_us or 0.0
    channel, fidelity = None, 1.0
    for qubit in qubits:
        part = relaxation(qubit.t1_us, qubit.t2_us, round(time_us, 4), exact=exact)
        fidelity *= relaxation_fidelity(qubit.t1_us, qubit.t2_us, time_us)
        if part is not None and width == 1:
            channel = part
    if width == 2 and time_us > 0:
        parts = [relaxation(q.t1_us, q.t2_us, round(time_us, 4), exact=exact) for q in qubits]
        if all(p is not None for p in parts):
            channel = parts[1].tensor(parts[0])
    if channel is None:
        fidelity = 1.0
    dim = 2**width
    average = (dim * fidelity + 1) / (dim + 1)
    error = gate.error or 0.0
    rest = dim * (error - (1 - average)) / (dim * average - 1) if error > 1 - average else 0.0
    rest = min(rest, 4**width / (4**width - 1))
    if rest <= 1e-12:
        return channel
    depolarising = depolarizing_error(rest, width)
    return depolarising if channel is None else channel.compose(depolarising)


def noise_model(calibration: Calibration, *, exact: bool) -> Any:
    """Return the Aer `NoiseModel` of a calibration; restrict it to what is used first.

    A gate without a usable error value gets none, so refuse such gates before running.

    Args:
        calibration: of the used qubits.
        exact: write each channel as one Kraus set, which density matrices take twenty times
            faster; trajectories take mixtures of unitaries and resets only; see `relaxation`.
    """
    from qiskit.quantum_info import Kraus, SuperOp
    from qiskit_aer.noise import NoiseModel, QuantumError, ReadoutError

    model = NoiseModel()
    model.add_basis_gates(sorted({g.name for g in calibration.gates}))
    for gate in calibration.gates:
        if gate.name in VIRTUAL:
            continue
        channel = _gate_error(gate, tuple(calibration.qubits[q] for q in gate.qubits), exact=exact)
        if channel is not None and not channel.ideal():
            if exact:
                channel = QuantumError([(Kraus(SuperOp(channel)), 1.0)])
            model.add_quantum_error(channel, gate.name, list(gate.qubits), warnings=False)
    for index, qubit in enumerate(calibration.qubits):
        p01, p10 = qubit.p01 or 0.0, qubit.p10 or 0.0
        if p01 or p10:
            model.add_readout_error(
                ReadoutError([[1 - p01, p01], [p10, 1 - p10]]), [index], warnings=False
            )
    return model
