"""Identity, ingest, preflight and equivalence by size, beside Qiskit's own, bare QCEC and qcheck.

    python benchmarks/circuits_speed.py [--qcheck PATH]

Also what each finds on the same corpora: 70 known-bad circuits and 200 good ones. Qiskit's own
checks are its parsers, then `is_isa_circuit`; qcheck (PyPI `qcheck-quantum`, a program of its own)
knows no device, so a good part of the corpus is not its business.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mqt import qcec
from qiskit import QuantumCircuit, qasm2, qasm3, transpile
from qiskit.circuit.library import real_amplitudes
from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping
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
from interlock.circuits.target import Target as LeanTarget
from interlock.circuits.target import target_of
from interlock.confine import Completed, ForkServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


#: CPU seconds that confined children have used.
children = [0.0]


def run_counted(self: ForkServer, *args: Any, **kwargs: Any) -> Completed:
    done = run_plain(self, *args, **kwargs)
    children[0] += done.cpu_s
    return done


run_plain = ForkServer.run
ForkServer.run = run_counted  # type: ignore[method-assign] # counts the child's CPU


def show(name: str, run: Callable[[], Any], rounds: int = 30) -> None:
    """Print wall clock, and CPU time with that of confined children, which load changes less."""
    run()
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time() + children[0]
        run()
        cpus.append((time.process_time() + children[0] - cpu) * 1e3)
        walls.append((time.perf_counter() - wall) * 1e3)
    walls.sort()
    cpus.sort()
    half, tail = len(walls) // 2, int(len(walls) * 0.95)
    print(
        f"  {name:<42} wall {walls[half]:9.3f} ms, p95 {walls[tail]:9.3f}"
        f"   CPU {cpus[half]:9.3f} ms, p95 {cpus[tail]:9.3f}"
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


def qiskit_stops(text: str, native: Target) -> bool:
    """Whether Qiskit's parsers or its ISA check refuse a program."""
    try:
        loads = qasm2.loads if "OPENQASM 2" in text else qasm3.loads
        return bool(is_isa_circuit(loads(text), native))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return True


def native_of(lean: LeanTarget) -> Target:
    """Return Qiskit's target of a device of the corpus."""
    known = get_standard_gate_name_mapping()
    native = Target(num_qubits=lean.num_qubits)
    for name, places in (lean.gates or {}).items():
        if name in known:
            where = places or {(q,): None for q in range(lean.num_qubits or 0)}
            native.add_instruction(known[name], dict.fromkeys(where))
    return native


def qcheck(program: str, folder: Path) -> tuple[int, int]:
    """Return how many files of a folder qcheck fails, and how many it says anything about."""
    done = subprocess.run(
        [program, "verify", str(folder), "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    results = json.loads(done.stdout)["results"]
    failed = sum(r["status"] == "fail" or r["unsafe"] for r in results)
    return failed, sum(bool(r["errors"] or r["warnings"]) for r in results)


def corpora(program: str | None) -> None:
    from tests.vectors.circuits.corpus import BAD
    from tests.vectors.circuits.test_corpus import DEVICES, good

    ours = theirs = wrong = wrong_theirs = count = 0
    with tempfile.TemporaryDirectory() as name:
        bad, fine = Path(name) / "bad", Path(name) / "good"
        bad.mkdir()
        fine.mkdir()
        for title, (lean, text) in BAD.items():
            path = bad / f"{title}.qasm"
            path.write_text(text)
            ours += check_file(path, lean, Limits(), shots=100).refused
            theirs += qiskit_stops(text, native_of(lean))
        for device in DEVICES:
            for backend, circuit, _ in good(device):
                # qcheck knows no physical qubits, so they get names.
                text = re.sub(r"\$(\d+)", r"q[\1]", qasm3.dumps(circuit)).replace(
                    '"stdgates.inc";', f'"stdgates.inc";\nqubit[{circuit.num_qubits}] q;', 1
                )
                path = fine / f"{device}-{count}.qasm"
                path.write_text(text)
                count += 1
                target = target_of(backend)
                wrong += check_file(path, target, Limits(), shots=100).refused
                wrong_theirs += bool(is_isa_circuit(circuit, backend.target))
        print(f"stopped of {len(BAD)} known-bad and {count} good circuits")
        print(f"  interlock check                    {ours}, {wrong}")
        print(f"  Qiskit's parsers, is_isa_circuit   {theirs}, {wrong_theirs}")
        if program:
            started = time.perf_counter()
            found = [qcheck(program, folder) for folder in (bad, fine)]
            spent = (time.perf_counter() - started) / (len(BAD) + count)
            print(f"  qcheck: fails                      {found[0][0]}, {found[1][0]}")
            print(f"  qcheck: says anything              {found[0][1]}, {found[1][1]}")
            print(f"  qcheck takes {spent * 1e3:.1f} ms a file, its start included")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--qcheck")
    options = parser.parse_args()
    sherbrooke, manila = FakeSherbrooke(), FakeManilaV2()
    for n, count, device in (
        (5, 5, manila),
        (20, 10, sherbrooke),
        (100, 2, sherbrooke),
        (100, 7, sherbrooke),
        (100, 15, sherbrooke),
    ):
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
        with tempfile.NamedTemporaryFile(suffix=".qasm") as file:
            path = Path(file.name)
            path.write_text(text)
            show(
                "interlock check of the file, all of it",
                lambda p=path, t=target: check_file(p, t, Limits(), shots=1024),
            )
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
    corpora(options.qcheck)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
