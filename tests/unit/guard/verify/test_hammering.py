from pathlib import Path

import pytest

from interlock.circuits.canonical import Circuit, Control, Operation
from interlock.circuits.target import Target
from interlock.guard.control import Program, check_control
from interlock.guard.verify.hammering import HammeringControl, HammeringSettings
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request

PAIRS = [(k, k + 1) for k in range(6)]
LINE = Target(name="twin", num_qubits=7, gates={"cx": dict.fromkeys(PAIRS), "rz": None})
CX = Operation("cx", (), (1, 2))
RZ = Operation("rz", (0.1,), (2,))


def decide(home: Path, operations, backend=LINE, **settings):
    circuit = Circuit(num_qubits=7, operations=tuple(operations))
    programs = (Program(circuit=circuit, native=None),)
    request = a_request(
        home, job=a_job(circuits=(circuit.facts(),)), programs=programs, backend=backend
    )
    control = HammeringControl()
    chosen = HammeringSettings(**({"foreign": {"twin": (3, 4, 5)}} | settings))
    evidence = control.gather(request, chosen)
    check_control(control, request.job, chosen, evidence)
    verdict = control.decide(request.job, chosen, evidence)
    return verdict.decision, [f.rule.split(".")[-1] for f in verdict.findings]


def test_a_train_next_to_a_foreign_qubit_is_found(tmp_path):
    assert decide(tmp_path, [CX] * 25) == (Decision.DENY, ["train"])
    assert decide(tmp_path, [CX, RZ] * 25) == (Decision.DENY, ["train"])
    assert decide(tmp_path, [CX, Operation("cx", (), (2, 1))] * 13) == (Decision.DENY, ["train"])
    assert decide(tmp_path, [CX] * 25, on_hit="hold") == (Decision.HOLD, ["train"])


def test_a_loop_counts_with_its_rounds(tmp_path):
    control = Control(["range", 0, 10**9, 1], ((CX,),))
    loop = Operation("for_loop", (), (1, 2), (), control)
    assert decide(tmp_path, [loop]) == (Decision.DENY, ["train", "exposure"])


def test_ordinary_circuits_and_trains_elsewhere_pass(tmp_path):
    layer = [Operation("cx", (), (0, 1)), CX, RZ]
    assert decide(tmp_path, layer * 100) == (Decision.ALLOW, [])
    assert decide(tmp_path, [Operation("cx", (), (0, 1))] * 500) == (Decision.ALLOW, [])
    assert decide(tmp_path, [CX] * 500, foreign={"other": (3,)}) == (Decision.ALLOW, [])


def test_many_gates_in_turns_are_an_exposure(tmp_path):
    turns = [CX, Operation("cx", (), (0, 1))] * 501
    assert decide(tmp_path, turns) == (Decision.DENY, ["exposure"])


def test_on_a_shared_device_every_free_qubit_may_be_anothers(tmp_path):
    shared = {"foreign": {}, "shared": ("tw*",)}
    assert decide(tmp_path, [CX] * 25, **shared) == (Decision.DENY, ["train"])
    assert decide(tmp_path, [CX], **shared) == (Decision.ALLOW, [])
    nothing = Target(name="twin", num_qubits=7)
    assert decide(tmp_path, [CX], backend=nothing, **shared) == (Decision.DENY, ["no-coupling"])


def test_foreign_qubits_are_left_alone(tmp_path):
    found = decide(tmp_path, [Operation("rz", (0.1,), (4,))], on_hit="hold")
    assert found == (Decision.DENY, ["foreign-qubit"])


def test_evidence_of_another_job_is_an_error(tmp_path):
    evidence = {"shared": True, "coupled": True, "programs": []}
    with pytest.raises(ValueError, match="another job"):
        HammeringControl().decide(a_job(), HammeringSettings(), evidence)
