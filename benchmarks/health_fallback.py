"""Every trigger of the fallback, injected: `python benchmarks/health_fallback.py [--runs 100]`.

For each trigger: the share of jobs answered by the baseline and labelled in the result, whether the
baseline's bits are the same each time, and the 95th percentile of the time to the answer and of
what the fallback added: that time without the device's failed attempt.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import PrimitiveResult

import interlock
from interlock.backends import (
    ConfinedSampler,
    Twin,
    TwinEstimator,
    TwinSampler,
    TwinSpec,
    snapshot,
    twin,
)
from interlock.guard.execute.sentinels import SentinelSampler
from interlock.guard.policy import load_policy

SHOTS = 100
#: Of the trigger `time-out`, whose device takes 0.6 s.
DEADLINE_S = 0.2
#: Triggers of estimates; there `rule_named` means: value and gradient are the baseline's.
ESTIMATORS = ("estimator", "torch")
ANSWER = {"00": 50, "11": 50}


def policy(**sections: Any) -> dict[str, Any]:
    document = msgspec.json.decode(msgspec.json.encode(load_policy().document))
    for stage, controls in sections.items():
        document[stage] = document[stage] | controls
    return document


def bell(device: Twin) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return transpile(circuit, device, seed_transpiler=1)


class Broken(TwinSampler):
    """A sampler that fails in a chosen way."""

    def __init__(self, backend: Twin, fault: Callable[[PrimitiveResult], Any]) -> None:
        super().__init__(backend, seed=1)
        self.fault = fault

    def _run(self, pubs: Any) -> Any:
        return self.fault(super()._run(pubs))


def offline(_: Any) -> Any:
    raise ConnectionError("no route to host")


def slow(result: Any) -> Any:
    time.sleep(0.6)
    return result


def short(result: Any) -> Any:
    """Half of the shots are missing."""
    data = result[0].data
    from qiskit.primitives import DataBin, SamplerPubResult

    return PrimitiveResult([SamplerPubResult(DataBin(meas=data.meas.slice_shots(range(50))))])


def other(result: Any) -> Any:
    """Counts that break the filter's rule."""
    from qiskit.primitives import BitArray, DataBin, SamplerPubResult

    shots = result[0].data.meas.num_shots
    return PrimitiveResult(
        [SamplerPubResult(DataBin(meas=BitArray.from_counts({"01": shots}, num_bits=2)))]
    )


REVIEWED = """OPENQASM 3.0;
include "stdgates.inc";
qubit[5] q;
bit[2] meas;
h q[0];
meas[0] = measure q[0];
if (meas[0]) { x q[1]; }
meas[1] = measure q[1];
"""


def reviewed() -> str:
    """A folder with a reviewed circuit that no method can compare: it branches on a result."""
    folder = Path(tempfile.mkdtemp(prefix="interlock-reviewed-"))
    atexit.register(shutil.rmtree, folder, True)
    (folder / "reviewed.qasm").write_text(REVIEWED)
    return str(folder)


def dead_edge() -> Twin:
    good = msgspec.structs.replace(snapshot("manila"), observed_at=time.time())
    gates = tuple(
        msgspec.structs.replace(g, error=0.5) if len(g.qubits) == 2 else g for g in good.gates
    )
    return Twin(TwinSpec(reported=msgspec.structs.replace(good, gates=gates)))


def triggers() -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Trigger -> (sampler, policy, rule expected)."""
    good = twin("manila")
    ill = twin("manila", noise_scale=8.0)
    worker = ConfinedSampler(good, seed=1)
    return {
        "offline": (Broken(good, offline), policy(), "execute.run."),
        "stale": (
            TwinSampler(twin("manila", age_s=60 * 3600)), policy(), "health.calibration.stale",
        ),
        "red": (TwinSampler(dead_edge()), policy(), "health.calibration.red"),
        "unknown-equivalence": (
            TwinSampler(good),
            policy(verify={"equivalence": {"reviewed": reviewed(), "on_unknown": "fallback"}}),
            "verify.equivalence.unknown",
        ),
        "filter": (
            Broken(good, other),
            policy(
                filter={"constraints": {"rules": [
                    {"id": "bell", "field": "top", "allowed": ["00", "11"], "on_fail": "fallback"}
                ]}}
            ),
            "filter.constraints.bell",
        ),
        "low-fidelity": (
            TwinSampler(good), policy(health={"fidelity": {"minimum": 0.999}}),
            "health.fidelity.low",
        ),
        "sentinel-alarm": (
            SentinelSampler(TwinSampler(ill), shots=512, rng=1),
            policy(health={"sentinels": {}}, validate={"sentinels": {}}), "sentinels.alarm",
        ),
        "fault": (Broken(good, short), policy(), "validate.counts."),
        "time-out": (
            Broken(good, slow),
            policy(execute={"run": {"timeout_s": DEADLINE_S}}),
            "execute.run.timeout",
        ),
        "worker-death": (Dying(worker), policy(), "execute.run.worker-died"),
    }  # fmt: skip


class Dying(TwinSampler):
    """A confined sampler whose worker is killed while it runs."""

    def __init__(self, inner: ConfinedSampler) -> None:
        super().__init__(inner.backend)
        self.inner = inner

    def _run(self, pubs: Any) -> Any:
        import threading

        server = self.inner._confined._worker
        server.start()
        self.inner._confined._prepared.clear()
        self.inner.run(list(pubs)).result()
        pid = server.pid
        many = list(pubs) * 60
        killer = threading.Timer(0.05, lambda: os.kill(pid, signal.SIGKILL) if pid else None)
        killer.start()
        return self.inner.run(many).result()


class Offline(TwinEstimator):
    """An estimator whose device cannot be reached."""

    def run(self, pubs: Any, *, precision: Any = None) -> Any:
        return offline((pubs, precision))


def timed(sampler: Any) -> list[float]:
    """Have a sampler note how long each of its attempts takes, and return the notes."""
    notes: list[float] = []
    inner = sampler.run

    def run(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        job = inner(*args, **options)
        fetch = job.result

        def result() -> Any:
            try:
                return fetch()
            finally:
                notes.append(time.perf_counter() - started)

        job.result = result
        return job

    sampler.run = run
    return notes


def inject_estimator(name: str, runs: int) -> dict[str, Any]:
    """An estimator, and a torch layer on it, whose gradients must be the surrogate's."""
    import torch
    from qiskit.circuit import Parameter
    from qiskit.quantum_info import SparsePauliOp

    from interlock.training import guarded_circuit

    device = twin("manila")
    angle = Parameter("t")
    made = QuantumCircuit(1)
    made.ry(angle, 0)
    isa = transpile(made, device, seed_transpiler=1, optimization_level=1)
    observable = SparsePauliOp("Z").apply_layout(isa.layout)
    labelled, right, bits, seconds = 0, 0, set(), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        guarded = interlock.guard(
            Offline(device), policy=policy(), home=Path(folder),
            fallback=lambda pubs: [np.cos(p.parameter_values.as_array()[..., 0]) for p in pubs],
        )  # fmt: skip
        surrogate = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Tanh())
        layer = guarded_circuit(
            Offline(device), isa, [observable], inputs=[angle], surrogate=surrogate,
            policy=policy(), home=Path(folder),
        )  # fmt: skip
        for run in range(1, runs + 1):
            started = time.perf_counter()
            if name == "estimator":
                result = guarded.run([(isa, observable, [0.7])], precision=0.05).result()
                value = float(result[0].data.evs)
                labelled += result.metadata["interlock"]["outcome"] == "FALLBACK"
                right += abs(value - np.cos(0.7)) < 1e-9
            else:
                features = torch.tensor([[0.7]], requires_grad=True)
                out = layer(features)
                out.sum().backward()
                twin_of = torch.tensor([[0.7]], requires_grad=True)
                wanted = surrogate(twin_of)
                wanted.sum().backward()
                value = float(out.detach())
                named = sum(n for rule, n in layer.reasons.items() if "execute.run" in rule)
                labelled += named == run and layer.label == "surrogate"
                right += torch.equal(out, wanted) and torch.equal(features.grad, twin_of.grad)
            bits.add(value)
            seconds.append(time.perf_counter() - started)
    return {
        "trigger": name, "runs": runs, "labelled": labelled, "rule_named": int(right),
        "released": runs - labelled, "distinct_answers": len(bits),
        "p95_ms": round(float(np.percentile(seconds, 95)) * 1e3, 1),
    }  # fmt: skip


def inject(name: str, runs: int) -> dict[str, Any]:
    if name in ESTIMATORS:
        return inject_estimator(name, runs)
    sampler, rules, expected = triggers()[name]
    attempts = timed(sampler)
    added: list[float] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        guarded = interlock.guard(
            sampler, policy=rules, home=Path(folder), fallback=lambda pubs: [ANSWER for _ in pubs]
        )
        circuit = bell(twin("manila"))
        labelled, right, bits, seconds, quantum = 0, 0, set(), [], 0
        for _ in range(runs):
            attempts.clear()
            started = time.perf_counter()
            result = guarded.run([circuit], shots=SHOTS).result()
            seconds.append(time.perf_counter() - started)
            # An attempt that is abandoned took as long as the deadline.
            added.append(seconds[-1] - (DEADLINE_S if name == "time-out" else sum(attempts)))
            receipt = result.metadata["interlock"]
            if receipt["outcome"] == "FALLBACK":
                labelled += 1
                right += expected in str(receipt.get("fell_back") or receipt)
                bits.add(json.dumps(result[0].data.meas.get_counts(), sort_keys=True))
            else:
                quantum += 1
        return {
            "trigger": name, "runs": runs, "labelled": labelled, "rule_named": right,
            "released": quantum, "distinct_answers": len(bits),
            "p95_ms": round(float(np.percentile(seconds, 95)) * 1e3, 1),
            "p95_added_ms": round(float(np.percentile(added, 95)) * 1e3, 1),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--trigger", choices=[*triggers(), *ESTIMATORS])
    args = parser.parse_args()
    for name in [args.trigger] if args.trigger else [*triggers(), *ESTIMATORS]:
        print(json.dumps(inject(name, args.runs)))


if __name__ == "__main__":
    main()
