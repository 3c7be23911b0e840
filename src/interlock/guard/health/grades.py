"""GREEN, AMBER, RED for qubits, couplings and a device, each with its reasons. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

from interlock.backends.calibration import Calibration
from interlock.guard.control import Settings

__all__ = ["Grade", "Thresholds", "age_hours", "grade", "subjects", "worst"]


class Grade(enum.IntEnum):
    """How fit something is, best first."""

    GREEN = 0
    AMBER = 1
    RED = 2


class Thresholds(Settings, frozen=True, kw_only=True):
    """Where AMBER and RED begin.

    Attributes:
        readout_amber: assignment error of a qubit.
        readout_red: assignment error of a qubit.
        t1_us_amber: relaxation time below this.
        t1_us_red: relaxation time below this.
        t2_us_amber: dephasing time below this.
        t2_us_red: dephasing time below this.
        gate_1q_amber: error of the worst single-qubit gate of a qubit.
        gate_1q_red: error of the worst single-qubit gate of a qubit.
        gate_2q_amber: error of the gate of a coupling.
        gate_2q_red: error of the gate of a coupling.
        value_age_h_amber: age of the oldest value of a qubit or coupling.
        value_age_h_red: age of the oldest value of a qubit or coupling.
    """

    readout_amber: float = 0.05
    readout_red: float = 0.2
    t1_us_amber: float = 30.0
    t1_us_red: float = 5.0
    t2_us_amber: float = 15.0
    t2_us_red: float = 2.0
    gate_1q_amber: float = 0.003
    gate_1q_red: float = 0.03
    gate_2q_amber: float = 0.03
    gate_2q_red: float = 0.15
    value_age_h_amber: float = 168.0
    value_age_h_red: float = 1440.0


def subjects(
    calibration: Calibration,
    qubits: Iterable[int],
    edges: Iterable[tuple[int, int]],
) -> list[dict[str, Any]]:
    """Return the values of some qubits and couplings as plain JSON, for `grade`."""
    found: list[dict[str, Any]] = []
    if calibration.kind in ("ideal", "model") and not calibration.gates:
        return found
    lenient = calibration.kind in ("ideal", "model")
    lost = _lost_times(calibration)
    one: dict[int, list[float | None]] = {}
    for gate in calibration.gates:
        if len(gate.qubits) == 1:
            one.setdefault(gate.qubits[0], []).append(gate.error)
    for index in sorted(set(qubits)):
        if index >= calibration.num_qubits:
            if not lenient:
                found.append({"subject": f"q{index}", "absent": True})
            continue
        qubit = calibration.qubits[index]
        known = [e for e in one.get(index, ()) if e is not None]
        found.append(
            {
                "subject": f"q{index}",
                "operational": qubit.operational,
                "readout": qubit.readout_error,
                "t1_us": qubit.t1_us,
                "t2_us": qubit.t2_us,
                "gate_1q": max(known, default=None),
                "broken": not lenient
                and (
                    qubit.readout_error is None
                    or (bool(one.get(index)) and not known)
                    or (index,) in lost
                ),
                "age_h": None if qubit.age_s is None else qubit.age_s / 3600,
            }
        )
    for low, high in sorted({(min(e), max(e)) for e in edges}):
        edge = calibration.edges.get((low, high))
        if edge is None:
            if not lenient:
                found.append({"subject": f"q{low}-q{high}", "absent": True})
            continue
        found.append(
            {
                "subject": f"q{low}-q{high}",
                "gate_2q": edge.error,
                "broken": edge.error is None or (low, high) in lost,
                "age_h": None if edge.age_s is None else edge.age_s / 3600,
            }
        )
    return found


def _lost_times(calibration: Calibration) -> set[tuple[int, ...]]:
    """Return qubits and couplings of which a time was taken out: their decay cannot be predicted.

    A time that a device never gave is another matter: many do not publish all of them.
    """
    out = {r.where for r in calibration.repairs if r.used is None and r.where.endswith("_us")}
    if not out:
        return set()
    names = ("t1_us", "t2_us", "readout_us")
    found: set[tuple[int, ...]] = {
        (i,) for i in range(calibration.num_qubits) if any(f"q{i}.{n}" in out for n in names)
    }
    for gate in calibration.gates:
        if f"{gate.name}{list(gate.qubits)}.duration_us" in out:
            found.add(tuple(sorted(gate.qubits)))
    return found


_LABELS = {
    "readout": ("readout error", False, "{:.3g}"),
    "t1_us": ("T1", True, "{:.3g} us"),
    "t2_us": ("T2", True, "{:.3g} us"),
    "gate_1q": ("single-qubit gate error", False, "{:.3g}"),
    "gate_2q": ("two-qubit gate error", False, "{:.3g}"),
}


def grade(
    subject: Mapping[str, Any], limits: Thresholds, older_h: float = 0.0
) -> tuple[Grade, list[str]]:
    """Return the grade of one qubit or coupling and the reasons for not being GREEN.

    Args:
        subject: as `subjects` gives it.
        limits: where AMBER and RED begin.
        older_h: hours since the calibration was observed.

    Example:
        >>> grade({"subject": "q0", "readout": 0.3, "t1_us": 90.0}, Thresholds())
        (<Grade.RED: 2>, ['readout error 0.3 (RED from 0.2)'])
    """
    if subject.get("absent"):
        return Grade.RED, ["not on this device"]
    level, reasons = Grade.GREEN, []
    if subject.get("operational") is False:
        level, reasons = Grade.RED, ["the device reports it as faulty"]
    if subject.get("broken"):
        level, reasons = Grade.RED, [*reasons, "no usable calibration"]
    for key, (label, low_is_bad, form) in _LABELS.items():
        value = subject.get(key)
        if value is None:
            continue
        for step in (Grade.RED, Grade.AMBER):
            limit = getattr(limits, f"{key}_{step.name.lower()}")
            if value < limit if low_is_bad else value >= limit:
                side = "below" if low_is_bad else "from"
                reasons.append(
                    f"{label} {form.format(value)} ({step.name} {side} {form.format(limit)})"
                )
                level = max(level, step)
                break
    age = subject.get("age_h")
    if age is not None:
        for step in (Grade.RED, Grade.AMBER):
            limit = getattr(limits, f"value_age_h_{step.name.lower()}")
            if age + older_h >= limit:
                reasons.append(f"value {age + older_h:.0f} h old ({step.name} from {limit:g} h)")
                level = max(level, step)
                break
    return level, reasons


def worst(grades: Iterable[Grade]) -> Grade:
    """Return the worst grade; nothing graded is AMBER, never GREEN."""
    return max(grades, default=Grade.AMBER)


def age_hours(calibration: Calibration, now: float) -> float | None:
    """Return hours since the calibration was observed, or None when it does not say."""
    if calibration.kind == "ideal":
        return 0.0
    return None if calibration.observed_at is None else (now - calibration.observed_at) / 3600
