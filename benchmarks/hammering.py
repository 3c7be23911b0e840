"""What a train of entangling gates does to an idle neighbour, and which circuits are flagged.

    python -m benchmarks.hammering [zz_khz]      (60 by default)

Simulated with Aer: each cx of 460 ns on a pair gives the qubit next to it a conditional phase
2 pi zeta t, with zeta the ZZ rate of fixed-frequency transmons without cancellation (40 to 100
kHz; Sheldon et al., PRA 93, 060302; the numbers are of the model, not of a device). The victim
waits in a Ramsey experiment; its fidelity is the chance to come back to 0. T1 = T2 = 150 us act on
it for the same time, with and without the neighbour's gates.
"""

from __future__ import annotations

import math
import sys

from qiskit import QuantumCircuit, transpile
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, thermal_relaxation_error
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2
from tests.vectors.circuits.test_corpus import FAMILIES

from interlock.circuits.hammer import coupling, pressure
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.target import target_of
from interlock.guard.verify.hammering import HammeringSettings

GATE_S = 460e-9
T_S = 150e-6


def ramsey(gates: int, zeta_hz: float, simulator: AerSimulator) -> float:
    """Return the chance that the victim comes back, qubits: attacker's two, then the victim."""
    qc = QuantumCircuit(3, 1)
    qc.x(1)
    qc.h(2)
    for _ in range(gates):
        qc.cx(0, 1)
        if zeta_hz:
            qc.rzz(math.tau * zeta_hz * GATE_S / 2, 1, 2)
        qc.id(2)
    qc.h(2)
    qc.measure(2, 0)
    counts = simulator.run(qc, shots=8000, seed_simulator=1).result().get_counts()
    return float(counts.get("0", 0) / 8000)


def main() -> int:
    zeta = float(sys.argv[1]) * 1e3 if len(sys.argv) > 1 else 60e3
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(thermal_relaxation_error(T_S, T_S, GATE_S), ["id"])
    simulator = AerSimulator(noise_model=noise)
    print(f"victim's Ramsey fidelity, ZZ {zeta / 1e3:g} kHz (simulated)")
    for gates in (0, 2, 4, 8, 12, 16, 24, 48, 96):
        quiet, loud = (ramsey(gates, z, simulator) for z in (0.0, zeta))
        print(f"  {gates:4} gates: idle neighbour {quiet:.3f}, hammered {loud:.3f}")
    backend = FakeGuadalupeV2()
    pairs = coupling(target_of(backend))
    limits = HammeringSettings()
    flagged = trains = 0
    worst = 0
    static = [f for f in FAMILIES if f.__name__ != "teleport"]
    for number, family in enumerate(static):
        for width in (3, 4, 5):
            qc = transpile(family(width), backend, optimization_level=1, seed_transpiler=number)
            circuit = from_qiskit(qc)
            free = frozenset(range(16)) - circuit.used_qubits
            found = pressure(circuit, pairs, free)
            trains += 1
            worst = max(worst, found.train)
            flagged += found.train > limits.max_train or found.exposure > limits.max_exposure
    print(f"flagged of {trains} ordinary circuits: {flagged}; longest train {worst}")
    caught = 0
    for gates in (32, 64, 128, 256):
        qc = QuantumCircuit(16)
        for _ in range(gates):
            qc.cx(1, 2)
            qc.barrier()
        found = pressure(from_qiskit(qc), pairs, frozenset(range(16)) - {1, 2})
        caught += found.train > limits.max_train
    print(f"flagged of 4 trains of 32 to 256 gates: {caught}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
