"""An estimator that mitigates errors only where that is shown to help, and says what it did.

For each circuit, near-Clifford copies with known answers are run under every method; the method
that does best on them is used, or none when the gain is not clear. The shots a figure costs are the
same under every method, so that none looks better by spending more; what the proxies cost is
recorded beside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from qiskit.circuit import ClassicalRegister, QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.quantum_info import SparsePauliOp

from interlock.backends.calibration import Calibration
from interlock.backends.schedule import Timed, alap
from interlock.backends.sources import backend_of, calibration_of
from interlock.errors import InputError
from interlock.guard.execute.proxies import expectation, proxies_of
from interlock.guard.health.probe import twirled
from interlock.guard.health.sentinels import METADATA as SENTINELS
from interlock.guard.health.sentinels import Heard
from interlock.guard.stats.mitigation import (
    Choice,
    choose,
    extrapolate,
    readout_weights,
    shot_mean,
)
from interlock.guard.validate.mitigation import METADATA, Mitigated

__all__ = [
    "METADATA",
    "METHODS",
    "Method",
    "MitigatingEstimator",
    "decoupled",
    "estimate",
    "folded",
]

_FOLDED = frozenset({"cx", "cz"})


class Method(NamedTuple):
    """What is done to a circuit and its counts.

    Attributes:
        scales: factors by which each two-qubit gate is repeated (odd); more than one extrapolates.
        twirls: random frames averaged over.
        decoupled: whether waiting qubits are echoed.
        readout: whether assignment errors are inverted.
    """

    scales: tuple[int, ...] = (1,)
    twirls: int = 1
    decoupled: bool = False
    readout: bool = False

    @property
    def overhead(self) -> int:
        """Circuits run for each circuit."""
        return len(self.scales) * self.twirls


METHODS: dict[str, Method] = {
    "none": Method(),
    "readout": Method(readout=True),
    "zne": Method(scales=(1, 3, 5)),
    "twirling": Method(twirls=4),
    "decoupling": Method(decoupled=True),
    "readout+zne": Method(scales=(1, 3), readout=True),
}


def folded(circuit: QuantumCircuit, scale: int) -> QuantumCircuit:
    """Return the circuit with each cx and cz repeated `scale` times, an odd number.

    Fixed identity insertion (He et al., Phys. Rev. A 102, 012426): the same unitary, with the
    errors of the two-qubit gates about `scale` times as strong.
    """
    if scale == 1:
        return circuit
    made = circuit.copy_empty_like()
    for item in circuit.data:
        if item.operation.name in _FOLDED:
            for step in range(scale):
                if step:
                    made.barrier(item.qubits)
                made.append(item)
        else:
            made.append(item)
    return made


def decoupled(circuit: QuantumCircuit, target: Any) -> QuantumCircuit:
    """Return the circuit with an X-X echo in each wait (Viola and Lloyd, Phys. Rev. A 58, 2733).

    A quarter of the wait, X, half of it, X, a quarter; waits too short for two X stay as they are.
    """
    index = {bit: i for i, bit in enumerate(circuit.qubits)}
    timed = []
    for item in circuit.data:
        where = tuple(index[q] for q in item.qubits)
        timed.append(Timed(where, _duration_us(target, item.operation.name, where)))
    waits: dict[int, list[tuple[int, float]]] = {}
    for after, qubit, gap in alap(timed)[0]:
        waits.setdefault(after, []).append((qubit, gap))
    made = circuit.copy_empty_like()
    for number, item in enumerate(circuit.data):
        made.append(item)
        for qubit, gap in waits.get(number, ()):
            pulse = _duration_us(target, "x", (qubit,))
            rest = gap - 2 * pulse
            if pulse <= 0 or rest < pulse:
                continue
            made.delay(rest / 4, qubit, unit="us")
            made.x(qubit)
            made.delay(rest / 2, qubit, unit="us")
            made.x(qubit)
            made.delay(rest / 4, qubit, unit="us")
    return made


def _duration_us(target: Any, name: str, where: tuple[int, ...]) -> float:
    if name not in target.operation_names:
        return 0.0
    properties = (target[name] or {}).get(where)
    return (getattr(properties, "duration", None) or 0.0) * 1e6


def estimate(
    sampler: Any,
    jobs: Sequence[tuple[QuantumCircuit, SparsePauliOp]],
    method: Method,
    calibration: Calibration,
    target: Any,
    shots: int,
    rng: np.random.Generator,
) -> list[tuple[float, float]]:
    """Return (value, variance) of each observable, all circuits in one job of the sampler.

    Args:
        sampler: runs Qiskit circuits.
        jobs: circuit without measurements, in the device's gates, and observable on its qubits.
        method: what to do.
        calibration: assignment errors of the readout.
        target: the device's Qiskit target.
        shots: of each observable, over everything the method runs.
        rng: of the twirls.
    """
    pubs: list[Any] = []
    plans: list[list[list[tuple[int, int, SparsePauliOp]]]] = []
    for circuit, observable in jobs:
        groups = _groups(observable)
        each = max(8, shots // (method.overhead * max(len(groups), 1)))
        plan = []
        for scale in method.scales:
            row = []
            for group in groups:
                for _ in range(method.twirls):
                    row.append((len(pubs), each, group))
                    made = folded(circuit, scale)
                    if method.twirls > 1:
                        made = twirled(made, target, rng)
                    pubs.append((_measured(made, group, method, target), None, each))
            plan.append(row)
        plans.append(plan)
    results = sampler.run(pubs).result() if pubs else []
    found = []
    for (_, observable), plan in zip(jobs, plans, strict=True):
        offset = _identity(observable)
        points = [_point(results, row, method, calibration) for row in plan]
        if not plan[0]:
            value, variance = 0.0, 0.0
        elif len(points) > 1:
            value, variance = extrapolate(
                method.scales, [v for v, _ in points], [s for _, s in points]
            )
        else:
            value, variance = points[0]
        found.append((offset + value, variance))
    return found


def _identity(observable: SparsePauliOp) -> float:
    return sum(
        float(np.real(c))
        for p, c in zip(observable.paulis.to_labels(), observable.coeffs, strict=True)
        if not p.strip("I")
    )


def _groups(observable: SparsePauliOp) -> list[SparsePauliOp]:
    """Return the terms that can be measured together, without the identity."""
    keep = np.array([bool(p.strip("I")) for p in observable.paulis.to_labels()])
    if not keep.any():
        return []
    rest = SparsePauliOp(observable.paulis[keep], observable.coeffs[keep])
    groups: list[SparsePauliOp] = rest.group_commuting(qubit_wise=True)
    return groups


def _measured(
    circuit: QuantumCircuit, group: SparsePauliOp, method: Method, target: Any
) -> QuantumCircuit:
    from qiskit import transpile

    basis = _basis(group)
    turn = QuantumCircuit(circuit.num_qubits)
    for qubit, letter in basis.items():
        if letter == "Y":
            turn.sdg(qubit)
        if letter in "XY":
            turn.h(qubit)
    made = circuit.copy()
    if turn.data:
        turn = transpile(
            turn, target=target, optimization_level=1, seed_transpiler=0,
            initial_layout=range(circuit.num_qubits),
        )  # fmt: skip
        made.compose(turn, range(circuit.num_qubits), inplace=True)
    register = ClassicalRegister(len(basis), "mitigated")
    made.add_register(register)
    for bit, qubit in enumerate(sorted(basis)):
        made.measure(qubit, register[bit])
    return decoupled(made, target) if method.decoupled else made


def _basis(group: SparsePauliOp) -> dict[int, str]:
    return {
        qubit: letter
        for label in group.paulis.to_labels()
        for qubit, letter in enumerate(reversed(label))
        if letter != "I"
    }


def _point(
    results: Any,
    row: Sequence[tuple[int, int, SparsePauliOp]],
    method: Method,
    calibration: Calibration,
) -> tuple[float, float]:
    """Return value and variance at one scale: sum over groups, mean over twirls."""
    value = variance = 0.0
    for place, _, group in row:
        counts = results[place].data.mitigated.get_counts()
        basis = sorted(_basis(group))
        bits = np.array([[int(b) for b in reversed(key)] for key in counts], dtype=int)
        weights = np.array(
            [
                readout_weights(*_assignment(calibration, q)) if method.readout else (1.0, -1.0)
                for q in basis
            ]
        )
        seen = weights[np.arange(len(basis)), bits]
        each = np.zeros(len(counts))
        bound = 0.0
        for label, coefficient in zip(group.paulis.to_labels(), group.coeffs, strict=True):
            where = [basis.index(q) for q, letter in enumerate(reversed(label)) if letter != "I"]
            each += float(np.real(coefficient)) * seen[:, where].prod(1)
            bound += abs(float(np.real(coefficient))) * float(np.abs(weights[where]).max(1).prod())
        mean, spread = shot_mean(each, np.array(list(counts.values())), bound)
        value += mean / method.twirls
        variance += spread / method.twirls**2
    return value, variance


def _assignment(calibration: Calibration, qubit: int) -> tuple[float, float]:
    values = calibration.qubits[qubit]
    return values.p01 or 0.0, values.p10 or 0.0


class _Listening:
    """A sampler that keeps what the sentinels under it showed."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self._notes: list[Heard] = []
        self._result: Any = None

    def run(self, pubs: Any) -> _Listening:
        self._result = self._sampler.run(pubs).result()
        note = (getattr(self._result, "metadata", None) or {}).get(SENTINELS)
        if isinstance(note, Heard):
            self._notes.append(note)
        return self

    def result(self) -> Any:
        return self._result

    def metadata(self) -> dict[str, Any]:
        if not self._notes:
            return {}
        rows = tuple(row for note in self._notes for row in note.rows)
        skipped = next((note.skipped for note in self._notes if note.skipped), None)
        return {SENTINELS: Heard(device=self._notes[0].device, rows=rows, skipped=skipped)}


class MitigatingEstimator(BaseEstimatorV2):
    """Estimates on a sampler, mitigated where that is shown to help.

    Guard it: `interlock.guard(MitigatingEstimator(sampler))`. What a `SentinelSampler` under it
    shows is passed on.

    Args:
        sampler: runs the circuits; its device must offer a calibration.
        methods: names of `METHODS` to choose from; `none` is always among them.
        proxies: known-answer circuits for each choice, at least 3.
        precision: standard error of an unmitigated figure with bound 1, when `run` does not say.
        rng: of proxies and twirls.
        now: seconds since the epoch, for the calibration.
    """

    def __init__(
        self,
        sampler: Any,
        *,
        methods: Iterable[str] = tuple(METHODS),
        proxies: int = 14,
        precision: float = 0.02,
        rng: np.random.Generator | int | None = None,
        now: float = 0.0,
    ) -> None:
        names = dict.fromkeys(["none", *methods])
        unknown = sorted(set(names) - set(METHODS))
        if unknown or proxies < 3:
            raise InputError(
                "the mitigation cannot be chosen",
                code="mitigation-settings",
                got=f"methods {unknown or list(names)}, {proxies} proxies",
                expected=f"methods of {', '.join(METHODS)}; at least 3 proxies",
                fix="leave the defaults",
            )
        self._sampler = sampler
        self._methods = {name: METHODS[name] for name in names}
        self._proxies, self.default_precision = proxies, precision
        self._rng = np.random.default_rng(rng)
        self._now = now
        self._chosen: dict[Any, Choice] = {}

    @property
    def backend(self) -> Any:
        """The backend of the sampler."""
        return backend_of(self._sampler)

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """Estimate; see `BaseEstimatorV2.run`. `metadata` says what was done to each pub."""
        wanted = self.default_precision if precision is None else precision
        coerced = [EstimatorPub.coerce(p, wanted) for p in pubs]
        job = PrimitiveJob(self._run, coerced)
        job._submit()
        return job

    def _run(self, pubs: list[EstimatorPub]) -> Any:
        calibration = calibration_of(self._sampler, now=self._now)
        target = getattr(self.backend, "target", None)
        if calibration is None or calibration.kind == "ideal" or target is None:
            raise InputError(
                "there is nothing to mitigate, or nothing to go by",
                code="mitigation-device",
                got="no calibration" if calibration is None else calibration.kind,
                expected="a device with a calibration and a target",
                fix="use the estimator without mitigation",
            )
        sampler = _Listening(self._sampler)
        rows = [self._pub(pub, calibration, target, sampler) for pub in pubs]
        note = Mitigated(rows=tuple(row for _, row in rows))
        metadata = {METADATA: note} | sampler.metadata()
        return PrimitiveResult([result for result, _ in rows], metadata=metadata)

    def _pub(
        self, pub: EstimatorPub, calibration: Calibration, target: Any, sampler: _Listening
    ) -> tuple[PubResult, dict[str, Any]]:
        shots = max(16, math.ceil(1 / max(pub.precision, 1e-4) ** 2))
        bound = pub.parameter_values.bind_all(pub.circuit)
        circuits, observables = np.broadcast_arrays(bound, pub.observables)
        jobs = [
            (c, SparsePauliOp.from_list(sorted(o.items())))
            for c, o in zip(circuits.ravel(), observables.ravel(), strict=True)
        ]
        first, wanted = jobs[0]
        key = (_shape(pub.circuit), tuple(wanted.paulis.to_labels()), calibration.id, shots)
        spent = 0
        if key not in self._chosen:
            self._chosen[key], spent = self._choose(
                first, wanted, calibration, target, shots, sampler
            )
        choice = self._chosen[key]
        method = self._methods[choice.method]
        found = estimate(sampler, jobs, method, calibration, target, shots, self._rng)
        evs = np.array([v for v, _ in found]).reshape(pub.shape)
        stds = np.sqrt([s for _, s in found]).reshape(pub.shape)
        limits = [float(np.abs(o.coeffs).sum()) for _, o in jobs]
        beyond = [
            {"index": i, "value": v, "bound": b, "sigmas": (abs(v) - b) / math.sqrt(max(s, 1e-18))}
            for i, ((v, s), b) in enumerate(zip(found, limits, strict=True))
            if abs(v) > b
        ]
        row = {
            **msgspec.to_builtins(choice),
            "shots": shots,
            "circuits_each": method.overhead,
            "choice_shots": spent,
            "unphysical": beyond,
        }
        data = DataBin(evs=evs, stds=stds, shape=pub.shape)
        return PubResult(data, metadata={"mitigation": choice.method, "shots": shots}), row

    def _choose(
        self,
        circuit: QuantumCircuit,
        observable: SparsePauliOp,
        calibration: Calibration,
        target: Any,
        shots: int,
        sampler: _Listening,
    ) -> tuple[Choice, int]:
        made = proxies_of(circuit, observable, self._proxies, self._rng)
        jobs = [(c, observable) for c in made]
        estimates = {
            name: estimate(sampler, jobs, method, calibration, target, shots, self._rng)
            for name, method in self._methods.items()
        }
        truths = [expectation(c, observable) for c in made]
        choice = choose(truths, estimates, {n: m.overhead for n, m in self._methods.items()})
        return choice, shots * len(jobs) * len(self._methods)


def _shape(circuit: QuantumCircuit) -> tuple[Any, ...]:
    """What makes two circuits alike enough to share a choice: gates and places, not angles."""
    index = {bit: i for i, bit in enumerate(circuit.qubits)}
    return tuple(
        (item.operation.name, tuple(index[q] for q in item.qubits)) for item in circuit.data
    )
