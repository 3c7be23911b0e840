"""What a device can run, as far as preflight asks: gates and where, faults, age, limits."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from interlock.circuits.gates import ALIASES, CONTROL_FLOW

__all__ = ["Places", "Target", "from_calibration", "target_of"]

#: Qubits a gate is calibrated on -> its length in seconds, or None where that is not known.
Places: TypeAlias = Mapping[tuple[int, ...], float | None]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A device as preflight sees it.

    Attributes:
        name: of the device.
        num_qubits: width, or None when only memory limits it.
        gates: operation -> where it works; None as a place means everywhere. None as a whole means
            that the device (a simulator) takes any gate.
        faulty_qubits: qubits the provider reports as out of order.
        faulty_edges: pairs reported as out of order, in both directions.
        calibrated_at: ISO 8601 time of the calibration, or None for a simulator.
        mid_circuit: whether it can go on after a measurement.
        cycle_s: length of one device cycle (`dt`).
    """

    name: str
    num_qubits: int | None = None
    gates: Mapping[str, Places | None] | None = None
    faulty_qubits: frozenset[int] = frozenset()
    faulty_edges: frozenset[tuple[int, int]] = frozenset()
    calibrated_at: str | None = None
    mid_circuit: bool = True
    cycle_s: float | None = None

    def places(self, name: str) -> Places | None:
        """Return where an operation works; an empty mapping where it does not exist."""
        if self.gates is None:
            return None
        return self.gates.get(name, {})


_CACHE: weakref.WeakKeyDictionary[Any, tuple[Any, Target]] = weakref.WeakKeyDictionary()


def target_of(backend: Any) -> Target:
    """Return the summary of a backend of any SDK; one that tells nothing takes any gate.

    The summary of a Qiskit backend is kept until the backend has another `target` object, which is
    what a refreshed calibration gives it.
    """
    if isinstance(backend, Target):
        return backend
    summary = getattr(backend, "interlock_target", None)
    if isinstance(summary, Target):
        return summary
    if type(backend).__module__.startswith("qiskit_aer"):
        # Aer runs any gate it knows, and makes its target anew each time it is asked for.
        width = backend.configuration().n_qubits
        return Target(name=_name(backend), num_qubits=width if width > 0 else None)
    native = getattr(backend, "target", None)
    if not hasattr(native, "operation_names"):
        width = getattr(backend, "num_qubits", None)
        return Target(name=_name(backend), num_qubits=width if isinstance(width, int) else None)
    try:
        kept = _CACHE.get(backend)
        if kept is not None and kept[0] is native:
            return kept[1]
        made = _from_qiskit(backend, native)
        _CACHE[backend] = (native, made)
    except TypeError:
        made = _from_qiskit(backend, native)
    return made


def _name(backend: Any) -> str:
    name = getattr(backend, "name", None)
    return name if isinstance(name, str) and name else type(backend).__name__


def _from_qiskit(backend: Any, native: Any) -> Target:
    width = native.num_qubits
    width = width if isinstance(width, int) and width > 0 else None
    gates: dict[str, Places | None] = {}
    for name in native.operation_names:
        table = native[name]
        if name in CONTROL_FLOW or table is None or None in table:
            gates[ALIASES.get(name, name)] = None
            continue
        gates[ALIASES.get(name, name)] = {
            tuple(where): getattr(properties, "duration", None)
            for where, properties in table.items()
        }
    if "delay" in gates:
        gates["delay_dt"] = gates["delay"]
    qubits, edges, at = _faults(backend)
    return Target(
        name=_name(backend),
        num_qubits=width,
        gates=gates,
        faulty_qubits=qubits,
        faulty_edges=edges,
        calibrated_at=at,
        cycle_s=native.dt,
    )


def _faults(backend: Any) -> tuple[frozenset[int], frozenset[tuple[int, int]], str | None]:
    read = getattr(backend, "properties", None)
    properties = read() if callable(read) else None
    if properties is None:
        return frozenset(), frozenset(), None
    edges: set[tuple[int, int]] = set()
    for gate in properties.faulty_gates():
        if len(gate.qubits) == 2:
            a, b = gate.qubits
            edges |= {(a, b), (b, a)}
    at = properties.last_update_date
    return (
        frozenset(properties.faulty_qubits()),
        frozenset(edges),
        at.isoformat() if hasattr(at, "isoformat") else None,
    )


def from_calibration(calibration: Any) -> Target:
    """Return the summary of a calibration (`interlock.backends.Calibration`).

    A gate without an error value is one the vendor reported as broken; those couplings and the
    qubits that are not operational are faults. Virtual rotations work everywhere, and so do reset,
    delay and control flow on classical bits.
    """
    from datetime import UTC, datetime

    gates: dict[str, Places | None] = {}
    tables: dict[str, dict[tuple[int, ...], float | None]] = {}
    broken: set[tuple[int, int]] = set()
    for gate in calibration.gates:
        name = ALIASES.get(gate.name, gate.name)
        length = None if gate.duration_us is None else gate.duration_us * 1e-6
        tables.setdefault(name, {})[gate.qubits] = length
        if gate.error is None and len(gate.qubits) == 2:
            a, b = gate.qubits
            broken |= {(a, b), (b, a)}
    gates.update(tables)
    readout: dict[tuple[int, ...], float | None] = {
        (i,): None if q.readout_us is None else q.readout_us * 1e-6
        for i, q in enumerate(calibration.qubits)
    }
    gates["measure"] = readout
    for name in ("rz", "reset", "delay", "delay_dt", "id", "if_else", "for_loop", "switch_case"):
        gates.setdefault(name, None)
    at = calibration.observed_at
    return Target(
        name=calibration.device,
        num_qubits=calibration.num_qubits,
        gates=gates,
        faulty_qubits=frozenset(i for i, q in enumerate(calibration.qubits) if not q.operational),
        faulty_edges=frozenset(broken),
        calibrated_at=None if at is None else datetime.fromtimestamp(at, UTC).isoformat(),
    )
