"""Turn a qubit through 12 angles on two workers that share a budget of ten jobs.

python examples/sweep/sweep.py [HOME]
"""

import sys
import tempfile
from math import pi

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from interlock.gateway.sweeps import over, sweep
from interlock.guard.policy import load_policy


def main(home: str) -> None:
    """Run the sweep and print a line for each angle."""
    theta = Parameter("theta")
    circuit = QuantumCircuit(1, 1)
    circuit.ry(theta, 0)
    circuit.measure(0, 0)
    budget = {"prices": {"*": {"per_task_usd": 1}}, "max_cost_usd_per_day": 10}
    document = load_policy().document
    policy = {**document, "admit": {**document["admit"], "budget": budget}}
    rows = [{"theta": i * pi / 11} for i in range(12)]
    jobs = over(circuit, rows, backend="aer_simulator", shots=1000, seed=1)
    for row, point in zip(rows, sweep(jobs, home=home, policy=policy), strict=True):
        ones = point.result.items[0].registers["c"][0].get("1", 0) if point.result else "-"
        print(f"{row['theta']:.2f} rad  ones {ones:>4}  {point.outcome}  {point.receipt.id}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="interlock-sweep-"))
