"""Reading a calibration from Cirq: noise properties of a simulator, metrics of a processor.

Cirq is never imported here: what is read are the attributes of objects that the caller made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from interlock.backends.calibration import Calibration, Gate, Qubit, clean
from interlock.errors import BackendError, InputError

__all__ = ["from_metrics", "from_noise_properties", "qubits_of", "read"]

#: Canonical names of a gate type. Those of FSim and Sycamore are the operations that one such gate
#: is written as; each carries the whole error, so predicted success is too low, never too high.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "ZPowGate": ("rz", "p", "z", "s", "sdg", "t", "tdg"),
    "CZPowGate": ("cz", "cp"),
    "CXPowGate": ("cx",),
    "SwapPowGate": ("swap",),
    "ISwapPowGate": ("iswap", "xx_plus_yy"),
    "FSimGate": ("xx_plus_yy", "cp"),
    "SycamoreGate": ("rxx", "ryy", "cp"),
    "cz": ("cz",),
    "sqrt_iswap": ("xx_plus_yy",),
    "sycamore": ("rxx", "ryy", "cp"),
}
_NO_GATE = frozenset({"MeasurementGate", "ResetChannel", "WaitGate"})
_METRIC = re.compile(r"two_qubit_(?:parallel_)?(\w+?)_gate_xeb_(average|pauli)_error_per_cycle")


def read(backend: Any, now: float, *, device: str) -> Calibration | None:
    """Return the calibration of a Cirq sampler, noise model or calibration, or None.

    Args:
        backend: a simulator with noise from noise properties, a sampler on a processor that gives
            its current calibration, or one of these parts.
        now: seconds since the epoch.
        device: name, where the backend has no processor.

    Raises:
        InputError: the values are of no known form (`calibration-invalid`).
    """
    if not _of_cirq(backend):
        return None
    order = qubits_of(backend)
    properties = _properties(backend)
    if properties is not None:
        return from_noise_properties(properties, device=device, now=now, order=order)
    processor = getattr(backend, "processor", None)
    metrics = _metrics(backend)
    if metrics is None:
        return None
    name = getattr(processor, "processor_id", None)
    simulated = "simulated" in type(processor).__module__
    return from_metrics(
        metrics,
        device=str(name or device),
        kind="snapshot" if simulated else "device",
        order=order,
    )


def qubits_of(sampler: Any) -> list[Any] | None:
    """Return a device's qubits in the order of their numbers, or None when it has no such list.

    Raises:
        BackendError: the device failed while it was asked (`calibration-unreadable`).
    """
    try:
        return _qubits(sampler)
    except Exception as error:
        raise BackendError(
            "the device's qubits cannot be read",
            code="calibration-unreadable",
            got=f"{type(error).__name__}: {error}",
            expected="the qubits of the device",
            fix="try again later",
        ) from error


def _qubits(sampler: Any) -> list[Any] | None:
    device = getattr(sampler, "device", None)
    processor = getattr(sampler, "processor", None)
    ask = getattr(processor, "get_device", None)
    if device is None and callable(ask):
        device = ask()
    metadata = getattr(device, "metadata", None)
    if metadata is not None:
        return sorted(metadata.qubit_set)
    if not _of_cirq(sampler):
        return None
    properties = _properties(sampler)
    if properties is not None:
        return sorted(_places(properties))
    metrics = _metrics(sampler)
    if metrics is None:
        return None
    return sorted({q for table in metrics.values() for place in table for q in place})


def _of_cirq(backend: Any) -> bool:
    return any(c.__module__.startswith(("cirq.", "cirq_google.")) for c in type(backend).__mro__)


def _properties(backend: Any) -> Any:
    for found in (backend, getattr(backend, "noise", None)):
        own = getattr(found, "_noise_properties", found)
        if hasattr(own, "gate_pauli_errors") and hasattr(own, "t1_ns"):
            return own
    return None


def _metrics(backend: Any) -> Any:
    if isinstance(backend, Mapping) and hasattr(backend, "timestamp"):
        return backend
    ask = getattr(getattr(backend, "processor", None), "get_current_calibration", None)
    return ask() if callable(ask) else None


def _places(properties: Any) -> set[Any]:
    gates = {q for key in properties.gate_pauli_errors for q in key.qubits}
    return gates | set(properties.t1_ns) | set(properties.readout_errors)


def from_noise_properties(
    properties: Any, *, device: str, now: float, order: Iterable[Any] | None = None
) -> Calibration:
    """Read `SuperconductingQubitsNoiseProperties`: what a simulator with this noise behaves by.

    Pauli errors become average gate errors (times d / (d + 1)); 1 / T2 is 1 / (2 T1) + 1 / Tphi.

    Args:
        properties: times in ns, Pauli errors by gate type and qubits, readout errors.
        device: name.
        now: seconds since the epoch.
        order: the qubits in the order of their numbers; sorted by default.

    Raises:
        InputError: not such properties (`calibration-invalid`).
    """
    try:
        qubits = sorted(_places(properties)) if order is None else list(order)
        number = {q: i for i, q in enumerate(qubits)}
        times = {kind.__name__: float(t) / 1000 for kind, t in properties.gate_times_ns.items()}
        rows = []
        for q in qubits:
            p01, p10 = properties.readout_errors.get(q, (0.0, 0.0))
            t1, tphi = properties.t1_ns.get(q), properties.tphi_ns.get(q)
            rows.append(
                Qubit(
                    t1_us=None if t1 is None else float(t1) / 1000,
                    t2_us=None if t1 is None or tphi is None else _t2(t1, tphi) / 1000,
                    p01=float(p01),
                    p10=float(p10),
                    readout_us=times.get("MeasurementGate"),
                    age_s=0.0,
                )
            )
        gates: list[Gate] = []
        for key, error in properties.gate_pauli_errors.items():
            kind = key.gate_type.__name__
            if kind in _NO_GATE or not all(q in number for q in key.qubits):
                continue
            where = tuple(number[q] for q in key.qubits)
            gates += _gates(kind, where, _average(float(error), len(where)), times.get(kind))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _invalid(error, "t1_ns, tphi_ns, readout_errors and gate_pauli_errors") from error
    return _made(device, "model", rows, gates, now, "cirq noise properties")


def from_metrics(
    metrics: Mapping[str, Any],
    *,
    device: str,
    kind: str = "device",
    order: Iterable[Any] | None = None,
) -> Calibration:
    """Read a `cirq_google.Calibration`: metric -> qubits -> values, its `timestamp` in ms.

    Errors of two-qubit gates are those of a cycle of cross-entropy benchmarking, which has
    single-qubit gates in it too, so they bound the gate's from above; of the isolated and the
    parallel figure the worse counts. It has no T2.

    Args:
        metrics: of one calibration; a mapping without `timestamp` has an unknown age.
        device: name.
        kind: `device` or `snapshot`.
        order: the qubits in the order of their numbers; sorted by default.

    Raises:
        InputError: not such metrics (`calibration-invalid`).
    """
    try:
        found = {q for table in metrics.values() for place in table for q in place}
        qubits = sorted(found) if order is None else list(order)
        number = {q: i for i, q in enumerate(qubits)}

        def value(q: Any, *names: str) -> float | None:
            known = [metrics[n][(q,)][0] for n in names if n in metrics and (q,) in metrics[n]]
            return float(known[0]) if known else None

        rows, gates = [], []
        for q in qubits:
            rows.append(
                Qubit(
                    t1_us=value(q, "single_qubit_idle_t1_micros"),
                    p01=value(q, "single_qubit_p00_error", "parallel_p00_error"),
                    p10=value(q, "single_qubit_p11_error", "parallel_p11_error"),
                    age_s=0.0,
                )
            )
            error = value(q, "single_qubit_rb_average_error_per_gate")
            pauli = value(q, "single_qubit_rb_pauli_error_per_gate")
            if error is None and pauli is not None:
                error = _average(pauli, 1)
            gates.append(Gate(name="1q", qubits=(number[q],), error=error, age_s=0.0))
        for name, table in metrics.items():
            match = _METRIC.fullmatch(name)
            for place, values in table.items() if match else ():
                error = float(values[0])
                error = _average(error, 2) if match and match[2] == "pauli" else error
                if match and all(q in number for q in place):
                    where = tuple(number[q] for q in place)
                    gates += _gates(match[1], where, error, None)
        stamp = getattr(metrics, "timestamp", None)
        observed = float(stamp) / 1000 if stamp else None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _invalid(error, "metrics with values by tuples of qubits") from error
    if not rows or all(g.error is None for g in gates):
        raise _invalid("no qubit or no gate error", "single_qubit_rb_... and two_qubit_..._xeb_...")
    return _made(device, kind, rows, gates, observed, "cirq processor calibration")


def _average(pauli: float, qubits: int) -> float:
    """Average gate error of a Pauli error, which is the process infidelity."""
    dim = 1 << qubits
    return pauli * dim / (dim + 1)


def _t2(t1: float, tphi: float) -> float:
    """T2; a broken part is returned as it is, for the repairs to name."""
    if t1 > 0 and tphi > 0:
        rate = 1 / (2 * t1) + 1 / tphi
        return 1 / rate if rate else math.inf
    return tphi if t1 > 0 else t1


def _gates(kind: str, where: tuple[int, ...], error: float, duration: float | None) -> list[Gate]:
    names = _NAMES.get(kind, ("1q",) if len(where) == 1 else (kind.lower(),))
    return [Gate(name=n, qubits=where, error=error, duration_us=duration, age_s=0.0) for n in names]


def _made(
    device: str, kind: str, qubits: list[Qubit], gates: list[Gate], at: float | None, source: str
) -> Calibration:
    """Clean; of several values for one gate the worst counts, and one that is broken above all."""
    raw = Calibration(
        device=device, kind=kind, num_qubits=len(qubits), qubits=tuple(qubits),
        gates=tuple(gates), observed_at=at, source=source,
    )  # fmt: skip
    made = clean(raw)
    worst: dict[tuple[str, tuple[int, ...]], Gate] = {}
    for gate in made.gates:
        old = worst.get((gate.name, gate.qubits))
        if old is None or _badness(gate) > _badness(old):
            worst[gate.name, gate.qubits] = gate
    return Calibration(
        device=made.device, kind=made.kind, num_qubits=made.num_qubits, qubits=made.qubits,
        gates=tuple(worst[key] for key in sorted(worst)), observed_at=made.observed_at,
        source=made.source, repairs=made.repairs,
    )  # fmt: skip


def _badness(gate: Gate) -> float:
    return 2.0 if gate.error is None else gate.error


def _invalid(error: object, expected: str) -> InputError:
    got = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
    return InputError(
        "this is no calibration of Cirq",
        code="calibration-invalid",
        got=got,
        expected=expected,
        fix="pass the noise properties, or processor.get_current_calibration()",
    )
