import math

import pytest

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.target import Target
from interlock.guard.control import Program, check_control
from interlock.guard.verify.target import MAX_PROBLEMS, TargetControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job

LINE = Target(
    name="line",
    num_qubits=2,
    gates={"rx": None, "measure": None, "cx": {(0, 1): None}},
    calibrated_at="2026-11-20T00:00:00+00:00",
)


def measured(*ops):
    return Circuit(
        num_qubits=2, num_clbits=1, operations=(*ops, Operation("measure", (), (0,), (0,)))
    )


def decide(*programs, backend=LINE, kind="sample", **settings):
    class Ask:
        pass

    request = Ask()
    request.programs = programs
    request.backend = backend
    request.job = a_job(
        kind=kind, circuits=tuple(p.circuit.facts(shots=1) for p in programs),
        submitted_at="2026-11-21T00:00:00+00:00",
    )  # fmt: skip
    control = TargetControl()
    chosen = control.Settings(**settings)
    evidence = control.gather(request, chosen)
    check_control(control, request.job, chosen, evidence)
    return control.decide(request.job, chosen, evidence)


def program(circuit, **more):
    return Program(circuit=circuit, native=None, **more)


GOOD = measured(Operation("rx", (0.1,), (0,)), Operation("cx", (), (0, 1)))
TURNED = measured(Operation("cx", (), (1, 0)))
TEMPLATE = measured(Operation("rx", ("a",), (0,)))


def test_good_passes_and_bad_is_stopped_with_the_instruction():
    assert decide(program(GOOD)).decision is Decision.ALLOW
    verdict = decide(program(GOOD), program(TURNED))
    assert verdict.decision is Decision.DENY
    assert verdict.findings[0].rule == "verify.target.direction"
    assert "circuit 1, instruction 0: cx q[1], q[0]" in verdict.findings[0].location


def test_templates_are_judged_with_their_values():
    assert decide(program(TEMPLATE)).findings[0].rule == "verify.target.unbound"
    bound = program(TEMPLATE, parameters=("a",), values=[[0.1], [0.2]])
    assert decide(bound).decision is Decision.ALLOW
    for rows in ([[math.nan], [0.1]], [[0.1], [math.nan]], [[0.1], [math.inf]]):
        bad = program(TEMPLATE, parameters=("a",), values=rows)
        assert decide(bad).findings[0].rule == "verify.target.not-finite"


def test_the_policy_sets_severities():
    assert decide(program(TURNED), warn=("direction",)).decision is Decision.ALLOW
    assert decide(program(TURNED), ignore=("direction",)).findings == ()
    dead = measured(Operation("rx", (0.1,), (1,)))
    assert decide(program(dead)).decision is Decision.ALLOW
    assert decide(program(dead)).findings[0].message.startswith("warning: ")
    assert decide(program(dead), deny=("dead-qubit",)).decision is Decision.DENY
    with pytest.raises(ValueError, match="no rule"):
        TargetControl.Settings(ignore=("typo",))


def test_many_problems_are_counted_not_lost():
    warned = [program(measured(Operation("rx", (0.1,), (1,))))] * (MAX_PROBLEMS + 5)
    assert decide(*warned).decision is Decision.ALLOW
    verdict = decide(*warned, program(TURNED))
    assert verdict.decision is Decision.DENY
    assert verdict.evidence["more"]["direction"] == 1


def test_an_old_calibration_is_refused_when_the_policy_says_so():
    assert decide(program(GOOD), max_calibration_age_s=90_000.0).decision is Decision.ALLOW
    verdict = decide(program(GOOD), max_calibration_age_s=80_000.0)
    assert verdict.findings[0].rule == "verify.target.stale-calibration"
    assert verdict.decision is Decision.DENY
