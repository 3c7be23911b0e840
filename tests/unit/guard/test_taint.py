"""Canaries in sensitive columns: found where they turn up, not where they do not."""

import csv
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector

from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.cli import cli
from interlock.errors import DeniedError, InputError, StorageError
from interlock.guard import canaries
from interlock.guard.admit.taint import TaintControl, TaintSettings
from interlock.guard.canaries import Canary, Encoding
from interlock.guard.control import Program, check_control
from interlock.guard.policy import load_policy
from interlock.guard.result import Result, Samples
from interlock.guard.service import Guard
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask

AGES = (41.73218812, 67.00412377, 29.51880021)
SCALE = math.pi / 90


def planted(home: Path, **changes: Any) -> Canary:
    values = {"tenant": "local", "column": "age", "label": "health", "numbers": AGES} | changes
    made = Canary(**values)
    canaries.register(home, made)
    return made


def rotated(angles: Any, **more: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(3, 3, **more)
    for qubit, angle in enumerate(angles):
        circuit.ry(float(angle), qubit % 3)
        circuit.cx(qubit % 3, (qubit + 1) % 3)
    circuit.measure(range(3), range(3))
    return circuit


def asked(
    home: Path, circuit: QuantumCircuit, settings: Any = None, values: Any = (), **job: Any
) -> Any:
    form = from_qiskit(circuit)
    names = tuple(p.name for p in circuit.parameters)
    program = Program(circuit=form, native=circuit, shots=10, parameters=names, values=values)
    request = a_request(home, job=a_job(**job), programs=(program,))
    return ask(TaintControl(), request, settings or TaintSettings())


SCALED = Encoding(scale=SCALE)
LEAKS = {
    "as it is": (AGES[:1], TaintSettings()),
    "scaled": ([AGES[0] * SCALE], TaintSettings(encodings=(SCALED,))),
    "scaled, turned by a quarter": ([AGES[0] * SCALE + math.pi / 2],
                                    TaintSettings(encodings=(SCALED,))),
    "scaled, halved and negative": ([-AGES[0] * SCALE / 2], TaintSettings(encodings=(SCALED,))),
    "wrapped": ([AGES[0] % (2 * math.pi)], TaintSettings()),
    "single precision": ([float(np.float32(v * SCALE)) for v in AGES],
                         TaintSettings(encodings=(SCALED,))),
    "rounded": ([round(v * SCALE, 3) for v in AGES],
                TaintSettings(encodings=(Encoding(scale=SCALE, decimals=3),))),
    "arctan": ([math.atan(AGES[1] / 90)],
               TaintSettings(encodings=(Encoding(scale=1 / 90, function="arctan"),))),
    "arcsin": ([math.asin(AGES[1] / 90)],
               TaintSettings(encodings=(Encoding(scale=1 / 90, function="arcsin"),))),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_canary_in_the_circuit_denies(tmp_path: Path, name: str) -> None:
    angles, settings = LEAKS[name]
    planted(tmp_path)
    verdict = asked(tmp_path, rotated(angles), settings)
    assert verdict.decision is Decision.DENY
    assert {f.rule for f in verdict.findings} == {"admit.tainted-data.column"}
    assert "'age'" in str(verdict.findings[0].got)
    for value in AGES:  # the record does not hold the canary itself
        assert str(value) not in json.dumps(verdict.evidence)
    check_control(TaintControl(), a_job(), settings, verdict.evidence)


def test_a_canary_in_the_parameter_values_denies(tmp_path: Path) -> None:
    planted(tmp_path)
    theta = ParameterVector("t", 2)
    circuit = QuantumCircuit(2, 2)
    circuit.ry(theta[0], 0)
    circuit.rz(theta[1], 1)
    circuit.measure_all()
    settings = TaintSettings(encodings=(SCALED,))
    clean = asked(tmp_path, circuit, settings, values=((0.1, 0.2), (0.3, 0.4)))
    assert clean.decision is Decision.ALLOW
    found = asked(tmp_path, circuit, settings, values=((0.1, 0.2), (AGES[2] * SCALE, 0.4)))
    assert [h["where"] for h in found.evidence["hits"]] == ["parameters"]
    assert found.decision is Decision.DENY


def test_a_canary_survives_the_compiler(tmp_path: Path) -> None:
    planted(tmp_path)
    settings = TaintSettings(encodings=(SCALED,))
    for level in (0, 1, 2, 3):
        compiled = transpile(rotated([AGES[0] * SCALE]), basis_gates=["rz", "sx", "x", "cx"],
                             optimization_level=level, seed_transpiler=1)  # fmt: skip
        assert asked(tmp_path, compiled, settings).decision is Decision.DENY, level


def test_what_only_the_providers_payload_holds_is_found(tmp_path: Path) -> None:
    """Metadata and names are no part of the circuit's identity, and go to the provider."""
    planted(tmp_path)
    planted(tmp_path, column="name", numbers=(), texts=("Qdeadbeef01234567",))
    for circuit, column in (
        (rotated([0.5], metadata={"row": AGES[0]}), "age"),
        (rotated([0.5], name="patient Qdeadbeef01234567"), "name"),
        (rotated([0.5], metadata={"id": b"Qdeadbeef01234567".hex()}), "name"),
    ):
        assert from_qiskit(circuit).sha256 == from_qiskit(rotated([0.5])).sha256
        verdict = asked(tmp_path, circuit)
        hits = {(h["column"], h["where"]) for h in verdict.evidence["hits"]}
        assert hits == {(column, "payload")}
        assert verdict.decision is Decision.DENY
    named = asked(tmp_path, rotated([0.5]), labels=("cohort-Qdeadbeef01234567",))
    assert named.decision is Decision.DENY


def _of_cirq(angle: float, name: str) -> Any:
    cirq = pytest.importorskip("cirq")
    qubit = cirq.NamedQubit(name)
    return cirq.Circuit(cirq.ry(angle)(qubit), cirq.measure(qubit, key="m"))


def _of_cirq_tag(angle: float, name: str) -> Any:
    cirq = pytest.importorskip("cirq")
    qubit = cirq.LineQubit(0)
    tags = cirq.ry(0.5)(qubit).with_tags(f"row {angle!r}", name)
    return cirq.Circuit(tags, cirq.measure(qubit, key="m"))


def _of_braket(angle: float, name: str) -> Any:
    braket = pytest.importorskip("braket.circuits")
    return braket.Circuit().ry(0, angle).rz(0, braket.FreeParameter(name)).measure(0)


def _of_pennylane(angle: float, name: str) -> Any:
    qml = pytest.importorskip("pennylane")
    return qml.tape.QuantumScript([qml.RY(angle, name)], [qml.expval(qml.Z(name))], shots=10)


def _of_pennylane_observable(angle: float, name: str) -> Any:
    qml = pytest.importorskip("pennylane")
    state = qml.StatePrep(np.array([0.6, 0.8j]), name)
    observable = qml.Hermitian(np.diag([angle, 1.0]), name)
    return qml.tape.QuantumScript([state], [qml.expval(observable), qml.probs()], shots=10)


def _of_pennylane_torch(angle: float, name: str) -> Any:
    qml, torch = pytest.importorskip("pennylane"), pytest.importorskip("torch")
    value = torch.tensor(angle, dtype=torch.float64, requires_grad=True)
    return qml.tape.QuantumScript([qml.RX(value, name)], [qml.counts(wires=name)], shots=10)


@pytest.mark.parametrize(
    "make",
    [_of_cirq, _of_cirq_tag, _of_braket, _of_pennylane, _of_pennylane_observable,
     _of_pennylane_torch],
)  # fmt: skip
def test_the_payload_of_every_sdk_is_searched(tmp_path: Path, make: Any) -> None:
    planted(tmp_path)
    planted(tmp_path, column="name", numbers=(), texts=("Qdeadbeef01234567",))
    form = from_qiskit(rotated([0.5]))
    for angle, name, columns in (
        (AGES[0], "clean", {"age"}),
        (0.25, "Qdeadbeef01234567", {"name"}),
        (0.25, "clean", set()),
    ):
        program = Program(circuit=form, native=make(angle, name), shots=10)
        request = a_request(tmp_path, job=a_job(), programs=(program,))
        verdict = ask(TaintControl(), request, TaintSettings())
        assert verdict.evidence["unreadable"] == []
        found = {(h["column"], h["where"]) for h in verdict.evidence["hits"]}
        assert found == {(column, "payload") for column in columns}
        assert verdict.decision is (Decision.DENY if columns else Decision.ALLOW)


def test_clean_jobs_pass_and_near_values_are_no_hits(tmp_path: Path) -> None:
    planted(tmp_path)
    settings = TaintSettings(encodings=(SCALED, Encoding(scale=SCALE, decimals=3)))
    rng = np.random.default_rng(7)
    for _ in range(20):
        verdict = asked(tmp_path, rotated(rng.uniform(-math.pi, math.pi, 30)), settings)
        assert verdict.decision is Decision.ALLOW, verdict.findings
    near = asked(tmp_path, rotated([AGES[0] * SCALE + 1e-5]), settings)
    assert near.decision is Decision.ALLOW
    one = asked(tmp_path, rotated([round(AGES[0] * SCALE, 3)]), settings)
    assert one.decision is Decision.ALLOW  # one rounded value may be chance; two are not
    undeclared = asked(tmp_path, rotated([AGES[0] * 0.0123]), settings)
    assert undeclared.decision is Decision.ALLOW  # the blind zone, as documented


def test_chance_finds_almost_nothing() -> None:
    """A thousand jobs of a thousand random angles against three columns and three encodings."""
    rng = np.random.default_rng(3)
    columns = [Canary(tenant="t", column=str(i), label="x", numbers=tuple(rng.uniform(0, 90, 3)))
               for i in range(3)]  # fmt: skip
    forms = [SCALED, Encoding(scale=1 / 90, function="arctan")]
    hits = sum(
        bool(canaries.search(columns, forms, {"c": rng.uniform(-4, 4, 1000)}, {}, []))
        for _ in range(1000)
    )
    assert hits == 0


def test_another_tenant_learns_nothing_of_the_column(tmp_path: Path) -> None:
    planted(tmp_path, tenant="north", column="salary", label="payroll")
    verdict = asked(tmp_path, rotated(AGES[:1]))
    assert verdict.decision is Decision.DENY
    told = json.dumps([verdict.evidence, [str(f) for f in verdict.findings]])
    for secret in ("north", "salary", "payroll"):
        assert secret not in told


def test_it_fails_closed(tmp_path: Path) -> None:
    needs = TaintSettings(labels=("health",))
    nothing = asked(tmp_path, rotated([0.1]), needs, labels=("health",))
    assert [f.rule for f in nothing.findings] == ["admit.tainted-data.not-planted"]
    assert asked(tmp_path, rotated([0.1]), needs).decision is Decision.ALLOW
    planted(tmp_path, tenant="other")  # another tenant's canaries do not stand in for one's own
    assert asked(tmp_path, rotated([0.1]), needs, labels=("health",)).decision is Decision.DENY
    planted(tmp_path)
    assert asked(tmp_path, rotated([0.1]), needs, labels=("health",)).decision is Decision.ALLOW
    program = Program(circuit=from_qiskit(rotated([0.1])), native=object(), shots=10)
    odd = ask(TaintControl(), a_request(tmp_path, programs=(program,)), needs)
    assert [f.rule for f in odd.findings] == ["admit.tainted-data.unreadable"]
    (tmp_path / canaries.FILE).write_bytes(b"{")
    with pytest.raises(StorageError, match="canaries"):
        asked(tmp_path, rotated([0.1]))


def guarded(home: Path) -> Guard:
    document = json.loads(json.dumps(load_policy().document))
    document["admit"]["tainted-data"] = {"encodings": [{"scale": SCALE}]}
    document["health"] = {"calibration": {"on_missing": "allow"}}
    return Guard(policy=document, home=home)


def submit(guard: Guard, circuit: QuantumCircuit, ran: list[int]) -> Any:
    def execute() -> Result:
        ran.append(1)
        counts = {"000": 100}
        item = Samples(registers={"c": [counts]}, widths={"c": 3}, shots=100)
        return Result(items=(item,), native=None, seconds=0.0)

    program = Program(circuit=from_qiskit(circuit), native=circuit, shots=100)
    return guard.submit([program], kind="sample", backend_name="x", execute=execute)


def test_on_the_path_nothing_reaches_the_device_and_the_event_is_on_record(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    planted(home)
    guard = guarded(home)
    ran: list[int] = []
    with pytest.raises(DeniedError, match="sensitive column"):
        submit(guard, rotated([AGES[0] * SCALE]), ran)
    (home / canaries.FILE).write_bytes(b"broken")
    with pytest.raises(DeniedError, match="failed"):
        submit(guard, rotated([0.3]), ran)
    assert ran == []
    entries = [e for e in guard.ledger.entries("admit") if e.header.get("outcome") == "DENY"]
    assert len(entries) == 2
    raw = str([(e.header, e.payload) for e in guard.ledger.entries()])
    assert "admit.tainted-data.column" in raw
    for value in (AGES[0], AGES[0] * SCALE):
        assert str(value) not in raw
    for file in home.rglob("*"):
        if file.is_file() and file.name != canaries.FILE:
            data = file.read_bytes()
            assert struct.pack("<d", AGES[0] * SCALE) not in data, file
            assert str(AGES[0]).encode() not in data, file
    guard.close()


def test_planting_marks_a_column_like_its_values(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("name,age\n" + "".join(f"p{i},{20 + i}.5\n" for i in range(40)))
    out, home = tmp_path / "planted.csv", tmp_path / "home"
    run = CliRunner()
    for column in ("age", "name"):
        source = table if column == "age" else out
        done = run.invoke(
            cli, ["canary", "plant", str(source), "--column", column, "--label", "health", "-o",
                  str(out), "--home", str(home)], catch_exceptions=False,
        )  # fmt: skip
        assert done.exit_code == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 46
    known = canaries.read(home)
    assert all(20 <= v <= 60 for v in known[0].numbers)
    assert {repr(v) for v in known[0].numbers} <= {r["age"] for r in rows}
    assert set(known[1].texts) <= {r["name"] for r in rows}
    assert (home / canaries.FILE).stat().st_mode & 0o077 == 0
    listed = run.invoke(cli, ["canary", "list", "--home", str(home), "--json"]).output
    assert [r["column"] for r in json.loads(listed)] == ["age", "name"]
    assert not [v for v in known[0].numbers if repr(v) in listed]
    with pytest.raises(InputError, match="planted") as failed:
        canaries.plant([], tenant="local", name="age", label="health")
    assert failed.value.code == "canary-column"
    missing = ["canary", "plant", str(table), "--column", "no", "--label", "x", "-o", str(out)]
    with pytest.raises(InputError):
        run.invoke(cli, missing, catch_exceptions=False, standalone_mode=False)
