from collections.abc import Mapping

import pytest
from qiskit import QuantumCircuit, transpile

from interlock.backends import ConfinedSampler, Twin, TwinSampler, TwinSpec, twin
from interlock.guard.health.seeds import seed_honesty


def runner(device: Twin, kind: type = TwinSampler, shots: int = 2000):
    circuit = QuantumCircuit(5)
    circuit.sx(range(5))
    circuit.measure_all()
    isa = transpile(circuit, device, seed_transpiler=1)

    def run(seed: int) -> Mapping[str, int]:
        result = kind(device, seed=seed).run([isa], shots=shots).result()
        return result[0].data.meas.get_counts()

    return run


@pytest.mark.parametrize("kind", [TwinSampler, ConfinedSampler])
def test_an_honest_device_and_a_lying_one_are_told_apart(kind: type) -> None:
    honest = twin("manila")
    liar = Twin(TwinSpec(reported=honest.calibration, ignore_seed=True))
    assert seed_honesty(runner(honest, kind))["verdict"] == "honoured"
    assert seed_honesty(runner(liar, kind))["verdict"] == "ignored"


def test_a_device_that_always_answers_the_same_is_no_honest_one() -> None:
    stuck = {format(i, "05b"): 60 for i in range(32)}
    assert seed_honesty(lambda _: stuck)["verdict"] == "constant"


def test_too_few_outcomes_show_nothing() -> None:
    assert seed_honesty(lambda _: {"0": 100})["verdict"] == "unknown"
