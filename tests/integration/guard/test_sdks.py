"""The same circuit gets the same verdict, whichever SDK it comes from."""

import runpy
from pathlib import Path
from typing import Any

import cirq
import pennylane as qml
import pytest
from braket.devices import LocalSimulator
from qiskit.primitives import StatevectorSampler

import interlock
from interlock.errors import DeniedError
from tests.unit.circuits.families import (
    FAMILIES,
    braket_circuit,
    cirq_circuit,
    pennylane_tape,
    qiskit_circuit,
)

ROOT = Path(__file__).parents[3]
SHOTS = 20


def on_qiskit(device: Any, n: int, steps: Any) -> Any:
    made = qiskit_circuit(n, steps, measured=True)
    return device.run([made], shots=SHOTS).result().metadata["interlock"]


def on_cirq(device: Any, n: int, steps: Any) -> Any:
    return device.run(cirq_circuit(n, steps, measured=True), repetitions=SHOTS).interlock


def on_pennylane(device: Any, n: int, steps: Any) -> Any:
    tape = pennylane_tape(n, steps, measured=True)
    device.execute(qml.tape.QuantumScript(tape.operations, tape.measurements, shots=SHOTS))
    return device.receipts[-1]


def on_braket(device: Any, n: int, steps: Any) -> Any:
    return device.run(braket_circuit(n, steps, measured=True), SHOTS).result().interlock


SDKS = {
    "qiskit": (StatevectorSampler, on_qiskit),
    "cirq": (cirq.Simulator, on_cirq),
    "pennylane": (lambda: qml.device("default.qubit"), on_pennylane),
    "braket": (LocalSimulator, on_braket),
}


@pytest.fixture
def guarded(policy: Any, home: Any) -> Any:
    # Twelve circuits: the limits let some of them through and stop the others.
    policy["verify"]["limits"] = {"max_depth": 9}
    policy["admit"]["budget"] = {"max_qubits": 4}
    return {
        sdk: interlock.guard(make(), policy=policy, home=home) for sdk, (make, _) in SDKS.items()
    }


def test_twelve_circuits_get_one_verdict_each(guarded: Any) -> None:
    verdicts: dict[str, set[Any]] = {}
    for family, (n, steps) in FAMILIES.items():
        for sdk, (_, run) in SDKS.items():
            try:
                receipt = run(guarded[sdk], n, steps)
            except DeniedError as error:
                receipt = error.receipt.as_dict()  # type: ignore[union-attr]
            verdicts.setdefault(family, set()).add((receipt["outcome"], receipt["rule"]))
    assert {family: len(found) for family, found in verdicts.items()} == dict.fromkeys(FAMILIES, 1)
    found = {next(iter(v)) for v in verdicts.values()}
    assert found == {
        ("RELEASE", None),
        ("DENY", "admit.budget.qubits-per-job"),
        ("DENY", "verify.limits.depth"),
    }


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples/sdks").glob("*.py")), ids=lambda p: p.stem
)
def test_the_examples_run_and_are_those_of_the_how_to(
    path: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    runpy.run_path(str(path))
    assert capsys.readouterr().out.split()[-1] in ("RELEASE", "True", "quantum")
    _, _, code = path.read_text().partition('"""\n\n')
    assert code in (ROOT / "docs/how-to/guard-sdks.md").read_text()
