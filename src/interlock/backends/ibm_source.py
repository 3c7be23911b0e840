"""Calibrations in IBM's form: the JSON of `BackendProperties`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from interlock.backends.calibration import Calibration, Gate, Qubit, clean
from interlock.backends.units import NO_GATE, TO_US, seconds
from interlock.errors import InputError

__all__ = ["from_ibm"]


class _Ages:
    """Ages relative to the time a calibration was observed; the oldest of several counts."""

    def __init__(self, observed_at: float) -> None:
        self._at = observed_at
        self._dates: list[float] = []

    def add(self, date: Any) -> None:
        found = seconds(date)
        if found is not None:
            self._dates.append(found)

    @property
    def oldest(self) -> float | None:
        return self._at - min(self._dates) if self._dates else None


def from_ibm(
    properties: Mapping[str, Any],
    *,
    device: str = "",
    kind: str = "device",
    at: float | None = None,
) -> Calibration:
    """Read IBM backend properties (the JSON of `BackendProperties`).

    Args:
        properties: the JSON, dates as ISO text or datetime.
        device: name; that of the properties by default.
        kind: `device` or `twin`.
        at: when it was observed; the vendor's own last update by default.

    Raises:
        InputError: not such properties (`calibration-invalid`).
    """
    try:
        updated = seconds(properties["last_update_date"])
        reference = updated or 0.0
        qubits = tuple(_ibm_qubit(q, reference) for q in properties["qubits"])
        gates = tuple(
            g for g in (_ibm_gate(g, reference) for g in properties["gates"]) if g is not None
        )
        name = device or str(properties["backend_name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "these are no IBM backend properties",
            code="calibration-invalid",
            got=f"{type(error).__name__}: {error}",
            expected="qubits, gates and last_update_date",
            fix="pass backend.properties().to_dict()",
        ) from error
    return clean(
        Calibration(
            device=name,
            kind=kind,
            num_qubits=len(qubits),
            qubits=qubits,
            gates=gates,
            observed_at=updated if at is None else at,
            source=f"ibm properties of {properties['last_update_date']}",
        )
    )


def _ibm_qubit(values: Iterable[Mapping[str, Any]], reference: float) -> Qubit:
    ages, found = _Ages(reference), {}
    for value in values:
        name = value["name"]
        scale = TO_US.get(value.get("unit", ""), 1.0) if name in ("T1", "T2") else 1.0
        if name == "readout_length":
            scale = TO_US.get(value.get("unit", "ns"), 1e-3)
        found[name] = float(value["value"]) * scale
        if name in ("T1", "T2", "readout_error", "prob_meas0_prep1", "prob_meas1_prep0"):
            ages.add(value.get("date"))
    error = found.get("readout_error")
    return Qubit(
        t1_us=found.get("T1"),
        t2_us=found.get("T2"),
        p01=found.get("prob_meas1_prep0", error),
        p10=found.get("prob_meas0_prep1", error),
        readout_us=found.get("readout_length"),
        age_s=ages.oldest,
        operational=found.get("operational", 1.0) != 0.0,
    )


def _ibm_gate(value: Mapping[str, Any], reference: float) -> Gate | None:
    if value["gate"] in NO_GATE:
        return None
    ages, found = _Ages(reference), {}
    for parameter in value["parameters"]:
        name = parameter["name"]
        scale = TO_US.get(parameter.get("unit", "ns"), 1e-3) if name == "gate_length" else 1.0
        found[name] = float(parameter["value"]) * scale
        if name == "gate_error":
            ages.add(parameter.get("date"))
    return Gate(
        name=str(value["gate"]),
        qubits=tuple(int(q) for q in value["qubits"]),
        error=found.get("gate_error"),
        duration_us=found.get("gate_length"),
        age_s=ages.oldest,
    )
