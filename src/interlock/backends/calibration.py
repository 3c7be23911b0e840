"""The calibration in force: what a device says of itself, cleaned, with the age of every value.

Sources: IBM properties, a Qiskit `Target`, an Aer noise model, Braket and Cirq properties, and a
generic JSON (this class's own form). Values that cannot be physics are taken out or bounded,
and each such repair is listed; a missing value is None and never a good one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from interlock.errors import InputError

__all__ = ["Calibration", "Gate", "Qubit", "Repair", "clean"]

VERSION = 1
_MAX_BYTES = 64 * 1024 * 1024
_MAX_NAME = 200
_KINDS = ("device", "twin", "snapshot", "model", "ideal")
#: Names devices use for the same gate.
_SAME: Mapping[str, tuple[str, ...]] = {
    "U": ("U", "u", "u3"), "u3": ("u3", "U", "u"), "u": ("u", "U", "u3"), "u2": ("u2", "u"),
    "cx": ("cx", "cnot"),
}  # fmt: skip


class Qubit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One qubit. None means that the device gives no usable value.

    Attributes:
        t1_us: relaxation time.
        t2_us: dephasing time, at most 2 T1.
        p01: probability of reading 1 after preparing 0.
        p10: probability of reading 0 after preparing 1.
        readout_us: duration of a measurement.
        age_s: age of the oldest of these values when the calibration was observed.
        operational: False when the device reports the qubit as faulty.
    """

    t1_us: float | None = None
    t2_us: float | None = None
    p01: float | None = None
    p10: float | None = None
    readout_us: float | None = None
    age_s: float | None = None
    operational: bool = True

    @property
    def readout_error(self) -> float | None:
        """Mean of the two assignment errors."""
        if self.p01 is None or self.p10 is None:
            return None
        return (self.p01 + self.p10) / 2


class Gate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One gate on its qubits, in the order of its arguments."""

    name: str
    qubits: tuple[int, ...]
    error: float | None = None
    duration_us: float | None = None
    age_s: float | None = None


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A value that could not be right, and what stands in its place."""

    where: str
    got: float
    used: float | None
    why: str


def age_text(kind: str | None, age_h: float | None) -> str:
    """Return how old a calibration is in the words of job lines and reports, "" when unknown.

    Example:
        >>> age_text("device", 2.04), age_text("model", 0.0)
        ('calibration 2.0 h old', 'noise model without dates')
    """
    undated = {
        "ideal": "simulator without noise",
        "model": "noise model without dates",
        "snapshot": "simulated snapshot",
    }
    if kind in undated:
        return undated[kind]
    if not isinstance(age_h, int | float):
        return ""
    return f"{'twin, ' if kind == 'twin' else ''}calibration {age_h:.1f} h old"


class Calibration(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A device's calibration, frozen.

    Attributes:
        device: name of the device.
        kind: `device`, `twin` (simulated from a snapshot as if it were new), `snapshot` (a vendor's
            simulation of a device as it was on a date), `model` (a simulator's noise model:
            what it does not list has no noise) or `ideal` (a noiseless simulator).
        num_qubits: width.
        observed_at: seconds since the epoch when it was read, or None when unknown.
        source: where it came from, with the time the vendor gives.
        repairs: broken values that were taken out or bounded.

    Example:
        >>> made = Calibration(device="lab", kind="device", num_qubits=1, observed_at=0.0,
        ...                    qubits=(Qubit(t1_us=100.0, age_s=60.0),), gates=())
        >>> Calibration.from_json(made.to_json()) == made
        True
        >>> made.age_s(now=30.0)
        90.0
    """

    device: str
    kind: str
    num_qubits: int
    qubits: tuple[Qubit, ...]
    gates: tuple[Gate, ...]
    observed_at: float | None = None
    source: str = ""
    repairs: tuple[Repair, ...] = ()
    version: int = VERSION

    @cached_property
    def id(self) -> str:
        """Identity: 16 hex digits of the SHA-256 of the content."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    @cached_property
    def gate_table(self) -> Mapping[tuple[str, tuple[int, ...]], Gate]:
        """Gates by name and qubits."""
        return {(g.name, g.qubits): g for g in self.gates}

    @cached_property
    def edges(self) -> Mapping[tuple[int, int], Gate]:
        """The best two-qubit gate of each unordered pair; one with no error value comes last."""
        best: dict[tuple[int, int], Gate] = {}
        for gate in self.gates:
            if len(gate.qubits) == 2:
                low, high = sorted(gate.qubits)
                old = best.get((low, high))
                if old is None or _rank(gate) < _rank(old):
                    best[low, high] = gate
        return best

    @cached_property
    def oldest_s(self) -> float | None:
        """Age of the oldest value when observed; None when the device gives no times."""
        ages = [q.age_s for q in self.qubits] + [g.age_s for g in self.gates]
        return max((a for a in ages if a is not None), default=None)

    def age_s(self, now: float, qubits: Iterable[int] | None = None) -> float | None:
        """Return the age now of the oldest value in use, or None when it is unknown.

        Args:
            now: seconds since the epoch.
            qubits: only values of these qubits and of gates among them; None means all.
        """
        if self.kind == "ideal":
            return 0.0
        if self.observed_at is None:
            return None
        if qubits is None:
            oldest = self.oldest_s
        else:
            wanted = frozenset(qubits)
            values = [self.qubits[q].age_s for q in wanted if q < self.num_qubits]
            values += [g.age_s for g in self.gates if wanted.issuperset(g.qubits)]
            oldest = max((a for a in values if a is not None), default=None)
        return now - self.observed_at + (oldest or 0.0)

    def gate_error(self, name: str, qubits: tuple[int, ...]) -> Gate | None:
        """Return the gate, under another name or order of the same pair if need be, or None."""
        table = self.gate_table
        for other in _SAME.get(name, (name,)):
            for place in (qubits, qubits[::-1]):
                if (other, place) in table:
                    return table[other, place]
        # Devices that give one figure for all gates of a width.
        if len(qubits) == 2:
            return table.get(("2q", qubits)) or table.get(("2q", qubits[::-1]))
        return table.get(("1q", qubits)) if len(qubits) == 1 else None

    def restricted(self, qubits: Iterable[int]) -> Calibration:
        """Return the calibration of these qubits alone, renumbered in the order given.

        Repairs name the qubits of the whole device and are left out.
        """
        order = list(qubits)
        place = {q: i for i, q in enumerate(order)}
        gates = tuple(
            msgspec.structs.replace(g, qubits=tuple(place[q] for q in g.qubits))
            for g in self.gates
            if all(q in place for q in g.qubits)
        )
        return msgspec.structs.replace(
            self, num_qubits=len(order), gates=gates, qubits=tuple(self.qubits[q] for q in order),
            repairs=(),
        )  # fmt: skip

    def to_json(self) -> bytes:
        """Return canonical JSON: the same bytes for the same calibration."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes | str) -> Calibration:
        """Read the generic JSON form and clean it.

        Raises:
            InputError: not this form, or inconsistent (`calibration-invalid`).
        """
        if len(data) > _MAX_BYTES:
            raise _invalid(f"{len(data)} bytes", f"at most {_MAX_BYTES} bytes")
        try:
            raw = msgspec.json.decode(data, type=cls)
            json.loads(data, object_pairs_hook=_distinct)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _invalid(str(error), "a calibration in the generic JSON form") from error
        for text in (raw.device, raw.source):
            # it names the device's evidence, and is printed on terminals and in reports
            if len(text) > _MAX_NAME or not text.isprintable():
                raise _invalid(f"{text[:80]!r}", f"at most {_MAX_NAME} printable characters")
        return clean(raw)


def _distinct(members: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a member twice: a decoder takes the last and says nothing."""
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        raise ValueError(f"a member that stands twice in {sorted(set(names))!s:.80}")


def _rank(gate: Gate) -> float:
    return math.inf if gate.error is None else gate.error


def _invalid(got: str, expected: str) -> InputError:
    return InputError(
        "the calibration cannot be read",
        code="calibration-invalid",
        got=got,
        expected=expected,
        fix="see docs/reference/health.md, section Calibration",
    )


def clean(raw: Calibration) -> Calibration:
    """Return the calibration with broken values taken out or bounded, each listed as a repair.

    A gate error outside [0, 1), an assignment error outside [0, 1], a T1 or T2 that is not a
    positive number become None. T2 above 2 T1 is not physics and becomes 2 T1. Of a gate that is
    listed twice the worse entry is kept.

    Raises:
        InputError: qubit or gate indices do not fit the width, or no such kind
            (`calibration-invalid`).
    """
    if raw.version != VERSION:
        raise _invalid(f"version {raw.version}", f"version {VERSION}")
    if raw.kind not in _KINDS:
        raise _invalid(f"kind {raw.kind!r}", f"one of {', '.join(_KINDS)}")
    if raw.kind == "ideal" and (raw.qubits or raw.gates):
        raise _invalid("kind 'ideal' with values of qubits or gates", "a noiseless simulator")
    if len(raw.qubits) != raw.num_qubits:
        raise _invalid(f"{len(raw.qubits)} qubits listed", f"{raw.num_qubits}")
    repairs = list(raw.repairs)

    def bounded(
        where: str, value: float | None, low: float, high: float, why: str, *, top: bool = True
    ) -> float | None:
        if value is None:
            return None
        if math.isfinite(value) and low <= value and (value <= high if top else value < high):
            return value
        got = value if math.isfinite(value) else -1.0
        repairs.append(Repair(where=where, got=got, used=None, why=why))
        return None

    qubits = []
    for index, qubit in enumerate(raw.qubits):
        where = f"q{index}"
        t1 = bounded(f"{where}.t1_us", qubit.t1_us, 1e-6, 1e9, "not a positive time")
        t2 = bounded(f"{where}.t2_us", qubit.t2_us, 1e-6, 1e9, "not a positive time")
        if t1 is not None and t2 is not None and t2 > 2 * t1 * (1 + 1e-9):
            repairs.append(Repair(where=f"{where}.t2_us", got=t2, used=2 * t1, why="T2 above 2 T1"))
            t2 = 2 * t1
        qubits.append(
            Qubit(
                t1_us=t1,
                t2_us=t2,
                p01=bounded(f"{where}.p01", qubit.p01, 0, 1, "not a probability"),
                p10=bounded(f"{where}.p10", qubit.p10, 0, 1, "not a probability"),
                readout_us=bounded(f"{where}.readout_us", qubit.readout_us, 0, 1e9, "not a time"),
                age_s=bounded(f"{where}.age_s", qubit.age_s, -86400, 1e11, "not an age"),
                operational=qubit.operational,
            )
        )
    gates: dict[tuple[str, tuple[int, ...]], Gate] = {}
    for gate in raw.gates:
        if any(not 0 <= q < raw.num_qubits for q in gate.qubits):
            raise _invalid(f"{gate.name} on {gate.qubits}", f"qubits below {raw.num_qubits}")
        if len({*gate.qubits}) < len(gate.qubits):
            raise _invalid(f"{gate.name} on {gate.qubits}", "each qubit once")
        where = f"{gate.name}{list(gate.qubits)}"
        made = Gate(
            name=gate.name,
            qubits=gate.qubits,
            error=bounded(f"{where}.error", gate.error, 0, 1, "no gate error", top=False),
            duration_us=bounded(f"{where}.duration_us", gate.duration_us, 0, 1e9, "no time"),
            age_s=bounded(f"{where}.age_s", gate.age_s, -86400, 1e11, "not an age"),
        )
        old = gates.get((made.name, made.qubits))
        if old is not None:
            better, made = sorted((old, made), key=_rank)
            if better.error is not None and better.error != made.error:
                repairs.append(
                    Repair(where=f"{where}.error", got=better.error, used=made.error,
                           why="listed twice")
                )  # fmt: skip
        gates[made.name, made.qubits] = made
    return msgspec.structs.replace(
        raw, qubits=tuple(qubits), gates=tuple(gates.values()), repairs=tuple(repairs)
    )
