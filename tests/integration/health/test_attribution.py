"""A deviation attributed end to end, on twins that misbehave in one way each."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from qiskit import QuantumCircuit, transpile

from interlock.backends import Twin, TwinSampler, TwinSpec, twin
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.cli import cli
from interlock.errors import InputError
from interlock.guard.control import Program, check_control
from interlock.guard.health.probe import probe
from interlock.guard.hooks.autoguard import INSIDE
from interlock.guard.result import Result, Samples
from interlock.guard.validate.attribution import AttributionControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request

sys.path.insert(0, str(Path(__file__).parents[3]))


def circuit(device: Twin) -> QuantumCircuit:
    made = QuantumCircuit(3)
    for _ in range(3):
        made.ry(1.1, range(3))
        made.cx(0, 1)
        made.cx(1, 2)
    made.measure_all()
    return transpile(made, device, optimization_level=1, seed_transpiler=1)


class Fresh(TwinSampler):
    """New random numbers for each job, the same in every test run."""

    def __init__(self, backend: Twin, seed: int = 1) -> None:
        super().__init__(backend)
        self.rng = np.random.default_rng(seed)

    def run(self, pubs: Any, **options: Any) -> Any:
        self._seed = int(self.rng.integers(2**31))
        return super().run(pubs, **options)


def test_coherent_error_is_told_from_a_calibrated_device() -> None:
    device = twin("manila")
    isa = circuit(device)
    calm = probe(Fresh(device), isa, device.calibration, shots=4000, rng=1)
    assert calm.cause == "cannot-tell"
    ill = Twin(TwinSpec(reported=device.calibration, coherent_rad=0.4))
    found = probe(Fresh(ill), isa, device.calibration, shots=4000, rng=1)
    assert found.cause == "coherent"


def test_a_seeded_sampler_and_a_wide_circuit_are_refused() -> None:
    device = twin("manila")
    with pytest.raises(InputError) as caught:
        probe(TwinSampler(device, seed=1), circuit(device), device.calibration, rng=1)
    assert caught.value.code == "probe-seeded"
    wide = twin("sherbrooke")
    ghz = QuantumCircuit(8)
    ghz.x(range(8))
    ghz.measure_all()
    with pytest.raises(InputError) as caught:
        probe(TwinSampler(wide), transpile(ghz, wide), wide.calibration)
    assert caught.value.code == "circuit-not-exact"
    with pytest.raises(InputError) as caught:
        probe(TwinSampler(device), circuit(device), device.calibration, batches=2)
    assert caught.value.code == "probe-batches"


def test_the_exact_distribution_is_the_one_that_is_sampled() -> None:
    device = twin("manila", coherent_rad=0.2)
    isa = circuit(device)
    law = device.probabilities(isa)
    counts = TwinSampler(device, seed=2).run([isa], shots=40_000).result()[0].data.meas.get_counts()
    assert sum(law.values()) == pytest.approx(1.0)
    assert sum(abs(law.get(b, 0) - counts.get(b, 0) / 40_000) for b in law) / 2 < 0.015


def looks(home: Path, device: Twin, isa: QuantumCircuit, laws: list[dict[str, float]]) -> list[Any]:
    """The verdicts of the control over jobs whose counts are drawn from these distributions."""
    rng = np.random.default_rng(8)
    control, verdicts = AttributionControl(), []
    program = Program(circuit=from_qiskit(isa), native=isa, shots=2000)
    for law in laws:
        counts = dict(zip(law, map(int, rng.multinomial(2000, list(law.values()))), strict=True))
        item = Samples(registers={"meas": [counts]}, widths={"meas": 3}, shots=2000)
        request = a_request(home, programs=(program,), backend=device, result=Result(items=(item,)))
        evidence = control.gather(request, control.Settings(on_found="fallback"))
        evidence = msgspec.json.decode(msgspec.json.encode(evidence))
        check_control(control, a_job(), control.Settings(), evidence)
        verdicts.append(control.decide(a_job(), control.Settings(on_found="fallback"), evidence))
    return verdicts


def test_the_control_allows_shot_noise_and_names_a_drift(tmp_path: Path) -> None:
    device = twin("manila", now=1_000_000.0)
    isa = circuit(device)
    law = device.probabilities(isa)
    calm = looks(tmp_path / "calm", device, isa, [law] * 8)
    assert {v.decision for v in calm} == {Decision.ALLOW}
    assert calm[-1].evidence["circuits"][0]["predicted"] is True
    worse = {b: 0.5 * p + 0.5 / 8 for b, p in law.items()}
    steps = [{b: law[b] * (1 - i / 7) + worse[b] * i / 7 for b in law} for i in range(8)]
    ill = looks(tmp_path / "ill", device, isa, steps)
    assert ill[-1].decision is Decision.FALLBACK
    assert ill[-1].findings[0].rule == "validate.attribution.drift"


def test_the_command_says_what_the_shots_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "ghz.qasm"
    path.write_text(
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; h q[0]; cx q[0],q[1]; '
        "cx q[1],q[2]; measure q -> c;"
    )
    words = ["health", "attribute", str(path), "--backend", "manila", "--shots", "800"]
    done = CliRunner().invoke(cli, [*words, "--seed", "3", "--json"], standalone_mode=False)
    assert done.exception is None
    found = json.loads(done.output)
    assert found["cause"] == "cannot-tell"
    assert "cannot tell at 2400 shots" in found["statement"]
    assert done.return_value == 0
    bad = CliRunner().invoke(cli, [*words, "--sampler", "nowhere:x"], standalone_mode=False)
    assert getattr(bad.exception, "code", "") == "health-sampler"


def test_its_simulation_is_no_job_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `interlock run` whatever runs outside `INSIDE` is guarded as a job of its own."""
    device = twin("manila")
    isa = circuit(device)
    law = device.probabilities(isa)
    seen: list[bool] = []
    simulate = Twin.probabilities

    def watched(self: Twin, given: QuantumCircuit) -> dict[str, float]:
        seen.append(INSIDE.get())
        return simulate(self, given)

    monkeypatch.setattr(Twin, "probabilities", watched)
    looks(tmp_path, device, isa, [law, law])
    assert seen
    assert all(seen)
    assert not INSIDE.get()
