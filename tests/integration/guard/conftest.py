from pathlib import Path
from typing import Any

import pytest

POLICY: dict[str, Any] = {
    "interlock": 1,
    "name": "test",
    "admit": {"principal": {}, "kill-switch": {}, "budget": {"max_shots_per_job": 20_000}},
    "verify": {"limits": {}, "target": {}},
    "health": {"calibration": {}, "fidelity": {"minimum": 0.5}},
    "execute": {"isolation": {}, "run": {}},
    "validate": {"counts": {}, "interval": {}},
    "filter": {"constraints": {}},
    "govern": {"kill-switch": {}, "rate": {}},
    "release": {"lineage": {}, "baseline": {}},
}


@pytest.fixture
def policy() -> dict[str, Any]:
    return {k: dict(v) if isinstance(v, dict) else v for k, v in POLICY.items()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="session")
def bell() -> Any:
    from qiskit import QuantumCircuit, transpile

    from interlock.backends import twin

    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return transpile(circuit, twin("manila"), optimization_level=1, seed_transpiler=7)
