import pytest

from interlock.circuits.canonical import Circuit, Control, Operation
from interlock.guard.control import Program, check_control
from interlock.guard.verify.limits import LimitsControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job


class Ask:
    def __init__(self, *circuits, shots=100):
        self.programs = tuple(Program(circuit=c, native=None, shots=shots) for c in circuits)
        self.job = a_job(circuits=tuple(c.facts(shots=shots) for c in circuits))


SMALL = Circuit(
    num_qubits=2,
    num_clbits=2,
    operations=(Operation("rx", ("a",), (0,)), Operation("cx", (), (0, 1))),
)


def decide(request, **settings):
    control = LimitsControl()
    chosen = control.Settings(**settings)
    evidence = control.gather(request, chosen)
    check_control(control, request.job, chosen, evidence)
    return control.decide(request.job, chosen, evidence)


def test_a_small_circuit_passes():
    assert decide(Ask(SMALL)).decision is Decision.ALLOW


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("max_qubits", "qubits"),
        ("max_clbits", "clbits"),
        ("max_depth", "depth"),
        ("max_operations", "operations"),
        ("max_two_qubit_ops", "two-qubit-ops"),
        ("max_parameters", "parameters"),
        ("max_bindings", "bindings"),
        ("max_shots", "shots"),
        ("max_circuits", "circuits"),
    ],
)
def test_each_limit_stops(setting, rule):
    verdict = decide(Ask(SMALL), **{setting: 0})
    assert verdict.decision is Decision.DENY
    assert [f.rule for f in verdict.findings] == [f"verify.limits.{rule}"]
    assert verdict.findings[0].fix


def looping(name, condition, clbits=()):
    control = Control(condition, ((Operation("x", (), (0,)),),))
    op = Operation(name, (), (0,), clbits, control)
    return Circuit(num_qubits=1, num_clbits=1, operations=(op,))


def test_a_short_text_cannot_hide_a_long_run():
    verdict = decide(Ask(looping("for_loop", ["range", 0, 10**12, 1])))
    assert "verify.limits.depth" in [f.rule for f in verdict.findings]


def test_a_loop_without_end_needs_leave():
    endless = looping("while_loop", ["bit", 0], (0,))
    assert decide(Ask(endless)).findings[0].rule == "verify.limits.unbounded"
    assert decide(Ask(endless), allow_unbounded=True).decision is Decision.ALLOW


def test_evidence_of_another_job_fails_closed():
    with pytest.raises(ValueError, match="another job"):
        LimitsControl().decide(a_job(), LimitsControl.Settings(), {"parameters": [], "bounded": []})
