"""A device twin: Aer with the noise of a calibration, usable wherever Qiskit takes a backend.

A twin reports one calibration and behaves by another (`truth`), the same unless a test or a
benchmark makes them differ: drift, a dead qubit, a lie. It accepts only circuits in the device's
own gates on the device's own couplings, as the device would. Only the qubits a circuit uses are
simulated.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.primitives import (
    BackendEstimatorV2,
    BaseSamplerV2,
    DataBin,
    PrimitiveJob,
    PrimitiveResult,
    SamplerPubLike,
    SamplerPubResult,
)
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, Options, QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from interlock.backends.calibration import Calibration
from interlock.backends.noise import VIRTUAL, noise_model, relaxation, scaled
from interlock.backends.schedule import Timed, alap
from interlock.backends.snapshots import snapshot
from interlock.errors import BackendError, InputError

__all__ = ["Twin", "TwinEstimator", "TwinSampler", "TwinSpec", "twin"]

_ALWAYS = frozenset({"measure", "reset", "delay", "barrier"})
_CONTROL = frozenset({"if_else", "for_loop", "while_loop", "switch_case", "break_loop"})
_MODELS = 32
#: Circuits of one job must not share their random numbers.
_STRIDE = 1_000_003
#: Up to this width density matrices are simulated exactly; beyond, trajectories.
EXACT_QUBITS = 7


class TwinSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All a worker needs to rebuild a twin.

    Attributes:
        reported: the calibration the twin shows.
        truth: the calibration it behaves by; None for the same.
        idle: whether waiting qubits decay.
        coherent_rad: over-rotation about x on both qubits after each two-qubit gate.
        detuning_khz: frequency error of waiting qubits, which turns them about z.
        ignore_seed: behave like a device that takes a seed and does not use it.
    """

    reported: Calibration
    truth: Calibration | None = None
    idle: bool = True
    coherent_rad: float = 0.0
    detuning_khz: float = 0.0
    ignore_seed: bool = False

    def to_json(self) -> bytes:
        """Return canonical JSON."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> TwinSpec:
        """Read what `to_json` wrote."""
        return msgspec.json.decode(data, type=cls)


class Twin(BackendV2):
    """A simulated device with a calibration.

    Args:
        spec: what it shows and how it behaves.
    """

    def __init__(self, spec: TwinSpec) -> None:
        super().__init__(name=f"twin_{spec.reported.device}", backend_version=spec.reported.id)
        self.spec = spec
        self._truth = _both_ways(spec.truth or spec.reported)
        self._target = _target(_both_ways(spec.reported))
        self._models: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    @property
    def calibration(self) -> Calibration:
        """The calibration the twin reports."""
        return self.spec.reported

    @property
    def target(self) -> Target:
        """Gates, couplings, errors and durations as reported."""
        return self._target

    @property
    def max_circuits(self) -> None:
        """No limit."""
        return

    @classmethod
    def _default_options(cls) -> Options:
        return Options(shots=1024, seed_simulator=None, memory=False)

    def prepare(self, qubits: Iterable[int]) -> Any:
        """Return the noise model of these qubits, built once."""
        key = tuple(sorted(qubits))
        if key not in self._models:
            self._models[key] = noise_model(
                self._truth.restricted(key), exact=len(key) <= EXACT_QUBITS
            )
            if len(self._models) > _MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._models[key]

    def probabilities(self, circuit: QuantumCircuit) -> dict[str, float]:
        """Return the exact distribution of the counts, register bits as in `get_counts`.

        For circuits on at most seven qubits without conditions, whose measurements come last on
        their qubits and fill one register.

        Raises:
            InputError: it is no such circuit (`circuit-not-exact`), or not in the device's own
                instructions (`circuit-not-isa`).
        """
        used = used_qubits(circuit)
        place = {q: i for i, q in enumerate(used)}
        index = {bit: i for i, bit in enumerate(circuit.qubits)}
        clbit = {bit: i for i, bit in enumerate(circuit.clbits)}
        measured: dict[int, int] = {}
        fits = 0 < len(used) <= EXACT_QUBITS and len(circuit.cregs) == 1
        for item in circuit.data:
            where = [index[q] for q in item.qubits]
            if item.operation.name == "measure":
                measured[where[0]] = clbit[item.clbits[0]]
            elif item.operation.name != "barrier":
                fits = fits and not measured.keys() & set(where) and not item.clbits
        if not fits or sorted(measured.values()) != list(range(len(circuit.clbits))):
            raise InputError(
                "the circuit has no exact distribution here",
                code="circuit-not-exact",
                got=f"{len(used)} qubits, {len(measured)} measured, {len(circuit.clbits)} bits",
                expected=f"1 to {EXACT_QUBITS} qubits, one register, each bit measured once, last",
                fix="take a narrower circuit; measure_all() measures as expected",
            )
        small = self.compact(circuit, used)
        bare = small.copy_empty_like()
        for item in small.data:
            if item.operation.name != "measure":
                bare.append(item)
        order = sorted(measured, key=lambda q: measured[q])
        bare.save_probabilities([place[q] for q in order])
        done = self._simulator(used).run(bare, shots=1, seed_simulator=0).result()
        values = np.asarray(done.data(0)["probabilities"]).reshape((2,) * len(order))
        for axis, qubit in enumerate(reversed(order)):
            read = self._truth.qubits[qubit]
            p01, p10 = read.p01 or 0.0, read.p10 or 0.0
            mix = np.array([[1 - p01, p10], [p01, 1 - p10]])
            values = np.moveaxis(np.tensordot(mix, values, (1, axis)), 0, axis)
        flat = np.clip(values.ravel(), 0.0, None)
        return {
            format(i, f"0{len(order)}b"): float(p) for i, p in enumerate(flat / flat.sum()) if p > 0
        }

    def run(self, run_input: Any, **options: Any) -> Any:
        """Run circuits and return an Aer job."""
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        used = sorted({q for c in circuits for q in used_qubits(c)})
        simulator = self._simulator(tuple(used))
        seed = options.pop("seed_simulator", self.options.seed_simulator)
        fixed = {"shots": self.options.shots, "memory": self.options.memory} | {
            k: v for k, v in options.items() if k in ("shots", "memory")
        }
        return simulator.run(
            [self.compact(c, used) for c in circuits], seed_simulator=self._seed(seed), **fixed
        )

    def _seed(self, seed: int | None) -> int | None:
        return None if self.spec.ignore_seed else seed

    def _simulator(self, used: tuple[int, ...]) -> Any:
        from qiskit_aer import AerSimulator

        return AerSimulator(**simulator_options(used, self.prepare(used)))

    def compact(self, circuit: QuantumCircuit, used: Sequence[int]) -> QuantumCircuit:
        """Return the circuit on the used qubits alone, with the noise of waiting put in.

        Raises:
            InputError: an instruction the device does not have (`circuit-not-isa`).
        """
        place = {q: i for i, q in enumerate(used)}
        index = {bit: i for i, bit in enumerate(circuit.qubits)}
        truth = self._truth
        made = QuantumCircuit(len(used), name=circuit.name, metadata=circuit.metadata)
        made.add_bits(circuit.clbits)
        for register in circuit.cregs:
            made.add_register(register)
        steps: list[tuple[Any, tuple[int, ...], Any]] = []
        timed: list[Timed] = []
        for item in circuit.data:
            where = tuple(index[q] for q in item.qubits)
            if item.operation.name == "barrier":
                where = tuple(q for q in where if q in place)
            steps.append((item.operation, where, item.clbits))
            timed.append(Timed(where, self._check(item.operation, where)))
        waits: dict[int, list[tuple[int, float]]] = {}
        if self.spec.idle:
            for after, qubit, gap in alap(timed)[0]:
                waits.setdefault(after, []).append((qubit, gap))
        for number, (operation, where, clbits) in enumerate(steps):
            if operation.name == "barrier":
                made.barrier([place[q] for q in where])
            else:
                made.append(operation, [place[q] for q in where], clbits, copy=False)
            if self.spec.coherent_rad and len(where) == 2 and operation.name not in _ALWAYS:
                for qubit in where:
                    made.rx(self.spec.coherent_rad, place[qubit])
            if operation.name == "delay":
                gap = timed[number].duration_us
                waits.setdefault(number, []).append((where[0], gap))
            for qubit, gap in waits.get(number, ()):
                values = truth.qubits[qubit]
                if self.spec.detuning_khz:
                    made.rz(2e-3 * math.pi * self.spec.detuning_khz * gap, place[qubit])
                channel = relaxation(
                    values.t1_us, values.t2_us, round(gap, 3), exact=len(used) <= EXACT_QUBITS
                )
                if channel is not None:
                    made.append(channel.to_instruction(), [place[qubit]])
        return made

    def _check(self, operation: Any, where: tuple[int, ...]) -> float:
        name = operation.name
        if any(q >= self._truth.num_qubits for q in where):
            raise _not_isa(f"{name} on {where}", f"qubits below {self._truth.num_qubits}")
        if name == "delay":
            seconds = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
            return float(operation.duration) * seconds.get(operation.unit, 1e-3)
        if name == "measure":
            return self._truth.qubits[where[0]].readout_us or 0.0
        if name in _ALWAYS or name in _CONTROL:
            return 0.0
        gate = self._truth.gate_table.get((name, where))
        if gate is None:
            raise _not_isa(f"{name} on {where}", "a gate the device has on these qubits")
        if gate.error is None and name not in VIRTUAL:
            raise _not_isa(f"{name} on {where}", "a gate with a usable calibration")
        return gate.duration_us or 0.0


def _not_isa(got: str, expected: str) -> InputError:
    return InputError(
        "the circuit is not written in the device's own instructions",
        code="circuit-not-isa",
        got=got,
        expected=expected,
        fix="transpile(circuit, backend) first",
    )


def used_qubits(circuit: QuantumCircuit) -> tuple[int, ...]:
    """Return the indices of the qubits that something other than a barrier acts on."""
    index = {bit: i for i, bit in enumerate(circuit.qubits)}
    return tuple(
        sorted({index[q] for i in circuit.data if i.operation.name != "barrier" for q in i.qubits})
    )


def simulator_options(used: Sequence[int], model: Any) -> dict[str, Any]:
    """Return Aer options: exact density matrices to 7 qubits, trajectories beyond; one thread."""
    return {
        "noise_model": model,
        "method": "density_matrix" if len(used) <= EXACT_QUBITS else "automatic",
        "max_parallel_threads": 1,
    }


def _both_ways(calibration: Calibration) -> Calibration:
    """Give each cx its other direction, where a snapshot lists only one: Qiskit cannot turn it."""
    listed = {g.qubits for g in calibration.gates if g.name == "cx"}
    missing = tuple(
        msgspec.structs.replace(g, qubits=g.qubits[::-1])
        for g in calibration.gates
        if g.name == "cx" and g.qubits[::-1] not in listed
    )
    if not missing:
        return calibration
    return msgspec.structs.replace(calibration, gates=calibration.gates + missing)


def _target(calibration: Calibration) -> Target:
    properties = [
        QubitProperties(
            t1=None if q.t1_us is None else q.t1_us * 1e-6,
            t2=None if q.t2_us is None else q.t2_us * 1e-6,
        )
        for q in calibration.qubits
    ]
    target = Target(num_qubits=calibration.num_qubits, qubit_properties=properties)
    known = get_standard_gate_name_mapping()
    names = sorted({g.name for g in calibration.gates} & known.keys())
    for name in names:
        places = {
            g.qubits: InstructionProperties(
                duration=None if g.duration_us is None else g.duration_us * 1e-6, error=g.error
            )
            for g in calibration.gates
            if g.name == name
            and (g.error is not None or name in VIRTUAL)
            and all(calibration.qubits[q].operational for q in g.qubits)
        }
        if places:
            target.add_instruction(known[name], places)
    everywhere = {(q,): None for q in range(calibration.num_qubits)}
    target.add_instruction(
        known["measure"],
        {
            (i,): InstructionProperties(
                duration=(q.readout_us or 0.0) * 1e-6, error=q.readout_error
            )
            for i, q in enumerate(calibration.qubits)
        },
    )
    target.add_instruction(known["reset"], dict(everywhere))
    target.add_instruction(known["delay"], dict(everywhere))
    if "rz" not in target.operation_names:
        target.add_instruction(known["rz"], dict(everywhere))
    return target


def twin(
    name: str,
    *,
    noise_scale: float = 1.0,
    age_s: float = 0.0,
    now: float | None = None,
    coherent_rad: float = 0.0,
    idle: bool = True,
) -> Twin:
    """Return a twin of an IBM snapshot.

    Args:
        name: snapshot, for instance `manila` or `fake_sherbrooke`.
        noise_scale: the twin behaves by errors this many times as strong as it reports.
        age_s: how long ago the calibration was observed. The ages the values had at the time of
            the snapshot come on top.
        now: seconds since the epoch; the clock by default.
        coherent_rad: see `TwinSpec`.
        idle: see `TwinSpec`.
    """
    moment = time.time() if now is None else now
    reported = msgspec.structs.replace(snapshot(name), observed_at=moment - age_s)
    truth = scaled(reported, noise_scale) if noise_scale != 1.0 else None
    return Twin(TwinSpec(reported=reported, truth=truth, idle=idle, coherent_rad=coherent_rad))


class TwinSampler(BaseSamplerV2):
    """A sampler on a twin.

    Args:
        backend: the twin.
        default_shots: when neither `run` nor the pub says.
        seed: same seed, same counts; None for a fresh seed each run.
    """

    def __init__(
        self, backend: Twin, *, default_shots: int = 1024, seed: int | None = None
    ) -> None:
        self._backend = backend
        self._shots = default_shots
        self._seed = seed

    @property
    def backend(self) -> Twin:
        """The twin."""
        return self._backend

    @property
    def seed(self) -> int | None:
        """The seed each run uses."""
        return self._seed

    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        """Run and return a job whose result is a `PrimitiveResult`."""
        coerced = [SamplerPub.coerce(p, self._shots if shots is None else shots) for p in pubs]
        job = PrimitiveJob(self._run, coerced)
        job._submit()
        return job

    def _run(self, pubs: list[SamplerPub]) -> PrimitiveResult[SamplerPubResult]:
        return PrimitiveResult(
            [self._run_pub(p, i) for i, p in enumerate(pubs)], metadata={"version": 2}
        )

    def _run_pub(self, pub: SamplerPub, index: int) -> SamplerPubResult:
        from qiskit_aer import AerError
        from qiskit_aer.primitives import SamplerV2

        used = used_qubits(pub.circuit)
        if not used:
            raise _not_isa("a circuit without operations", "at least one operation")
        options = simulator_options(used, self._backend.prepare(used))
        seed = self._backend._seed(self._seed)
        sampler = SamplerV2(
            seed=None if seed is None else (seed + index * _STRIDE) % 2**63,
            options={"backend_options": options},
        )
        small = SamplerPub(
            self._backend.compact(pub.circuit, used), pub.parameter_values, pub.shots
        )
        try:
            done = sampler.run([small]).result()[0]
        except AerError as error:
            raise BackendError(
                "the simulator cannot run this device's noise",
                code="twin-simulation",
                got=" ".join(str(error).split())[:200],
                expected="a circuit that Aer can simulate with the noise of the device",
                fix="take a narrower circuit",
            ) from error
        data: DataBin = done.data
        return SamplerPubResult(data, metadata={"shots": pub.shots})


class TwinEstimator(BackendEstimatorV2):
    """An estimator on a twin: Qiskit's own, by sampling."""

    def __init__(self, backend: Twin, *, precision: float = 0.02, seed: int | None = None) -> None:
        super().__init__(
            backend=backend, options={"default_precision": precision, "seed_simulator": seed}
        )
