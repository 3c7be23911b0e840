"""`interlock run` with scripts of the other SDKs: each job guarded, what goes round it named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

CIRQ = """\
import copy, pickle
import cirq

a, b = cirq.LineQubit.range(2)
bell = cirq.Circuit(cirq.H(a), cirq.CNOT(a, b), cirq.measure(a, b, key="m"))
simulator = cirq.Simulator(seed=1)
assert isinstance(simulator.run(bell, repetitions=100), cirq.Result)
assert len(simulator.run_batch([bell, bell], repetitions=10)) == 2
print(cirq.sample(bell, repetitions=5).interlock["outcome"])
assert copy.deepcopy(simulator).run(bell).repetitions == 1
list(simulator.run_sweep_iter(bell, None, 3))
"""
PENNYLANE = """\
import copy
import pennylane as qml
from pennylane import numpy as np

device = qml.device("default.qubit", wires=1, seed=1)

@qml.qnode(device, diff_method="parameter-shift")
def node(x):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))

assert abs(qml.grad(node)(np.array(0.3, requires_grad=True)) + np.sin(0.3)) < 1e-9
best = qml.QNode(node.func, copy.deepcopy(device))
assert abs(qml.grad(best)(np.array(0.3, requires_grad=True)) + np.sin(0.3)) < 1e-9
print("RELEASE")
qml.devices.qubit.simulate(qml.tape.QuantumScript([], [qml.expval(qml.Z(0))]))
"""
BRAKET = """\
import copy, pickle
from braket.circuits import Circuit
from braket.devices import LocalSimulator

device = LocalSimulator()
bell = Circuit().h(0).cnot(0, 1)
task = device.run(bell, 100)
print(task.result().interlock["outcome"], sum(task.result().measurement_counts.values()))
assert len(device.run_batch([bell, bell], shots=10).results()) == 2
assert copy.deepcopy(device).run(bell.copy().probability(), shots=0).result().interlock["exact"]
assert pickle.loads(pickle.dumps(device)).name == device.name
device._delegate.run(bell.to_ir(ir_type="OPENQASM"), shots=3)
"""
SCRIPTS = {"braket": (BRAKET, 3, 12), "cirq": (CIRQ, 5, 11), "pennylane": (PENNYLANE, 3, 16)}


@pytest.mark.parametrize("sdk", SCRIPTS)
def test_an_unchanged_script_is_guarded(sdk: str, tmp_path: Path, policy: dict[str, Any]) -> None:
    script, jobs, around = SCRIPTS[sdk]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "run", "--home", "home", "--policy", "policy.yaml",
         "--json", "--", "python", "script.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["outcomes"] == {"RELEASE": jobs}
    assert "RELEASE" in done.stderr
    (unguarded,) = [e for e in events if e["event"] == "unguarded"]
    assert unguarded["where"].endswith(f"script.py:{around}")
