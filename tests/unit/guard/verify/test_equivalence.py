import pytest

from interlock.circuits.canonical import Circuit, Operation
from interlock.guard.control import Program, check_control
from interlock.guard.verify.equivalence import EquivalenceControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job

HH = Circuit(num_qubits=1, operations=tuple(Operation(n, (), (0,)) for n in "hzh"))
X = Circuit(num_qubits=1, operations=(Operation("x", (), (0,)),))
Y = Circuit(num_qubits=1, operations=(Operation("y", (), (0,)),))
T = Circuit(num_qubits=1, operations=(Operation("rx", ("a",), (0,)),))
T2 = Circuit(num_qubits=1, operations=(*T.operations, *HH.operations, *X.operations))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x.circuit.json").write_bytes(X.to_json())
    (tmp_path / "t.circuit.json").write_bytes(T.to_json())
    return tmp_path


def decide(circuit, **settings):
    class Ask:
        programs = (Program(circuit=circuit, native=None),)
        job = a_job(circuits=(circuit.facts(shots=1),))

    control = EquivalenceControl()
    chosen = control.Settings(**settings)
    evidence = control.gather(Ask(), chosen)
    check_control(control, Ask.job, chosen, evidence)
    return control.decide(Ask.job, chosen, evidence)


def test_reviewed_circuits_pass_and_others_do_not(folder):
    assert decide(X, reviewed=str(folder)).decision is Decision.ALLOW
    assert decide(HH, reviewed=str(folder)).decision is Decision.ALLOW
    verdict = decide(Y, reviewed=str(folder))
    assert verdict.decision is Decision.DENY
    assert verdict.findings[0].rule == "verify.equivalence.differs"


def test_evidence_is_a_pass_only_where_the_policy_says_so(folder):
    assert decide(T2, reviewed=str(folder)).decision is Decision.ALLOW
    verdict = decide(T2, reviewed=str(folder), accept="proven", on_unknown="hold")
    assert verdict.decision is Decision.HOLD
    assert verdict.findings[0].rule == "verify.equivalence.not-proven"


def test_unknown_is_never_a_pass(folder):
    reset = Circuit(num_qubits=1, operations=(Operation("reset", (), (0,)), *X.operations))
    for word in ("deny", "hold", "fallback"):
        verdict = decide(reset, reviewed=str(folder), on_unknown=word)
        assert verdict.decision is Decision[word.upper()]
        assert verdict.findings[0].rule == "verify.equivalence.unknown"


def test_without_reviewed_circuits_nothing_passes(tmp_path):
    for where in ("", str(tmp_path), str(tmp_path / "none")):
        verdict = decide(X, reviewed=where)
        assert verdict.decision is Decision.DENY
        assert verdict.findings[0].rule == "verify.equivalence.no-review"
    (tmp_path / "bad.qasm").write_text("nonsense")
    assert decide(X, reviewed=str(tmp_path)).decision is Decision.DENY


def test_evidence_of_another_job_fails_closed(folder):
    control = EquivalenceControl()
    with pytest.raises(ValueError, match="another job"):
        control.decide(a_job(), control.Settings(), {"problem": None, "programs": []})
