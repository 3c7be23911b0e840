"""The known-bad corpus is stopped; good circuits of many families and devices are not."""

import json
import math

import pytest
from click.testing import CliRunner
from qiskit import QuantumCircuit, qasm3, transpile
from qiskit.circuit.library import qaoa_ansatz, real_amplitudes
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.synthesis import synth_qft_full
from qiskit_ibm_runtime import fake_provider

from interlock.backends import snapshot
from interlock.circuits.check import Bounds, check_circuit, check_file
from interlock.circuits.packs import Limits, load_pack, packs
from interlock.circuits.preflight import RULES
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.target import from_calibration, target_of
from interlock.cli.check import command
from tests.vectors.circuits.corpus import BAD, FIVE3, LINE

NONE = Limits()


def test_there_are_enough_bad_circuits():
    assert len(BAD) >= 60


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_circuit_is_stopped_with_reason_and_fix(name, tmp_path):
    target, text = BAD[name]
    path = tmp_path / "bad.qasm"
    path.write_text(text)
    found = check_file(path, target, NONE, shots=100)
    assert found.refused, found
    first = found.problems[0]
    assert first.severity == "error"
    assert first.rule != "circuit-unreadable"
    assert first.message
    assert first.got
    assert first.fix
    assert "Traceback" not in str(found)


def ghz(n):
    qc = QuantumCircuit(n)
    qc.h(0)
    for q in range(n - 1):
        qc.cx(q, q + 1)
    qc.measure_all()
    return qc


def bernstein(n):
    qc = QuantumCircuit(n, n - 1)
    qc.x(n - 1)
    qc.h(range(n))
    for q in range(0, n - 1, 2):
        qc.cx(q, n - 1)
    qc.h(range(n - 1))
    qc.measure(range(n - 1), range(n - 1))
    return qc


def qft(n):
    qc = synth_qft_full(n)
    qc.measure_all()
    return qc


def ansatz(n):
    qc = real_amplitudes(n, reps=2)
    qc = qc.assign_parameters([0.1 * i for i in range(qc.num_parameters)])
    qc.measure_all()
    return qc


def qaoa(n):
    cost = SparsePauliOp.from_sparse_list([("ZZ", [i, i + 1], 1.0) for i in range(n - 1)], n)
    qc = qaoa_ansatz(cost, reps=1)
    qc = qc.assign_parameters([0.3] * qc.num_parameters)
    qc.measure_all()
    return qc


def noise(n):
    return random_circuit(n, 6, max_operands=2, measure=True, seed=n)


def teleport(n):
    qc = QuantumCircuit(3, 3)
    qc.ry(0.4, 0)
    qc.h(1)
    qc.cx(1, 2)
    qc.cx(0, 1)
    qc.h(0)
    qc.measure([0, 1], [0, 1])
    with qc.if_test((qc.clbits[1], 1)):
        qc.x(2)
    with qc.if_test((qc.clbits[0], 1)):
        qc.z(2)
    qc.measure(2, 2)
    return qc


def echo(n):
    qc = QuantumCircuit(1, 1)
    qc.sx(0)
    qc.delay(2000, 0, unit="dt")
    qc.barrier()
    qc.x(0)
    qc.delay(2000, 0, unit="dt")
    qc.sx(0)
    qc.measure(0, 0)
    return qc


FAMILIES = (ghz, bernstein, qft, ansatz, qaoa, noise, teleport, echo)
DEVICES = ("Manila", "Quito", "Jakarta", "Guadalupe", "Sherbrooke")


def good(device):
    """Forty circuits that a device takes: families, levels and widths."""
    backend = getattr(fake_provider, f"Fake{device}V2", None) or getattr(
        fake_provider, f"Fake{device}"
    )
    backend = backend()
    dynamic = "if_else" in backend.target.operation_names
    count = 0
    for family in FAMILIES if dynamic else [f for f in FAMILIES if f is not teleport] + [ghz]:
        for level in (0, 1, 2, 3, 1):
            width = min(3 + count % 3, backend.num_qubits)
            qc = transpile(family(width), backend, optimization_level=level, seed_transpiler=count)
            count += 1
            yield backend, qc, f"{family.__name__} at level {level}"


@pytest.mark.parametrize("device", DEVICES)
def test_good_circuits_are_never_stopped(device):
    stopped, count = [], 0
    for backend, qc, what in good(device):
        found = check_circuit(from_qiskit(qc), target_of(backend), NONE, shots=100)
        count += 1
        if found.refused:
            stopped.append((what, found.problems))
    assert count == 40
    assert stopped == []


@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        ({"max_depth": 2}, "depth"),
        ({"max_operations": 3}, "size"),
        ({"max_calibration_age_s": 3600.0, "now": 4_000_000_000.0}, "stale-calibration"),
    ],
)
def test_bounds_of_the_caller(bounds, rule):
    backend = fake_provider.FakeManilaV2()
    circuit = from_qiskit(transpile(ghz(3), backend, seed_transpiler=1))
    target = from_calibration(snapshot("manila"))
    found = check_circuit(circuit, target, NONE, shots=1, bounds=Bounds(**bounds))
    assert [p.rule for p in found.problems] == [rule]
    assert found.problems[0].fix
    loose = {name: 10**12 if name != "now" else 0.0 for name in bounds}
    assert not check_circuit(circuit, target, NONE, shots=1, bounds=Bounds(**loose)).refused


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("x q[0]; c[0] = measure q[0]; x q[0]; c[1] = measure q[0];", "reuse"),
        ("x q[0]; x q[3]; c[0] = measure q[0];", "dead-qubit"),
        ("x q[0]; barrier q; barrier q; c[0] = measure q[0];", "repeated-barrier"),
        ("x q[0]; c[0] = measure q[0];", "register-width"),
    ],
)
def test_what_is_only_said_does_not_stop(text, rule, tmp_path):
    path = tmp_path / "a.qasm"
    path.write_text(FIVE3 + text)
    found = check_file(path, LINE, NONE, shots=100)
    assert rule in [p.rule for p in found.problems]
    assert not found.refused


def test_a_snapshot_gives_the_same_answer_without_the_sdk():
    backend = fake_provider.FakeManilaV2()
    lean = from_calibration(snapshot("manila"))
    for family in FAMILIES[:4]:
        good = from_qiskit(transpile(family(4), backend, seed_transpiler=1))
        assert not check_circuit(good, lean, NONE, shots=1).refused
        assert check_circuit(from_qiskit(family(4)), lean, NONE, shots=1).refused


def test_estimates_are_of_the_right_size():
    backend = fake_provider.FakeManilaV2()
    qc = transpile(ghz(3), backend, scheduling_method="alap", seed_transpiler=1)
    seconds = qc.estimate_duration(backend.target, "s")
    found = check_circuit(from_qiskit(qc), target_of(backend), NONE, shots=1000).estimate
    assert math.isclose(found.shot_s, seconds, rel_tol=0.05)
    garnet = load_pack("braket").limits_of("Garnet")
    priced = check_circuit(from_qiskit(qc), target_of(backend), garnet, shots=1000).estimate
    assert math.isclose(priced.usd, 0.3 + 1000 * 0.00145)


def test_packs_are_dated_and_sourced():
    for name in packs():
        pack = load_pack(name)
        assert pack.checked >= "2026"
        assert pack.source
    ibm = load_pack("ibm").limits_of("sherbrooke")
    small = from_qiskit(ghz(2))
    found = check_circuit(small, from_calibration(snapshot("manila")), ibm, shots=20_000_000)
    assert "provider-executions" in [p.rule for p in found.problems]
    wide = check_circuit(from_qiskit(ghz(21)), target_of(object()),
                         load_pack("azure").limits_of("quantinuum.qpu.h1-1"), shots=1)  # fmt: skip
    assert [p.rule for p in wide.problems] == ["provider-qubits"]


def test_the_command_in_three_formats(tmp_path):
    (tmp_path / "good.qasm").write_text(qasm3.dumps(ghz(2)))
    (tmp_path / "bad.qasm").write_text(BAD["undefined-gate"][1])
    run = CliRunner()
    text = run.invoke(command, [str(tmp_path)], standalone_mode=False)
    assert text.return_value == 1
    assert "bad.qasm:5:1: error[qasm-undefined]" in text.output
    assert "good.qasm: ok" in text.output
    out = run.invoke(command, [str(tmp_path), "--json"], standalone_mode=False)
    files = json.loads(out.output)["files"]
    assert [f["refused"] for f in files] == [True, False]
    log = json.loads(
        run.invoke(command, [str(tmp_path), "--format", "sarif"], standalone_mode=False).output
    )
    result = log["runs"][0]["results"][0]
    assert result["ruleId"] == "check/qasm-undefined"
    assert result["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 5, "startColumn": 1,
    }  # fmt: skip
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_a_hostile_file_cannot_steer_the_terminal(tmp_path):
    escape = "\x1b[2Jowned"
    (tmp_path / "a.qasm").write_text(f'OPENQASM 2.0; include "{escape}";')
    (tmp_path / "b.circuit.json").write_text(
        json.dumps({"num_qubits": 1, "operations": [[escape, [], [0]]], "version": 1})
    )
    (tmp_path / f"{escape}.qasm").write_text("OPENQASM 2.0; qreg q[1];")
    out = CliRunner().invoke(command, [str(tmp_path)], standalone_mode=False, color=True).output
    assert "owned" in out
    assert "\x1b[2J" not in out


@pytest.mark.parametrize("shots", [0, -5])
def test_shots_that_make_no_sense(shots):
    found = check_circuit(from_qiskit(ghz(2)), target_of(object()), NONE, shots=shots)
    assert found.refused


def test_every_rule_is_documented():
    from pathlib import Path

    page = Path(__file__).parents[3] / "docs" / "reference" / "check.md"
    text = page.read_text("utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in text] == []
