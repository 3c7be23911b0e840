"""A circuit of RY and CX, trained exactly in simulation and run on a device.

As a Born machine (Liu and Wang, Phys. Rev. A 98, 062324) its samples imitate data; as a variational
eigensolver they seek the least of a cost. Bit q of an integer is qubit q, as Qiskit counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from qiskit import QuantumCircuit
from torch import Tensor


class Ansatz:
    """`layers` of RY on every qubit and CX on neighbours, and RY at the end.

    Args:
        qubits: at most 16.
        layers: entangling layers.
    """

    def __init__(self, qubits: int, layers: int = 2) -> None:
        self.qubits, self.layers = qubits, layers
        index = np.arange(2**qubits)
        flips = index.copy()
        # One layer of CX is a permutation of the basis; apply the gates in order.
        for control in (*range(0, qubits - 1, 2), *range(1, qubits - 1, 2)):
            flips = np.where((flips >> control) & 1, flips ^ (1 << (control + 1)), flips)
        source = np.empty_like(flips)
        source[flips] = index
        self._source = torch.as_tensor(source)

    def start(self, seed: int, width: float = 0.3) -> Tensor:
        """Return angles to start from, shape (layers + 1, qubits)."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.layers + 1, self.qubits)
        return torch.pi / 2 / (self.layers + 1) + width * torch.randn(shape, generator=generator)

    def probabilities(self, angles: Tensor) -> Tensor:
        """Return the probability of each of the 2**qubits outcomes."""
        state = torch.zeros(2**self.qubits, dtype=torch.float64)
        state[0] = 1
        for number, layer in enumerate(angles.double()):
            for q in range(self.qubits):
                view = state.reshape(-1, 2, 2**q)
                cos, sin = torch.cos(layer[q] / 2), torch.sin(layer[q] / 2)
                zero, one = view[:, 0], view[:, 1]
                state = torch.stack((cos * zero - sin * one, sin * zero + cos * one), 1).flatten()
            if number < self.layers:
                state = state[self._source]
        return state.square()

    def circuit(self, angles: Tensor) -> QuantumCircuit:
        """Return the same as a circuit with measurements."""
        made = QuantumCircuit(self.qubits)
        for number, layer in enumerate(angles.detach().tolist()):
            for q, angle in enumerate(layer):
                made.ry(angle, q)
            if number < self.layers:
                for control in (*range(0, self.qubits - 1, 2), *range(1, self.qubits - 1, 2)):
                    made.cx(control, control + 1)
        made.measure_all()
        return made


def train(
    ansatz: Ansatz, loss: Callable[[Tensor], Tensor], *, steps: int, seed: int, rate: float = 0.1
) -> tuple[Tensor, list[float]]:
    """Return angles that lower a loss of the probabilities, and the losses on the way."""
    angles = ansatz.start(seed).requires_grad_()
    optimiser = torch.optim.Adam([angles], lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(ansatz.probabilities(angles))
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return angles.detach(), losses


def discrepancy(target: np.ndarray, sharpness: tuple[float, ...] = (0.2, 0.5, 0.8)) -> Callable:
    """Return the squared maximum mean discrepancy from a distribution over bit strings.

    The kernel is a mean of a**(Hamming distance), a product over the bits.
    """
    goal = torch.as_tensor(target, dtype=torch.float64)
    bits = len(target).bit_length() - 1

    def smoothed(values: Tensor, a: float) -> Tensor:
        for q in range(bits):
            view = values.reshape(-1, 2, 2**q)
            zero, one = view[:, 0], view[:, 1]
            values = torch.stack((zero + a * one, a * zero + one), 1).flatten()
        return values

    def loss(probabilities: Tensor) -> Tensor:
        off = probabilities - goal
        return torch.stack([off @ smoothed(off, a) for a in sharpness]).mean()

    return loss


class Tree:
    """The classical twin: a Chow-Liu tree (IEEE Trans. Inf. Theory 14, 462) on the same data."""

    def __init__(self, samples: np.ndarray, bits: int) -> None:
        data = (samples[:, None] >> np.arange(bits)) & 1
        joint = np.empty((bits, bits, 2, 2))
        for a in range(2):
            for b in range(2):
                joint[:, :, a, b] = ((data == a).T.astype(float) @ (data == b) + 0.25) / (
                    len(data) + 1
                )
        self._marginals = self._marginal(data)
        flat = np.einsum("ia,jb->ijab", self._marginals, self._marginals)
        information = (joint * np.log(joint / flat)).sum((2, 3))
        self._joint = joint
        # Prim's tree of greatest mutual information.
        inside, self._parents = [0], {0: -1}
        while len(inside) < bits:
            best = max(
                (information[i, j], i, j) for i in inside for j in range(bits)
                 if j not in self._parents
            )  # fmt: skip
            self._parents[best[2]] = best[1]
            inside.append(best[2])
        self._order = inside

    @staticmethod
    def _marginal(data: np.ndarray) -> np.ndarray:
        ones = (data.sum(0) + 0.5) / (len(data) + 1)
        return np.stack([1 - ones, ones], 1)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return integers."""
        drawn = np.zeros((count, len(self._order)), int)
        for node in self._order:
            parent = self._parents[node]
            if parent < 0:
                one = np.full(count, self._marginals[node, 1])
            else:
                table = self._joint[parent, node]
                one = (table[:, 1] / table.sum(1))[drawn[:, parent]]
            drawn[:, node] = rng.random(count) < one
        return drawn @ (1 << np.arange(len(self._order)))
