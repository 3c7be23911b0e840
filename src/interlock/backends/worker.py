"""What runs inside the confined child: rebuild the simulator, run, give bytes back.

The zygote calls `prepare` once for each device and set of qubits, so that the child finds the
noise model made. A payload is `length, JSON, QPY, float64 values`; the QPY is written by our own
parent and read here, never a stranger's.
"""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from typing import Any

import msgspec
import numpy as np

from interlock.errors import BackendError, InputError

__all__ = ["pack", "prepare", "sample", "unpack", "warm_up"]

_KEPT = 16
_made: OrderedDict[str, Any] = OrderedDict()


def pack(header: dict[str, Any], *blobs: bytes) -> bytes:
    """Join a JSON header and blobs.

    Example:
        >>> unpack(pack({"a": 1}, b"xy", b"z"))
        ({'a': 1}, [b'xy', b'z'])
    """
    line = msgspec.json.encode({**header, "_sizes": [len(b) for b in blobs]})
    return b"".join((len(line).to_bytes(4, "big"), line, *blobs))


def unpack(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Split what `pack` joined.

    Raises:
        BackendError: it is not that (`worker-message`).
    """
    try:
        size = int.from_bytes(data[:4], "big")
        header = msgspec.json.decode(data[4 : 4 + size], type=dict[str, Any])
        sizes = msgspec.convert(header.pop("_sizes"), list[int])
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise _message(str(error)) from error
    if any(n < 0 for n in sizes) or 4 + size + sum(sizes) != len(data):
        raise _message(f"{len(data)} bytes, sizes {sizes}"[:200])
    blobs, at = [], 4 + size
    for length in sizes:
        blobs.append(data[at : at + length])
        at += length
    return header, blobs


def _message(got: str) -> BackendError:
    return BackendError(
        "a message between the process and its worker is malformed",
        code="worker-message",
        got=got,
        expected="length, JSON and blobs of the sizes it names",
        fix="treat the worker as broken; report it if it recurs",
    )


def warm_up() -> None:
    """Import what jobs need and run one small job, so that children import nothing.

    Nothing here may start a thread pool (a transpiler pass starts one): a forked child would wait
    for its threads for ever.
    """
    from qiskit import QuantumCircuit

    from interlock.backends.calibration import Calibration, Gate, Qubit
    from interlock.backends.twins import Twin, TwinSampler, TwinSpec

    warnings.simplefilter("ignore")
    qubits = tuple(Qubit(t1_us=100.0, t2_us=90.0, p01=0.01, p10=0.02) for _ in range(2))
    gates = (
        Gate(name="sx", qubits=(0,), error=1e-3, duration_us=0.1),
        Gate(name="sx", qubits=(1,), error=1e-3, duration_us=0.1),
        Gate(name="cx", qubits=(0, 1), error=1e-2, duration_us=0.3),
        Gate(name="rz", qubits=(0,), error=0.0, duration_us=0.0),
        Gate(name="rz", qubits=(1,), error=0.0, duration_us=0.0),
    )
    small = Twin(
        TwinSpec(
            reported=Calibration(
                device="w", kind="twin", num_qubits=2, qubits=qubits, gates=gates, observed_at=0.0
            )
        )
    )
    circuit = QuantumCircuit(2)
    circuit.sx(0)
    circuit.cx(0, 1)
    circuit.cx(0, 1)
    circuit.sx(1)
    circuit.measure_all()
    TwinSampler(small, seed=1).run([circuit], shots=16).result()
    _round_trip(circuit)


def _round_trip(circuit: Any) -> None:
    from qiskit import qpy

    buffer = io.BytesIO()
    qpy.dump([circuit], buffer)
    buffer.seek(0)
    qpy.load(buffer)


def prepare(payload: bytes) -> bytes:
    """Build a simulator and its noise model and keep them; runs in the zygote itself.

    The payload is the client's own description of its device, not a stranger's.
    """
    header, blobs = unpack(payload)
    backend = _made.get(header["id"])
    if backend is None:
        backend = _build(header["kind"], blobs[0])
        _made[header["id"]] = backend
        if len(_made) > _KEPT:
            _made.popitem(last=False)
    for qubits in header["qubits"]:
        if header["kind"] == "twin":
            backend.prepare(qubits)
    return b""


def _build(kind: str, spec: bytes) -> Any:
    if kind == "twin":
        from interlock.backends.twins import Twin, TwinSpec

        return Twin(TwinSpec.from_json(spec))
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel

    options = msgspec.json.decode(spec, type=dict[str, Any])
    noise = options.pop("noise_model")
    model = NoiseModel.from_dict(_complex(noise)) if noise else None
    return AerSimulator(noise_model=model, **options)


def _complex(value: Any) -> Any:
    if isinstance(value, list):
        return [_complex(v) for v in value]
    if isinstance(value, dict):
        if value.keys() == {"__complex__"}:
            array = np.array(value["__complex__"])
            return array[..., 0] + 1j * array[..., 1]
        return {k: _complex(v) for k, v in value.items()}
    return value


def _load(payload: bytes) -> tuple[dict[str, Any], Any, list[Any], list[np.ndarray[Any, Any]]]:
    from qiskit import qpy

    header, blobs = unpack(payload)
    backend = _made.get(header["id"])
    if backend is None:
        raise InputError(
            "the worker has not been prepared for this device",
            code="worker-unprepared",
            got=str(header["id"])[:80],
            expected="a device it was prepared for",
            fix="use ConfinedSampler, which prepares it",
        )
    circuits = qpy.load(io.BytesIO(blobs[0]))
    values = [np.frombuffer(b, dtype=np.float64) for b in blobs[1:]]
    return header, backend, circuits, values


def _bindings(circuit: Any, pub: dict[str, Any], values: np.ndarray[Any, Any]) -> Any:
    names = [p.name for p in circuit.parameters]
    if not names:
        return None
    if sorted(names) != sorted(pub["parameters"]):
        raise _message(f"parameters {names}")
    return {tuple(pub["parameters"]): values.reshape(*pub["shape"], len(names))}


def _sampler(backend: Any, seed: int | None) -> Any:
    from interlock.backends.twins import Twin, TwinSampler

    if isinstance(backend, Twin):
        return TwinSampler(backend, seed=seed)
    from qiskit_aer.primitives import SamplerV2

    return SamplerV2.from_backend(backend, seed=seed)


def sample(payload: bytes) -> bytes:
    """Run sampler pubs and return packed bits."""
    header, backend, circuits, values = _load(payload)
    pubs = [
        (c, _bindings(c, p, v), p["shots"])
        for c, p, v in zip(circuits, header["pubs"], values, strict=True)
    ]
    result = _sampler(backend, header["seed"]).run(pubs).result()
    described, blobs = [], []
    for pub in result:
        registers = []
        for name, bits in pub.data.items():
            array = np.ascontiguousarray(bits.array)
            registers.append({"name": name, "bits": bits.num_bits, "shape": list(array.shape)})
            blobs.append(array.tobytes())
        described.append({"registers": registers, "shape": list(pub.data.shape)})
    return pack({"pubs": described}, *blobs)
