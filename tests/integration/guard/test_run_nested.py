"""`interlock run`: what a fallback function or a class of the user's own submits is seen too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
from qiskit.quantum_info import SparsePauliOp

import interlock
from interlock.backends import TwinEstimator, TwinSampler, twin
from interlock.errors import DeniedError
from interlock.guard.explain import explain
from interlock.guard.record import recorded

HEAD = """\
from qiskit import QuantumCircuit
from qiskit.primitives import BackendSamplerV2, BaseSamplerV2, StatevectorSampler
from qiskit_aer import AerSimulator
circuit = QuantumCircuit(1)
circuit.h(0)
circuit.measure_all()
"""

#: Classes of the user that submit other jobs, and the shots of the jobs that must be on record.
CLASSES = {
    "repeats": ("""
class Mine(BaseSamplerV2):
    def run(self, pubs, *, shots=None):
        for _ in range(3):
            StatevectorSampler().run([p.circuit for p in pubs], shots=500).result()
        return StatevectorSampler().run(pubs, shots=shots)
""", [10, 10, 500, 500, 500]),
    "calls up": ("""
class Mine(StatevectorSampler):
    def run(self, pubs, *, shots=None):
        return super().run(pubs, shots=shots)
""", [10, 10]),
    "adds nothing": ("""
class Mine(StatevectorSampler):
    pass
""", [10]),
    "a helper": ("""
class Mine(StatevectorSampler):
    def _run(self, pubs):
        StatevectorSampler().run([circuit], shots=500).result()
        return super()._run(pubs)
""", [10, 500]),
    "a helper of the object": ("""
def Mine():
    sampler = StatevectorSampler()
    plain = sampler._run
    def twice(pubs):
        StatevectorSampler().run([circuit], shots=500).result()
        return plain(pubs)
    sampler._run = twice
    return sampler
""", [10, 500]),
    "a backend inside": ("""
class Device(AerSimulator):
    def run(self, circuits, **options):
        AerSimulator().run(circuit, shots=500).result()
        return super().run(circuits, **options)
def Mine():
    return BackendSamplerV2(backend=Device())
""", [10, 10, 500]),
    "other things": ("""
class Mine(StatevectorSampler):
    label = "mine"
    def __init__(self):
        super().__init__(seed=1)
    def again(self):
        return self.run([circuit])
""", [10]),
    "in threads": ("""
from concurrent.futures import ThreadPoolExecutor
class Mine(BaseSamplerV2):
    def run(self, pubs, *, shots=None):
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(StatevectorSampler().run, [circuit], shots=20) for _ in range(4)]
        for job in jobs:
            job.result().result()
        return BackendSamplerV2(backend=AerSimulator()).run(pubs, shots=shots)
""", [10, 10, 20, 20, 20, 20]),
}  # fmt: skip


def run(folder: Path, policy: Any, script: str, *more: str) -> list[dict[str, Any]]:
    policy["health"] = {
        "calibration": {"on_missing": "allow"}, "fidelity": {"on_unknown": "allow"},
    }  # fmt: skip
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "script.py").write_text(HEAD + script)
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "run", "--home", "home", "--policy",
         "policy.yaml", "--json", *more, "--", "python", "script.py"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(x) for x in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_a_users_class_submits_is_guarded_and_counted(
    tmp_path: Path, policy: Any, kind: str
) -> None:
    definition, shots = CLASSES[kind]
    events = run(
        tmp_path, policy, definition + "\nprint(Mine().run([circuit], shots=10).result())\n"
    )
    jobs = [e for e in events if e["event"] == "job"]
    assert sorted(e["shots"] for e in jobs) == shots
    assert {e["outcome"] for e in jobs} == {"RELEASE"}
    # What a helper of the user's hands to the simulator itself is not one of the guarded jobs.
    assert events[-1]["unguarded"] == ("a helper" in kind)


def test_more_jobs_within_jobs_than_there_are_threads_come_to_an_end(
    tmp_path: Path, policy: Any
) -> None:
    script = """
class Mine(BaseSamplerV2):
    def run(self, pubs, *, shots=None):
        return StatevectorSampler().run(pubs, shots=shots)
jobs = [Mine().run([circuit], shots=10) for _ in range(20)]
print(len([job.result() for job in jobs]))
"""
    events = run(tmp_path, policy, script)
    assert len([e for e in events if e["event"] == "job"]) == 40


FALLBACK = """
class Dead(BaseSamplerV2):
    def run(self, pubs, *, shots=None):
        raise RuntimeError("dead")
def answer(pubs):
    SUBMIT
    return [{"0": 10} for _ in pubs]
import interlock
from interlock.errors import DeniedError
try:
    print(interlock.guard(Dead(), policy="policy.yaml", home="home", fallback=answer)
          .run([circuit], shots=10).result().metadata)
except DeniedError as error:
    open("denied", "w").write(str(error))
"""


@pytest.mark.parametrize(
    "submit",
    [
        "StatevectorSampler().run(pubs, shots=500).result()",
        "AerSimulator().run(circuit, shots=500).result()",
        "AerSimulator()._run_circuits([circuit], None, shots=500).result()",
        (
            "import concurrent.futures as c; "
            "c.ThreadPoolExecutor().submit(StatevectorSampler().run, pubs).result()"
        ),
    ],
)
def test_a_fallback_function_that_submits_is_refused(
    tmp_path: Path, policy: Any, submit: str
) -> None:
    run(tmp_path, policy, FALLBACK.replace("SUBMIT", submit))
    assert "fallback-quantum" in (tmp_path / "denied").read_text()


def test_a_classical_fallback_function_answers(tmp_path: Path, policy: Any) -> None:
    run(tmp_path, policy, FALLBACK.replace("SUBMIT", "pass"))
    assert not (tmp_path / "denied").exists()


@pytest.mark.parametrize("home", ["home", "elsewhere"])
def test_a_fallback_of_the_programs_own_guard_is_in_line_summary_and_report(
    tmp_path: Path, policy: Any, home: str
) -> None:
    """With a home of its own its jobs are in another ledger, which the run does not look at."""
    script = FALLBACK.replace("SUBMIT", "pass").replace('"home"', f'"{home}"')
    events = run(tmp_path, policy, script)
    inner, *own = [e for e in events if e["event"] == "job"]
    assert (inner["outcome"], events[-1]["unknown"]) == ("DENY", 0)
    assert [e["outcome"] for e in own] == (["FALLBACK"] if home == "home" else [])
    if own:
        assert inner["within"] == own[0]["job"]
        summary = events[-1]
        assert (summary["outcomes"], summary["within"]) == ({"DENY": 1, "FALLBACK": 1}, 1)
        assert own[0]["receipt"] in (tmp_path / "interlock-report.html").read_text()


# What is checked is what runs


def composite(*, loop: bool = False, theta: Any = None) -> QuantumCircuit:
    inner = QuantumCircuit(1, name="inner")
    inner.x(0)
    if theta is not None:
        inner.rz(theta, 0)
    outer = QuantumCircuit(1)
    outer.append(inner.to_gate(), [0])
    gate = Gate("foo", 1, [] if theta is None else [theta])
    gate.definition = outer
    circuit = QuantumCircuit(5, 1)
    if loop:
        with circuit.for_loop(range(3)):
            circuit.append(gate, [0])
    else:
        circuit.append(gate, [0])
    return circuit


@pytest.mark.parametrize("theta", [None, Parameter("t")])
def test_a_composite_gate_runs_as_what_was_checked(policy: Any, home: Any, theta: Any) -> None:
    circuit = composite(theta=theta)
    circuit.measure(0, 0)
    guarded = interlock.guard(TwinSampler(twin("manila"), seed=1), policy=policy, home=home)
    values = [] if theta is None else [[0.3]]
    result = guarded.run([(circuit, *values)], shots=500).result()
    assert result[0].data.c.get_counts()["1"] > 400
    with recorded(home) as ledger:
        story = explain(ledger, result.metadata["interlock"]["id"])
    assert story["job"]["circuits"][0]["size"] == (2 if theta is None else 3)


def test_a_composite_gate_runs_in_an_estimate_and_on_a_backend(policy: Any, home: Any) -> None:
    estimator = interlock.guard(TwinEstimator(twin("manila"), seed=1), policy=policy, home=home)
    result = estimator.run([(composite(), SparsePauliOp("IIIIZ"))], precision=0.05).result()
    assert float(result[0].data.evs) < -0.7
    circuit = composite()
    circuit.measure(0, 0)
    backend = interlock.guard(twin("manila"), policy=policy, home=home)
    assert backend.run(circuit, shots=500).result().get_counts()["1"] > 400


def test_what_a_device_refuses_before_it_runs_costs_nothing(policy: Any, home: Any) -> None:
    """Without the target control the twin itself refuses; nothing was sent, nothing is spent."""
    policy["verify"] = {"limits": {}}
    policy["health"] = {"calibration": {}, "fidelity": {"on_unknown": "allow"}}
    policy["admit"] = {
        "budget": {"max_shots_per_day": 1000, "prices": {"*": {"per_shot_usd": 0.01}}}
    }
    circuit = QuantumCircuit(5, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    guarded = interlock.guard(TwinSampler(twin("manila"), seed=1), policy=policy, home=home)
    for _ in range(3):
        with pytest.raises(DeniedError, match="circuit-not-isa"):
            guarded.run([circuit], shots=900).result()


def test_jobs_within_jobs_from_threads_of_their_own_do_not_wait_for_those_around_them(
    tmp_path: Path, policy: Any
) -> None:
    policy["timeouts"] = {"control_s": 30, "execute_s": 20}
    script = """
from qiskit.primitives import PrimitiveJob
class Mine(BaseSamplerV2):
    def run(self, pubs, *, shots=None):
        pubs = list(pubs)
        def within():
            AerSimulator().run(circuit, shots=7).result()
            return StatevectorSampler().run(pubs, shots=shots).result()
        job = PrimitiveJob(within)
        job._submit()
        return job
sampler = Mine()
jobs = [sampler.run([circuit], shots=10) for _ in range(10)]
print(len([job.result() for job in jobs]))
"""
    events = run(tmp_path, policy, script)
    assert events[-1]["outcomes"] == {"RELEASE": 30}
    assert events[-1]["within"] == 20
