from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.access.approvals import Approver, approve, subject_of, values_digest
from interlock.access.store import store_of
from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.crypto.keys import KeyStore
from interlock.guard.admit.dual_use import DualUseControl, DualUseSettings
from interlock.guard.bundle import public_keys
from interlock.guard.control import Program, check_control
from interlock.types import Decision, Principal
from tests.unit.guard.doubles import a_job, a_request, ask
from tests.vectors.circuits import dual_use as made

AT = 1_767_225_600.0  # when doubles.a_job was submitted
SHOR = from_qiskit(made.shor_compiled(3))
PLAIN = from_qiskit(made.toy_search(3, 5, 1))


def a_case(home: Path, *programs: Program, **job: Any) -> Any:
    facts = tuple(p.circuit.facts(shots=100) for p in programs)
    return a_request(home, job=a_job(circuits=facts, **job), programs=programs)


def of(circuit: Circuit, **more: Any) -> Program:
    return Program(circuit=circuit, native=None, shots=100, **more)


def test_an_attack_is_held_and_a_look_alike_is_not(tmp_path: Path) -> None:
    control = DualUseControl()
    held = a_case(tmp_path, of(PLAIN), of(SHOR))
    verdict = ask(control, held, DualUseSettings())
    assert verdict.decision is Decision.HOLD
    rules = [f.rule for f in verdict.findings]
    assert rules == ["admit.dual-use.period-finding", "admit.dual-use.approval"]
    assert verdict.findings[0].location == "circuit 1"
    waiting = store_of(tmp_path).waiting("local")
    assert f"approve {waiting[0]['subject']} --gate dual-use" in str(verdict.findings[0].fix)
    assert waiting[0]["gates"] == {"approval": {"group": "dual-use", "needed": 1}}
    assert ask(control, a_case(tmp_path, of(PLAIN)), DualUseSettings()).decision is Decision.ALLOW
    check_control(control, held.job, DualUseSettings(), control.gather(held, DualUseSettings()))


def test_a_named_approval_of_this_very_job_lets_it_start(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    request = a_case(tmp_path / "home", of(SHOR))
    approver = Approver(id="lea", groups=("dual-use",), public=public_keys(keys, "lea"))
    settings = DualUseSettings(approvers=(approver,))
    control = DualUseControl()
    assert ask(control, request, settings).decision is Decision.HOLD
    store_of(tmp_path / "home").add_approval(
        approve(
            subject=subject_of(request.job, values_digest(request.programs)), gate="dual-use",
            approver=Principal(id="lea"), submitter=request.job.principal, lifetime_s=600,
            now=AT - 60, signer="lea", key=lambda a: keys.signing_key(f"lea-{a}", a),
        )
    )  # fmt: skip
    assert ask(control, request, settings).decision is Decision.ALLOW
    assert ask(control, request, DualUseSettings()).decision is Decision.HOLD
    other = msgspec.structs.replace(request.job, labels=("other",))
    moved = a_request(tmp_path / "home", job=other, programs=request.programs)
    assert ask(control, moved, settings).decision is Decision.HOLD


def test_a_declared_use_is_held(tmp_path: Path) -> None:
    request = a_case(tmp_path, of(PLAIN), labels=("use:cryptanalysis",))
    verdict = ask(DualUseControl(), request, DualUseSettings())
    assert [f.rule for f in verdict.findings] == [
        "admit.dual-use.declared", "admit.dual-use.approval",
    ]  # fmt: skip
    assert ask(DualUseControl(), request, DualUseSettings(labels=())).decision is Decision.ALLOW


def test_an_attack_in_one_parameter_set_of_a_template(tmp_path: Path) -> None:
    ops = tuple(
        Operation("ry", ("t",), op.qubits) if op.name == "h" and k < 3 else op
        for k, op in enumerate(SHOR.operations)
    )
    template = rewritten(SHOR, ops)
    assert template.parameters == ("t",)
    rows = ([0.0], [1.5707963267948966])
    program = of(template, parameters=("t",), values=rows)
    assert ask(DualUseControl(), a_case(tmp_path, program), DualUseSettings()).decision is (
        Decision.HOLD
    )
    program = of(template, parameters=("t",), values=rows[:1])
    assert ask(DualUseControl(), a_case(tmp_path, program), DualUseSettings()).decision is (
        Decision.ALLOW
    )


def rewritten(circuit: Circuit, operations: tuple[Operation, ...]) -> Circuit:
    return Circuit(
        num_qubits=circuit.num_qubits, num_clbits=circuit.num_clbits,
        registers=circuit.registers, operations=operations,
    )  # fmt: skip


@pytest.mark.parametrize(("setting", "decision"), [("hold", Decision.HOLD),
                                                   ("allow", Decision.ALLOW)])  # fmt: skip
def test_a_circuit_that_is_too_long_to_follow(
    tmp_path: Path, setting: Any, decision: Decision
) -> None:
    long = Circuit(num_qubits=2, operations=(Operation("cx", (), (0, 1)),) * 50_002)
    verdict = ask(DualUseControl(), a_case(tmp_path, of(long)), DualUseSettings(on_unclear=setting))
    assert verdict.decision is decision


def test_evidence_of_another_job_is_an_error(tmp_path: Path) -> None:
    control = DualUseControl()
    evidence = control.gather(a_case(tmp_path, of(PLAIN)), DualUseSettings())
    with pytest.raises(ValueError, match="another job"):
        control.decide(a_job(), DualUseSettings(), evidence)
