"""Entangled pairs for the heartbeat, simulated by Qiskit Aer, with an eavesdropper if wanted.

Each pair is a Bell state measured at the angles of the CHSH test. An intercepted pair is measured
in between, in the Z or the X basis by a fair coin, and the outcome sent on (intercept and resend);
the circuit does so with a third qubit that is never read, which is the same by the principle of
deferred measurement. Aer simulates shots ahead for each pair of settings and hands them out one
by one, so this source knows answers before it is asked: it is a simulation, not a device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from interlock.errors import InputError, SetupError

__all__ = ["AerPairs"]

_ALICE = (0.0, math.pi / 2)
_BOB = (math.pi / 4, -math.pi / 4)


class AerPairs:
    """Answers rounds of the CHSH game; a source for `interlock.crypto.qkd.heartbeat.rounds`.

    Args:
        noise: depolarizing error of the gate that entangles (and of the eavesdropper's).
        intercept: share of the pairs measured and sent on by an eavesdropper.
        seed: makes runs repeatable.
        noise_model: of Aer, in place of `noise`, for instance a device's own.
        batch: shots simulated ahead at a time.

    Raises:
        SetupError: qiskit-aer is missing.

    Example:
        >>> source = AerPairs(seed=1)
        >>> sorted({source(0, 0) for _ in range(50)})[0]
        (0, 0)
    """

    def __init__(
        self,
        *,
        noise: float = 0.01,
        intercept: float = 0.0,
        seed: int | None = None,
        noise_model: Any = None,
        batch: int = 4096,
    ) -> None:
        if not (0 <= noise <= 1 and 0 <= intercept <= 1):
            raise InputError(
                "a share lies between 0 and 1",
                code="heartbeat-share",
                got=f"noise {noise}, intercept {intercept}",
                expected="numbers from 0 to 1",
                fix="pass for instance --intercept 0.5",
            )
        try:
            from qiskit_aer import AerSimulator
            from qiskit_aer.noise import NoiseModel, depolarizing_error
        except ImportError as error:
            raise SetupError(
                "the source of pairs needs the extra `qiskit`",
                code="extra-missing",
                got=str(error),
                expected="qiskit and qiskit-aer",
                fix="pip install 'interlock[qiskit]'",
            ) from error
        if noise_model is None:
            noise_model = NoiseModel()
            noise_model.add_all_qubit_quantum_error(depolarizing_error(noise, 2), ["cx"])
        self._simulator = AerSimulator(noise_model=noise_model, max_parallel_threads=1)
        self._rng = np.random.default_rng(seed)
        self._intercept, self._batch = intercept, batch
        self._ready: dict[tuple[int, int, int | None], list[tuple[int, int]]] = {}

    def __call__(self, x: int, y: int) -> tuple[int, int]:
        """Return the answers of one pair to the settings `x` and `y`."""
        touched = self._intercept > 0 and self._rng.random() < self._intercept
        kind = (x, y, int(self._rng.integers(0, 2)) if touched else None)
        if not self._ready.get(kind):
            self._ready[kind] = self._simulated(*kind)
        return self._ready[kind].pop()

    def _simulated(self, x: int, y: int, basis: int | None) -> list[tuple[int, int]]:
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(2 if basis is None else 3, 2)
        circuit.h(0)
        circuit.cx(0, 1)
        if basis is not None:
            turn = [circuit.h] if basis else []
            for gate in turn:
                gate(1)
            circuit.cx(1, 2)
            for gate in turn:
                gate(1)
        circuit.ry(-_ALICE[x], 0)
        circuit.ry(-_BOB[y], 1)
        circuit.measure([0, 1], [0, 1])
        seed = int(self._rng.integers(1 << 31))
        job = self._simulator.run(circuit, shots=self._batch, memory=True, seed_simulator=seed)
        return [(int(bits[-1]), int(bits[-2])) for bits in job.result().get_memory()]
