"""Braket devices that publish figures of the whole device instead of each coupling (IonQ, AQT).

The mean stands for every qubit and pair: an estimate, and said in the calibration's source. It
cannot show a single bad ion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from interlock.backends.calibration import Gate, Qubit

__all__ = ["SOURCE", "Whole", "whole_device"]

SOURCE = "braket figures of the whole device, taken for each qubit and pair"
_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_MOST_QUBITS = 1000


class Whole(NamedTuple):
    """What was read: qubits, gates (`1q`, `2q`) and when the device says it was measured."""

    qubits: tuple[Qubit, ...]
    gates: tuple[Gate, ...]
    updated: str | None


def whole_device(properties: Mapping[str, Any]) -> Whole | None:
    """Read figures of the whole device, or return None when there are none or finer ones.

    Args:
        properties: of a Braket device, as JSON: version 3 of the standardised part, or the
            provider's own part of IonQ or AQT.

    Raises:
        KeyError, TypeError, ValueError: a part is there but not in its form.
    """
    standard = properties.get("standardized") or {}
    if standard.get("twoQubitProperties"):
        return None
    found = _standard(standard) or _provider(properties.get("provider") or {})
    if found is None:
        return None
    paradigm = properties.get("paradigm") or {}
    each = found.pop("each")
    labels = sorted(int(k) for k in each)
    width = max(int(paradigm.get("qubitCount") or 0), labels[-1] + 1 if labels else 0)
    if not 0 < width <= _MOST_QUBITS or (labels and labels[0] < 0):
        raise ValueError(f"{width} qubits")
    there = set(labels) or set(range(width))
    qubit = Qubit(
        t1_us=found["t1_us"], t2_us=found["t2_us"], p01=found["readout"], p10=found["readout"],
        readout_us=found["readout_us"],
    )  # fmt: skip
    gates = [
        Gate(
            name="1q", qubits=(q,), error=_first(each.get(str(q)), found["one"]),
            duration_us=found["one_us"],
        )
        for q in sorted(there)
    ]  # fmt: skip
    gates += [
        Gate(name="2q", qubits=pair, error=found["two"], duration_us=found["two_us"])
        for pair in _pairs(paradigm.get("connectivity") or {}, there)
    ]
    qubits = tuple(qubit if q in there else Qubit(operational=False) for q in range(width))
    return Whole(qubits, tuple(gates), found["updated"])


def _first(*values: float | None) -> float | None:
    return next((v for v in values if v is not None), None)


def _pairs(connectivity: Mapping[str, Any], there: set[int]) -> Iterable[tuple[int, int]]:
    graph = connectivity.get("connectivityGraph") or {}
    if connectivity.get("fullyConnected", True) or not graph:
        return itertools.combinations(sorted(there), 2)
    found = {(min(a, b), max(a, b)) for k, v in graph.items() for a, b in _ends(k, v)}
    return sorted(p for p in found if there.issuperset(p) and p[0] != p[1])


def _ends(label: str, others: Iterable[str]) -> Iterable[tuple[int, int]]:
    return [(int(label), int(other)) for other in others]


def _standard(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Version 3 of the standardised properties."""
    two = _error(part.get("twoQubitGateFidelity"))
    if two is None:
        return None
    own = part.get("oneQubitProperties") or {}
    return {
        "each": {k: _error(v.get("oneQubitFidelity")) for k, v in own.items()},
        "one": _error(part.get("singleQubitFidelity")),
        "two": two,
        "readout": _error(part.get("readoutFidelity")),
        "t1_us": _time(part.get("T1")),
        "t2_us": _time(part.get("T2")),
        "one_us": _time(part.get("singleQubitGateDuration")),
        "two_us": _time(part.get("twoQubitGateDuration")),
        "readout_us": _time(part.get("readoutDuration")),
        "updated": part.get("updatedAt"),
    }


def _error(entries: Iterable[Mapping[str, Any]] | None) -> float | None:
    return next((1.0 - float(e["fidelity"]) for e in entries or ()), None)


def _time(value: Mapping[str, Any] | None) -> float | None:
    return None if not value else float(value["value"]) * _US[str(value.get("unit", "s")).lower()]


def _provider(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """The provider's own properties: IonQ's means (seconds), AQT's characterisation (per cent)."""
    if "fidelity" in part:
        mean = {k: 1.0 - float(v["mean"]) for k, v in part["fidelity"].items()}
        us = {k: float(v) * 1e6 for k, v in (part.get("timing") or {}).items()}
        return {
            "each": {}, "one": mean.get("1Q"), "two": mean.get("2Q"), "readout": mean.get("spam"),
            "t1_us": us.get("T1"), "t2_us": us.get("T2"), "one_us": us.get("1Q"),
            "two_us": us.get("2Q"), "readout_us": us.get("readout"), "updated": None,
        }  # fmt: skip
    own = part.get("properties") or {}
    if "mean_two_qubit_gate_fidelity" not in own:
        return None
    single = own["single_qubit_gate_fidelity"]
    return {
        "each": {k: 1.0 - float(v["value"]) / 100 for k, v in single.items()},
        "one": None,
        "two": 1.0 - float(own["mean_two_qubit_gate_fidelity"]["value"]) / 100,
        "readout": 1.0 - float(own["spam_fidelity_lower_bound"]) / 100,
        "t1_us": float(own["t1_s"]["value"]) * 1e6,
        "t2_us": float(own["t2_coherence_time_s"]["value"]) * 1e6,
        "one_us": float(own["single_qubit_gate_duration_micros"]),
        "two_us": float(own["two_qubit_gate_duration_micros"]),
        "readout_us": float(own["readout_time_micros"]),
        "updated": own.get("updated_at"),
    }
