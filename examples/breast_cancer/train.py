"""A hybrid classifier in plain Qiskit: nothing in this file knows of Interlock.

Tumours of scikit-learn's breast cancer set, four principal components, a variational circuit on the
noisy twin of a real IBM device, trained by SPSA. While the second half of the test set is read,
the device has a bad day.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import data
import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.primitives import BackendEstimatorV2
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2

SEED = 1
BATCH = 24
MARGIN = 0.6
BAD_DAY = 25.0


def model(qubits: int) -> QuantumCircuit:
    """Return the circuit: features and weights alternate, then a last layer of weights."""
    features, weights = ParameterVector("x", qubits), ParameterVector("w", 3 * qubits)
    circuit = QuantumCircuit(qubits)
    for layer in range(2):
        for q in range(qubits):
            circuit.ry(features[q], q)
            circuit.ry(weights[layer * qubits + q], q)
        for q in range(qubits - 1):
            circuit.cx(q, q + 1)
    for q in range(qubits):
        circuit.ry(weights[2 * qubits + q], q)
    return circuit


def worsened(backend: Any, factor: float) -> Any:
    """Return the device on a bad day: errors `factor` times larger, coherence as much shorter."""
    worse = copy.deepcopy(backend)
    for name in worse.target.operation_names:
        for qubits, properties in (worse.target[name] or {}).items():
            if properties is not None and properties.error is not None:
                properties.error = min(properties.error * factor, 0.5)
                worse.target.update_instruction_properties(name, qubits, properties)
    for qubit in worse.target.qubit_properties or ():
        qubit.t1, qubit.t2 = qubit.t1 / factor, qubit.t2 / factor
    return worse


class Classifier:
    """The circuit on a device, with its weights."""

    def __init__(self, device: Any, circuit: QuantumCircuit) -> None:
        self.circuit = transpile(circuit, device, optimization_level=3, seed_transpiler=7)
        top = SparsePauliOp("Z" + "I" * (circuit.num_qubits - 1))
        self.observable = top.apply_layout(self.circuit.layout)
        names = [p.name for p in self.circuit.parameters]
        self.x = [i for i, name in enumerate(names) if name.startswith("x")]
        self.w = [i for i, name in enumerate(names) if name.startswith("w")]

    def run(self, device: Any, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return one expectation value in [-1, 1] a row."""
        options = {"default_precision": 0.05, "seed_simulator": SEED}
        estimator = BackendEstimatorV2(backend=device, options=options)
        values = np.empty((len(rows), len(self.x) + len(self.w)))
        values[:, self.x], values[:, self.w] = rows, weights
        job = estimator.run([(self.circuit, self.observable, values)])
        return np.asarray(job.result()[0].data.evs)


def main() -> None:
    """Train, predict, write the predictions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--weights", type=Path, help="use these weights instead of training")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    sets = data.load()
    today = AerSimulator.from_backend(FakeGuadalupeV2(), seed_simulator=SEED)
    bad_day = AerSimulator.from_backend(worsened(FakeGuadalupeV2(), BAD_DAY), seed_simulator=SEED)
    classifier = Classifier(today, model(data.QUBITS))
    rng = np.random.default_rng(SEED)
    weights = rng.normal(0, 0.3, len(classifier.w))
    losses = []
    if options.weights:
        weights = np.array(json.loads(options.weights.read_text())["weights"])
    else:
        for step in range(options.iterations):
            rows = rng.choice(len(sets.train_x), BATCH, replace=False)
            direction = rng.choice([-1.0, 1.0], len(weights))
            width, rate = 0.2 / (step + 1) ** 0.101, 1.2 / (step + 11) ** 0.602
            loss = []
            for sign in (1, -1):
                at = weights + sign * width * direction
                values = classifier.run(today, sets.train_x[rows], at)
                loss.append(np.mean(np.maximum(0, MARGIN - sets.train_y[rows] * values) ** 2))
            weights = weights - rate * (loss[0] - loss[1]) / (2 * width) * direction
            losses.append(float(np.mean(loss)))

    half = len(sets.test_x) // 2
    answers: list[float] = []
    for start in range(0, len(sets.test_x), BATCH):
        for low, high, device in ((start, min(start + BATCH, half), today),
                                  (max(start, half), start + BATCH, bad_day)):  # fmt: skip
            rows = sets.test_x[low:high] if low < high else sets.test_x[:0]
            if len(rows):
                answers += classifier.run(device, rows, weights).tolist()
    result = {
        "weights": weights.tolist(),
        "losses": losses,
        "answers": answers,
        "truth": sets.test_y.tolist(),
    }
    options.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
