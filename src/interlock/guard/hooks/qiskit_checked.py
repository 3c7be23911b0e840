"""Qiskit's results made anew from what is checked: what rides along in them stays behind.

A device's result may hold more than counts and expectation values: further fields, metadata, raw
memory. No control looks at these, so they are not handed over. The neutral form and the result
that is released are made from the same arrays; the names of what was left out are on record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
from qiskit.primitives import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.result import Result as QiskitResult
from qiskit.result.models import ExperimentResult, ExperimentResultData

from interlock.circuits.faces import of_sdk
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks.common import stripped, wrong_result
from interlock.guard.result import Estimates, Result, Samples

__all__ = ["neutral"]

#: What the metadata of a circuit's result holds anyway, made from what was asked for.
_OWN = frozenset({"shots", "target_precision", "circuit_metadata", "version"})


def neutral(
    native: Any,
    kind: str,
    programs: Sequence[Program],
    seconds: float,
    *,
    seed: int | None = None,
    level: str = "none",
    extra: Mapping[str, Any] = {},
) -> Result:
    """Return a native result in the form of no SDK, beside the native result made anew from it.

    Raises:
        InputError: the device or the fallback returned something that is no such result.
    """
    dropped: list[str] = []
    try:
        if kind == "run":
            items, made = _backend(native, programs, dropped)
        else:
            items, made = _primitive(native, kind, programs, dropped)
    except InputError:
        raise
    except Exception as error:
        raise wrong_result(native, error) from error
    return Result(
        items=tuple(items),
        native=made,
        seconds=seconds,
        seed=seed,
        level=level,
        extra={**extra, **stripped(dropped)},
    )


def _primitive(
    native: Any, kind: str, programs: Sequence[Program], dropped: list[str]
) -> tuple[list[Samples | Estimates], PrimitiveResult[Any]]:
    if len(native) != len(programs):
        raise IndexError(f"{len(native)} results for {len(programs)} circuits")
    read = _sampled if kind == "sample" else _estimated
    pairs = [read(native[i], i, p, dropped) for i, p in enumerate(programs)]
    given = dict(getattr(native, "metadata", None) or {})
    # Sentinels and mitigation leave their notes here for the controls of later stages.
    notes = {k: v for k, v in given.items() if of_sdk(type(v), "interlock")}
    dropped += [f"metadata.{name}" for name in given if name not in {*notes, *_OWN}]
    return [item for item, _ in pairs], PrimitiveResult(
        [pub for _, pub in pairs], metadata={"version": 2, **notes}
    )


def _sampled(
    pub: Any, index: int, program: Program, dropped: list[str]
) -> tuple[Samples, SamplerPubResult]:
    known = {register.name for register in program.native.cregs}
    counts: dict[str, list[dict[str, int]]] = {}
    widths: dict[str, int] = {}
    bits: dict[str, BitArray] = {}
    shape: tuple[int, ...] = ()
    for name, given in pub.data.items():
        if name not in known or not isinstance(given, BitArray):
            dropped.append(f"{index}.data.{name}")
            continue
        if given.array.dtype != np.uint8:
            raise ValueError(f"register {name} holds {given.array.dtype}, not bits")
        bits[name] = made = BitArray(np.array(given.array, copy=True), int(given.num_bits))
        widths[name], shape = made.num_bits, made.shape
        rows = made.array.reshape(-1, *made.array.shape[-2:])
        counts[name] = [_counts(row, made.num_bits) for row in rows]
    own = {"shots": program.shots, "circuit_metadata": program.native.metadata}
    return Samples(registers=counts, widths=widths, shots=program.shots), SamplerPubResult(
        DataBin(**bits, shape=shape), metadata=own | _told(pub, index, dropped)
    )


def _estimated(
    pub: Any, index: int, program: Program, dropped: list[str]
) -> tuple[Estimates, PubResult]:
    values = _real(pub.data.evs)
    data = {"evs": values}
    given = getattr(pub.data, "stds", None)
    errors = np.zeros_like(values)
    if given is not None:
        data["stds"] = errors = np.broadcast_to(_real(given), values.shape).copy()
    dropped += [f"{index}.data.{name}" for name in pub.data if name not in ("evs", "stds")]
    # An exact estimator says 0.0.
    own = {
        "target_precision": program.precision or 0.0,
        "circuit_metadata": program.native.metadata,
    }
    return Estimates(
        values=values.ravel().tolist(), errors=errors.ravel().tolist(), shape=values.shape
    ), PubResult(DataBin(**data, shape=values.shape), metadata=own | _told(pub, index, dropped))


def _told(pub: Any, index: int, dropped: list[str]) -> dict[str, Any]:
    """Return what Interlock's own mitigation says of a circuit; all else stays behind."""
    given = dict(getattr(pub, "metadata", None) or {})
    method = given.pop("mitigation", None)
    dropped += [f"{index}.metadata.{name}" for name in given if name not in _OWN]
    return {"mitigation": method[:40]} if isinstance(method, str) else {}


def _real(given: Any) -> Any:
    """Return a copy of an array of real numbers.

    Raises:
        ValueError: a number has an imaginary part.
    """
    array = np.asarray(given)
    if array.dtype.kind == "c":
        if not (array.imag == 0).all():
            raise ValueError("numbers with an imaginary part")
        array = array.real
    return np.array(array, dtype=float)


def _backend(
    native: Any, programs: Sequence[Program], dropped: list[str]
) -> tuple[list[Samples | Estimates], QiskitResult]:
    results = list(native.results)
    if len(results) != len(programs):
        raise IndexError(f"{len(results)} experiments for {len(programs)} circuits")
    if native.success is False or any(r.success is False for r in results):
        raise ValueError(f"the device says that it failed: {native.status!s:.200}")
    items: list[Samples | Estimates] = []
    made = []
    for index, (given, program) in enumerate(zip(results, programs, strict=True)):
        circuit = program.native
        counts = {k.replace(" ", ""): int(v) for k, v in native.get_counts(index).items()}
        items.append(
            Samples(
                registers={"c": [counts]}, widths={"c": circuit.num_clbits}, shots=program.shots
            )
        )
        data: dict[str, Any] = {"counts": {hex(int(k, 2)): v for k, v in counts.items()}}
        memory = getattr(given.data, "memory", None)
        if memory is not None:
            data["memory"] = _memory(memory, counts)
        also = vars(given.data).keys() - {"counts", "memory"}
        dropped += [f"{index}.data.{n}" for n in sorted(also) if not n.startswith("_")]
        dropped += [f"{index}.{name}" for name in ("metadata",) if hasattr(given, name)]
        made.append(
            ExperimentResult(
                shots=program.shots,
                success=True,
                data=ExperimentResultData(**data),
                status="DONE",
                header=_header(circuit),
            )
        )
    dropped += ["metadata"] if getattr(native, "metadata", None) else []
    return items, QiskitResult(results=made, success=True, status="COMPLETED")


def _memory(given: Any, counts: Mapping[str, int]) -> list[str]:
    """Return the outcomes shot by shot.

    Raises:
        ValueError: they are not those that were counted.
    """
    shots = [int(shot, 16) for shot in given]
    if Counter(shots) != Counter({int(k, 2): n for k, n in counts.items() if n}):
        raise ValueError("the memory is of other shots than the counts")
    return [hex(shot) for shot in shots]


def _header(circuit: Any) -> dict[str, Any]:
    return {
        "name": circuit.name,
        "memory_slots": circuit.num_clbits,
        "creg_sizes": [[r.name, r.size] for r in circuit.cregs],
        "n_qubits": circuit.num_qubits,
        "qreg_sizes": [[r.name, r.size] for r in circuit.qregs],
        "metadata": circuit.metadata,
    }


#: Registers up to this width are counted by a table of all their outcomes.
NARROW = 12


@lru_cache(maxsize=NARROW)
def _names(width: int) -> tuple[str, ...]:
    """Return the bit strings of all outcomes of a register."""
    return tuple(format(k, f"0{width}b") for k in range(1 << width))


def _counts(packed: Any, width: int) -> dict[str, int]:
    """Count the outcomes of one array of packed bits, (shots, bytes), most significant first."""
    if 0 < width <= NARROW and packed.shape[-1] == (width + 7) // 8:
        numbers = packed[:, -1]
        if packed.shape[-1] == 2:
            numbers = numbers + (packed[:, 0].astype(np.uint16) << 8)
        table = np.bincount(numbers, minlength=1 << width).tolist()
        if len(table) == 1 << width:
            return dict(zip(compress(_names(width), table), filter(None, table), strict=True))
    if packed.shape[-1] > 8:
        outcomes, counts = np.unique(packed, axis=0, return_counts=True)
        keys: Iterable[int] = [int.from_bytes(row.tobytes(), "big") for row in outcomes]
    else:
        wide = np.zeros((packed.shape[0], 8), np.uint8)
        wide[:, 8 - packed.shape[1] :] = packed
        numbers, counts = np.unique(wide.view(">u8").ravel(), return_counts=True)
        keys = numbers.tolist()
    return {format(k, f"0{width}b"): c for k, c in zip(keys, counts.tolist(), strict=True)}
