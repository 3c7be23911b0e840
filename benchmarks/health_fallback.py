"""Every trigger of the fallback, injected: `python benchmarks/health_fallback.py [--runs 100]`.

For each trigger: the share of jobs answered by the baseline and labelled in the result, whether the
baseline's bits are the same each time, and the 95th percentile of the time to an answer.
"""

from __future__ import annotations

import argparse
import json
import os
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
from interlock.backends import ConfinedSampler, Twin, TwinSampler, TwinSpec, snapshot, twin
from interlock.guard.execute.sentinels import SentinelSampler
from interlock.guard.policy import load_policy

SHOTS = 100
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
            Broken(good, slow), policy(execute={"run": {"timeout_s": 0.2}}), "execute.run.timeout",
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


def inject(name: str, runs: int) -> dict[str, Any]:
    sampler, rules, expected = triggers()[name]
    with tempfile.TemporaryDirectory() as folder:
        guarded = interlock.guard(
            sampler, policy=rules, home=Path(folder), fallback=lambda pubs: [ANSWER for _ in pubs]
        )
        circuit = bell(twin("manila"))
        labelled, right, bits, seconds, quantum = 0, 0, set(), [], 0
        for _ in range(runs):
            started = time.perf_counter()
            result = guarded.run([circuit], shots=SHOTS).result()
            seconds.append(time.perf_counter() - started)
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
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--trigger", choices=list(triggers()))
    args = parser.parse_args()
    for name in [args.trigger] if args.trigger else list(triggers()):
        print(json.dumps(inject(name, args.runs)))


if __name__ == "__main__":
    main()
