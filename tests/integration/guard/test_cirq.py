"""Guarded Cirq samplers: ordinary results in, ordinary results out, the whole path between."""

import copy
import pickle
from typing import Any

import cirq
import duet
import pytest
import sympy

import interlock
from interlock.errors import DeniedError, InputError
from interlock.guard.explain import explain
from interlock.guard.record import recorded

A, B = cirq.LineQubit.range(2)
BELL = cirq.Circuit(cirq.H(A), cirq.CNOT(A, B), cirq.measure(A, B, key="m"))
NOISY = cirq.DensityMatrixSimulator(noise=cirq.depolarize(0.1))


@pytest.fixture
def guarded(policy: Any, home: Any) -> Any:
    def make(sampler: Any = None, **options: Any) -> Any:
        return interlock.guard(
            sampler or cirq.Simulator(seed=3), policy=policy, home=home, **options
        )

    return make


def test_a_sampler_gives_what_it_would_have_given_and_a_receipt(guarded: Any, home: Any) -> None:
    plain = cirq.Simulator(seed=3).run(BELL, repetitions=100)
    sampler = guarded()
    result = sampler.run(BELL, repetitions=100)
    assert isinstance(sampler, cirq.Sampler)
    assert isinstance(result, cirq.Result)
    assert result == plain
    assert (result.interlock["outcome"], result.interlock["mode"]) == ("RELEASE", "ADVISORY")
    with recorded(home) as ledger:
        story = explain(ledger, result.interlock["id"])
    assert story["job"]["backend"] == "cirq.Simulator"
    run = next(s for s in story["stages"] if s["stage"] == "execute")["controls"][-1]
    counts = run["evidence"]["items"][0]["registers"]["m"]["counts"][0]["all"]
    assert counts == {format(k, "02b")[::-1]: n for k, n in plain.histogram(key="m").items()}


def test_sweeps_and_batches_are_one_job_each(guarded: Any) -> None:
    sampler = guarded()
    jobs: list[Any] = []
    sampler.interlock.guard.observers.append(jobs.append)
    t = sympy.Symbol("t")
    turned = cirq.Circuit(cirq.rx(t)(A), cirq.measure(A, key="m"))
    sweep = sampler.run_sweep(turned, cirq.Points("t", [0.0, 3.141592653589793]), repetitions=20)
    assert [r.histogram(key="m") for r in sweep] == [{0: 20}, {1: 20}]
    batch = sampler.run_batch([BELL, turned], [None, {"t": 0.0}], repetitions=[5, 7])
    assert [[r.repetitions for r in rs] for rs in batch] == [[5], [7]]
    assert [len(j.job.circuits) for j in jobs] == [1, 2]
    assert jobs[0].job.circuits[0].bindings == 2
    assert jobs[0].job.total_shots == 40
    receipt = duet.run(sampler.run_async, BELL, None, 5).interlock
    assert receipt["outcome"] == "RELEASE"
    assert {f["name"] for f in receipt["intervals"]} <= {"m p(00)", "m p(11)"}
    assert all(f["low"] <= f["value"] <= f["high"] for f in receipt["intervals"])
    assert len(sampler.sample(BELL, repetitions=3)) == 3
    (value,) = sampler.sample_expectation_values(cirq.Circuit(cirq.H(A)), cirq.X(A), num_samples=9)
    assert value == [1.0]


def test_a_refused_job_raises_and_nothing_runs(guarded: Any, policy: Any) -> None:
    ran: list[int] = []

    class Watched(cirq.Sampler):
        def run_sweep(self, program: Any, params: Any, repetitions: int = 1) -> Any:
            ran.append(1)
            return cirq.Simulator().run_sweep(program, params, repetitions)

    policy["admit"]["budget"] = {"max_shots_per_job": 50}
    with pytest.raises(DeniedError) as caught:
        guarded(Watched()).run(BELL, repetitions=51)
    assert caught.value.receipt.rule == "admit.budget.shots-per-job"
    with pytest.raises(DeniedError, match=r"verify\.target\.no-measurement"):
        guarded(Watched()).run(cirq.Circuit(cirq.H(A)), repetitions=5)
    with pytest.raises(InputError) as unbound:
        guarded(Watched()).run(cirq.Circuit(cirq.rx(sympy.Symbol("t"))(A), cirq.measure(A)))
    assert unbound.value.code == "circuit-unbound"
    assert not ran


def test_a_device_without_calibration_falls_back_and_says_so(guarded: Any) -> None:
    answers = {"function": lambda circuits: [{"00": 30, "11": 20} for _ in circuits],
               "sampler": cirq.Simulator(seed=1)}  # fmt: skip
    for fallback in answers.values():
        result = guarded(NOISY, fallback=fallback).run(BELL, repetitions=50)
        assert result.interlock["outcome"] == "FALLBACK"
        assert set(result.histogram(key="m")) == {0, 3}
    with pytest.raises(DeniedError, match=r"release\.baseline\.none"):
        guarded(NOISY).run(BELL, repetitions=50)
    with pytest.raises(DeniedError, match="fallback-answer"):
        guarded(NOISY, fallback=lambda _: [{"00": 3}]).run(BELL, repetitions=50)
    with pytest.raises(InputError) as caught:
        guarded(fallback=NOISY).run(BELL, repetitions=50)
    assert caught.value.code == "fallback-quantum"


def test_a_seeded_fallback_of_a_sweep_gets_bound_circuits(guarded: Any) -> None:
    seen: list[Any] = []

    def answer(circuits: Any) -> Any:
        seen.extend(circuits)
        return [cirq.Simulator(seed=1).run(c, repetitions=5) for c in circuits]

    turned = cirq.Circuit(cirq.rx(sympy.Symbol("t"))(A), cirq.measure(A, key="m"))
    results = guarded(NOISY, fallback=answer).run_sweep(turned, [{"t": 0.0}, {"t": 0.1}], 5)
    assert [r.interlock["outcome"] for r in results] == ["FALLBACK"] * 2
    assert not any(cirq.is_parameterized(c) for c in seen)


def test_what_runs_is_what_was_checked(guarded: Any) -> None:
    class Late(cirq.Sampler):
        def run_sweep(self, program: Any, params: Any, repetitions: int = 1) -> Any:
            mutable.clear_operations_touching([A, B], range(len(mutable)))
            return cirq.Simulator(seed=3).run_sweep(program, params, repetitions)

        noise = cirq.NO_NOISE
        calibration = None

    mutable = BELL.copy()
    result = guarded(Late(), fallback=lambda c: [{"00": 9} for _ in c]).run(mutable, repetitions=9)
    assert result.interlock["outcome"] == "FALLBACK"  # it offers no calibration
    assert len(mutable) == len(BELL)


def test_what_would_go_round_the_guard_is_not_passed_on(guarded: Any) -> None:
    sampler = guarded()
    with pytest.raises(AttributeError, match="round the guard"):
        sampler.simulate(BELL)
    assert sampler.noise is cirq.NO_NOISE


def test_copies_and_pickles_are_guarded(guarded: Any) -> None:
    sampler = guarded()
    assert pickle.dumps(sampler)
    make, arguments = sampler.__reduce_ex__(4)
    unpickled = make(*arguments)
    for twin in (copy.copy(sampler), copy.deepcopy(sampler), unpickled):
        assert twin.run(BELL, repetitions=3).interlock["outcome"] == "RELEASE"
    with pytest.raises(InputError, match="cannot guard"):
        interlock.guard(BELL)


def test_a_simulator_with_noise_properties_is_judged_by_them(guarded: Any) -> None:
    from cirq.devices.noise_utils import OpIdentifier

    class Properties(cirq.devices.SuperconductingQubitsNoiseProperties):
        single_qubit_gates = classmethod(lambda _: {cirq.PhasedXZGate})
        symmetric_two_qubit_gates = classmethod(lambda _: {cirq.CZPowGate})
        asymmetric_two_qubit_gates = classmethod(lambda _: set())

    left, middle, right = qubits = cirq.GridQubit.rect(1, 3)
    pairs = {(left, middle): 0.01, (middle, right): 0.4}  # the second coupling is RED
    errors = {OpIdentifier(cirq.CZPowGate, *p[::s]): e for p, e in pairs.items() for s in (1, -1)}
    made = Properties(
        gate_times_ns={cirq.CZPowGate: 40.0}, t1_ns=dict.fromkeys(qubits, 5e4),
        tphi_ns=dict.fromkeys(qubits, 1e5), readout_errors={}, gate_pauli_errors=errors,
    )  # type: ignore[abstract]  # fmt: skip
    simulator = cirq.Simulator(noise=cirq.devices.NoiseModelFromNoiseProperties(made), seed=1)
    sampler = guarded(simulator, fallback=lambda c: [{"00": 9} for _ in c])
    for pair, outcome in (((left, middle), "RELEASE"), ((middle, right), "FALLBACK")):
        circuit = cirq.Circuit(cirq.CZ(*pair), cirq.measure(*pair, key="m"))
        assert sampler.run(circuit, repetitions=9).interlock["outcome"] == outcome
