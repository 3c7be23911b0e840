"""Reading a calibration from what devices and simulators offer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from interlock.backends import braket_source, cirq_source
from interlock.backends.calibration import Calibration, Gate, Qubit, clean
from interlock.backends.ibm_source import from_ibm
from interlock.backends.units import NO_GATE, TO_US, seconds
from interlock.errors import BackendError, InputError

__all__ = ["backend_of", "calibration_of", "from_braket", "from_ibm", "from_target"]

_MOST_QUBITS = 100_000


def from_target(target: Any, *, device: str, at: float | None = None) -> Calibration:
    """Read a Qiskit `Target`. It has no dates, so ages are unknown unless `at` is given."""

    def us(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * 1e6

    width = target.num_qubits or 0
    properties = target.qubit_properties or [None] * width
    measure = target["measure"] if "measure" in target.operation_names else {}
    qubits = []
    for index in range(width):
        own, readout = properties[index], (measure or {}).get((index,))
        error = getattr(readout, "error", None)
        qubits.append(
            Qubit(
                t1_us=us(getattr(own, "t1", None)),
                t2_us=us(getattr(own, "t2", None)),
                p01=error,
                p10=error,
                readout_us=us(getattr(readout, "duration", None)),
            )
        )
    gates = [
        Gate(
            name=name,
            qubits=tuple(where),
            error=getattr(value, "error", None),
            duration_us=us(getattr(value, "duration", None)),
        )
        for name in sorted(target.operation_names)
        if name not in NO_GATE
        for where, value in (target[name] or {}).items()
        if where is not None
    ]
    return clean(
        Calibration(
            device=device,
            kind="device",
            num_qubits=width,
            qubits=tuple(qubits),
            gates=tuple(gates),
            observed_at=at,
            source="qiskit target, no dates",
        )
    )


def _from_noise_model(model: Any, *, device: str, width: int, now: float) -> Calibration:
    """Read an Aer noise model: average gate infidelity of each channel, assignment errors."""
    from qiskit.quantum_info import average_gate_fidelity

    errors: dict[tuple[str, tuple[int, ...]], float] = {}
    for name, error in model._default_quantum_errors.items():
        infidelity = 1.0 - float(average_gate_fidelity(error))
        places = [(q,) for q in range(width)]
        if error.num_qubits == 2:
            places = [(a, b) for a in range(width) for b in range(width) if a != b]  # type: ignore[misc]
        errors |= {(name, place): infidelity for place in places}
    for name, table in model._local_quantum_errors.items():
        for place, error in table.items():
            errors[name, tuple(place)] = 1.0 - float(average_gate_fidelity(error))
    readout = {
        tuple(place): error.probabilities for place, error in model._local_readout_errors.items()
    }
    default = model._default_readout_error
    qubits = []
    for index in range(width):
        table = readout.get((index,), None if default is None else default.probabilities)
        p01, p10 = (0.0, 0.0) if table is None else (float(table[0][1]), float(table[1][0]))
        qubits.append(Qubit(p01=p01, p10=p10, age_s=0.0))
    gates = tuple(
        Gate(name=name, qubits=place, error=max(0.0, value), age_s=0.0)
        for (name, place), value in sorted(errors.items())
        if name not in NO_GATE and max(place, default=0) < width
    )
    return clean(
        Calibration(
            device=device,
            kind="model",
            num_qubits=width,
            qubits=tuple(qubits),
            gates=gates,
            observed_at=now,
            source="aer noise model",
        )
    )


def from_braket(properties: Mapping[str, Any], *, device: str) -> Calibration:
    """Read Braket device properties, as JSON: the `standardized` part, or IonQ's or AQT's own.

    Fidelities become errors; the readout fidelity is taken for both assignment errors. Qubits keep
    the device's numbers; one that is left out between them is not operational. Figures of the
    whole device are taken for each qubit and pair.

    Raises:
        InputError: none of these (`calibration-invalid`).
    """

    def error_of(entries: Iterable[Mapping[str, Any]], *kinds: str) -> float | None:
        for entry in entries:
            kind = entry.get("fidelityType")
            label = kind.get("name") if isinstance(kind, Mapping) else kind
            if label in kinds:
                return 1.0 - float(entry["fidelity"])
        return None

    try:
        whole = braket_source.whole_device(properties)
        if whole is not None:
            service = properties.get("service", {}).get("updatedAt")
            return clean(
                Calibration(
                    device=device, kind="device", num_qubits=len(whole.qubits),
                    qubits=whole.qubits, gates=whole.gates,
                    observed_at=seconds(whole.updated or service), source=braket_source.SOURCE,
                )
            )  # fmt: skip
        standard = properties["standardized"]
        one, two = standard["oneQubitProperties"], standard.get("twoQubitProperties", {})
        names = {label: int(label) for label in sorted(one, key=int)}
        if not all(0 <= i < _MOST_QUBITS for i in names.values()):
            raise ValueError(f"qubit numbers {sorted(names.values())[:8]}")
        updated = seconds(properties.get("service", {}).get("updatedAt"))
        # A circuit keeps the device's numbers; a number that the device leaves out is no qubit.
        qubits = [Qubit(operational=False)] * (max(names.values(), default=-1) + 1)
        gates = []
        for label, index in names.items():
            value = one[label]
            fidelities = value.get("oneQubitFidelity", [])
            readout = error_of(fidelities, "READOUT", "SYMMETRIZED_READOUT")
            times = {
                key: float(value[key]["value"]) * TO_US[value[key].get("unit", "s").lower()]
                for key in ("T1", "T2")
                if key in value
            }
            qubits[index] = Qubit(
                t1_us=times.get("T1"), t2_us=times.get("T2"), p01=readout, p10=readout
            )
            error = error_of(
                fidelities, "RANDOMIZED_BENCHMARKING", "SIMULTANEOUS_RANDOMIZED_BENCHMARKING"
            )
            gates.append(Gate(name="1q", qubits=(index,), error=error))
        for pair, value in two.items():
            first, second = (names[label] for label in pair.split("-"))
            gates += [
                Gate(
                    name=str(entry["gateName"]).lower(),
                    qubits=(first, second),
                    error=1.0 - float(entry["fidelity"]),
                )
                for entry in value["twoQubitGateFidelity"]
            ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "these are no standardised Braket device properties",
            code="calibration-invalid",
            got=f"{type(error).__name__}: {error}",
            expected="standardized properties, or those of IonQ or AQT",
            fix="pass json.loads(device.properties.json())",
        ) from error
    return clean(
        Calibration(
            device=device,
            kind="device",
            num_qubits=len(qubits),
            qubits=tuple(qubits),
            gates=tuple(gates),
            observed_at=updated,
            source="braket standardised properties",
        )
    )


def backend_of(obj: Any) -> Any:
    """Return the backend behind a sampler or estimator, or the object itself."""
    seen: set[int] = set()
    while id(obj) not in seen:
        seen.add(id(obj))
        if hasattr(obj, "calibration"):
            return obj
        for name in ("backend", "_backend", "_mode", "mode"):
            inner = getattr(obj, name, None)
            inner = inner() if callable(inner) and not hasattr(inner, "run") else inner
            if inner is not None and hasattr(inner, "run"):
                obj = inner
                break
    return obj


def _name(backend: Any) -> str:
    name = getattr(backend, "name", None)
    return str(name() if callable(name) else name or type(backend).__name__)


def calibration_of(obj: Any, *, now: float) -> Calibration | None:
    """Return the calibration in force of a backend or sampler, or None when it offers none.

    Order: the object's own `calibration`, IBM `properties()`, an Aer noise model, Braket device
    properties, noise properties or processor metrics of Cirq, a `target` with errors. A
    simulator without noise is `ideal`.

    Args:
        obj: a sampler, an estimator or a backend of any SDK, or a `Calibration`.
        now: seconds since the epoch.

    Raises:
        BackendError: the device failed while it was asked (`calibration-unreadable`).
    """
    if isinstance(obj, Calibration):
        return obj
    backend = backend_of(obj)
    readers: tuple[Callable[[Any, float], Calibration | None], ...] = (
        _own, _ideal, _from_aer, _from_properties, _from_braket_device, _from_cirq,
        _from_backend_target,
    )  # fmt: skip
    try:
        for reader in readers:
            found = reader(backend, now)
            if found is not None:
                return found
    except InputError:
        raise
    except Exception as error:
        raise BackendError(
            "the device's calibration cannot be read",
            code="calibration-unreadable",
            got=f"{type(error).__name__}: {error}",
            expected=f"a calibration of {_name(backend)}",
            fix="try again later, or set backend.calibration = Calibration.from_json(...)",
        ) from error
    return None


#: Exact simulators of SDKs that offer no calibration: module prefix and class name prefixes.
_IDEAL = (
    ("qiskit.primitives", "Statevector"),
    ("qiskit.providers.basic_provider", "BasicSimulator"),
    ("pennylane.devices", "Default"),
    ("pennylane.devices", "NullQubit"),
    ("pennylane_lightning", "Lightning"),
    ("braket.devices.local_simulator", "LocalSimulator"),
    ("cirq.sim", "Simulator"),
    ("cirq.sim", "DensityMatrixSimulator"),
    ("cirq.sim", "CliffordSimulator"),
)


def _ideal(backend: Any, now: float) -> Calibration | None:
    kind = type(backend)
    if not any(kind.__module__.startswith(m) and kind.__name__.startswith(c) for m, c in _IDEAL):
        return None
    if "Mixed" in kind.__name__ and getattr(backend, "readout_err", None):
        return None
    if getattr(backend, "_noise_model", None) is not None:  # Braket's local simulator
        return None
    noise = getattr(backend, "noise", None)  # Cirq's simulators have one, by default that of none
    if noise is not None and type(noise).__name__ != "_NoNoiseModel":
        return None
    return Calibration(
        device=_name(backend), kind="ideal", num_qubits=0, qubits=(), gates=(),
        observed_at=now, source="simulator without noise",
    )  # fmt: skip


#: Where Qiskit's own simulations of dated snapshots live (`FakeManilaV2` and its like).
_SHIPPED = "qiskit_ibm_runtime.fake_provider"


def _own(backend: Any, _now: float) -> Calibration | None:
    own = getattr(backend, "calibration", None)
    own = own() if callable(own) else own
    return own if isinstance(own, Calibration) else None


def _from_properties(backend: Any, _now: float) -> Calibration | None:
    properties = getattr(backend, "properties", None)
    if not callable(properties):
        return None
    value = properties()
    to_dict = getattr(value, "to_dict", None)
    shipped = any(k.__module__.startswith(_SHIPPED) for k in type(backend).__mro__)
    kind = "snapshot" if shipped else "device"
    return from_ibm(to_dict(), device=_name(backend), kind=kind) if callable(to_dict) else None


def _from_braket_device(backend: Any, now: float) -> Calibration | None:
    if not any(cls.__module__.startswith("braket.") for cls in type(backend).__mro__):
        return None
    kind = str(getattr(getattr(backend, "type", None), "value", ""))
    if kind == "SIMULATOR":
        return Calibration(
            device=_name(backend), kind="ideal", num_qubits=0, qubits=(), gates=(),
            observed_at=now, source="simulator without noise",
        )  # fmt: skip
    read = getattr(getattr(backend, "properties", None), "json", None)
    found = json.loads(read()) if callable(read) else {}
    known = found.get("standardized") or braket_source.whole_device(found)
    return from_braket(found, device=_name(backend)) if known else None


def _from_cirq(backend: Any, now: float) -> Calibration | None:
    return cirq_source.read(backend, now, device=_name(backend))


def _from_aer(backend: Any, now: float) -> Calibration | None:
    options = getattr(backend, "options", None)
    if not type(backend).__module__.startswith("qiskit_aer") or options is None:
        return None
    width = int(getattr(backend, "num_qubits", 0) or 0)
    model = getattr(options, "noise_model", None)
    if model is None or model.is_ideal():
        return Calibration(
            device=_name(backend), kind="ideal", num_qubits=0, qubits=(), gates=(),
            observed_at=now, source="simulator without noise",
        )  # fmt: skip
    touched = [q + 1 for q in model.noise_qubits]
    return _from_noise_model(
        model, device=_name(backend), width=max(touched, default=min(width, 32)), now=now
    )


def _from_backend_target(backend: Any, _now: float) -> Calibration | None:
    target = getattr(backend, "target", None)
    if target is None or not getattr(target, "num_qubits", None):
        return None
    made = from_target(target, device=_name(backend))
    known = any(g.error is not None for g in made.gates)
    return made if known else None
