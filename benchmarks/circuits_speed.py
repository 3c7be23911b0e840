"""Identity, ingest, preflight and equivalence by size, beside Qiskit's own and bare QCEC.

    python benchmarks/circuits_speed.py

Also what Qiskit's own checks (its parsers, then `is_isa_circuit`) stop of the known-bad corpus.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mqt import qcec
from qiskit import QuantumCircuit, qasm2, qasm3, transpile
from qiskit.circuit.library import real_amplitudes
from qiskit.transpiler import Target
from qiskit_ibm_runtime.fake_provider import FakeManilaV2, FakeSherbrooke
from qiskit_ibm_runtime.utils.utils import is_isa_circuit

from interlock.circuits.check import check_circuit, check_file
from interlock.circuits.equivalence import compare, placement_of
from interlock.circuits.ingest import ingest
from interlock.circuits.packs import Limits
from interlock.circuits.preflight import inspect
from interlock.circuits.qasm import parse
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.target import target_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def show(name: str, run: Callable[[], Any], rounds: int = 30) -> None:
    """Print wall clock, and the CPU time of this process, which other load does not change."""
    run()
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        cpus.append((time.process_time() - cpu) * 1e3)
        walls.append((time.perf_counter() - wall) * 1e3)
    walls.sort()
    cpus.sort()
    half, tail = len(walls) // 2, int(len(walls) * 0.95)
    print(
        f"  {name:<42} wall {walls[half]:9.3f} ms, p95 {walls[tail]:9.3f}"
        f"   CPU here {cpus[half]:9.3f} ms, p95 {cpus[tail]:9.3f}"
    )


def layers(n: int, count: int) -> QuantumCircuit:
    out = QuantumCircuit(n)
    for layer in range(count):
        for q in range(n):
            out.rx(0.1 * q + layer, q)
        for q in range(n - 1):
            out.cx(q, q + 1)
    out.measure_all()
    return out


def corpus() -> None:
    from tests.vectors.circuits.corpus import BAD

    ours = theirs = 0
    with tempfile.TemporaryDirectory() as folder:
        for lean, text in BAD.values():
            path = Path(folder) / "bad.qasm"
            path.write_text(text)
            ours += check_file(path, lean, Limits(), shots=100).refused
            try:
                loads = qasm2.loads if "OPENQASM 2" in text else qasm3.loads
                circuit = loads(text)
                native = Target(num_qubits=lean.num_qubits)
                from qiskit.circuit.library.standard_gates import (
                    get_standard_gate_name_mapping as mapping,
                )

                for name, places in (lean.gates or {}).items():
                    if name in mapping():
                        where = places or {(q,): None for q in range(lean.num_qubits or 0)}
                        native.add_instruction(mapping()[name], dict.fromkeys(where))
                theirs += bool(is_isa_circuit(circuit, native))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                theirs += 1
    print(f"known-bad corpus of {len(BAD)}: interlock stops {ours}, Qiskit's checks stop {theirs}")


def main() -> int:
    sherbrooke, manila = FakeSherbrooke(), FakeManilaV2()
    for n, count, device in ((5, 5, manila), (20, 10, sherbrooke), (100, 15, sherbrooke)):
        raw = layers(n, count)
        ready = transpile(raw, device, optimization_level=1, seed_transpiler=1)
        canonical, target = from_qiskit(ready), target_of(device)
        text = qasm3.dumps(raw)
        print(f"{n} qubits, {raw.size()} operations; transpiled {ready.size()}")
        show("identity: from_qiskit + sha256", lambda c=raw: from_qiskit(c).sha256)
        show("preflight: rules alone", lambda c=canonical, t=target: inspect(c, t))
        show(
            "preflight: from_qiskit, rules, estimates",
            lambda c=ready, t=target: check_circuit(from_qiskit(c), t, Limits(), shots=1024),
        )
        show("Qiskit is_isa_circuit", lambda c=ready, d=device: is_isa_circuit(c, d.target))
        show("ingest OpenQASM 3, confined child", lambda s=text: ingest(s.encode()), 10)
        show("own reader alone", lambda s=text: parse(s), 10)
        show("qiskit.qasm3.loads", lambda s=text: qasm3.loads(s), 3)
    for n in (5, 7, 10):
        source = real_amplitudes(n, reps=2)
        source = source.assign_parameters([0.1 * i for i in range(source.num_parameters)])
        ready = transpile(source, sherbrooke, optimization_level=1, seed_transpiler=1)
        left, right, place = from_qiskit(source), from_qiskit(ready), placement_of(ready)
        print(f"equivalence, {n} qubits")
        show(
            "compare, cache miss",
            lambda a=left, b=right, p=place: compare(a, b, placement=p, seed=1),
            15,
        )
        show("compare, cached", lambda a=left, b=right, p=place: compare(a, b, placement=p), 15)
        show(
            "bare QCEC, in process",
            lambda a=source, b=ready: qcec.verify(
                a, b, run_zx_checker=False, run_simulation_checker=False, parallel=False
            ),
            15,
        )
    corpus()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
