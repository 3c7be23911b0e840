"""Mutation test of the equivalence check, beside bare QCEC on the same pairs.

    python benchmarks/circuits_equivalence.py [pairs] [seconds-a-pair]      (500 and 2 by default)

Each pair is a source and what Qiskit compiled it to, or that with one mutation: a gate inserted,
dropped, replaced, re-angled, or its wires swapped. A mutant that is the same circuit after all does
not count; up to eight qubits Qiskit's own operators say so, above them a mutant is a Pauli or a
large rotation, which cannot be the same. Then rotations of 1e-2 to 1e-8 rad are added anywhere: the
largest one that is called equivalent is the blind spot, here and of bare QCEC.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

import msgspec
from mqt import qcec
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import real_amplitudes
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2, FakeManilaV2, FakeSherbrooke

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.equivalence import compare, placement_of, recompiler
from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit

KINDS = ("none", "insert", "drop", "replace", "angle", "swap")


def ghz(n: int) -> QuantumCircuit:
    out = QuantumCircuit(n)
    out.h(0)
    for q in range(n - 1):
        out.cx(q, q + 1)
    return out


def bound_ansatz(n: int, rng: random.Random) -> QuantumCircuit:
    out = real_amplitudes(n, reps=1, entanglement="linear")
    return out.assign_parameters([rng.uniform(0.1, 3) for _ in range(out.num_parameters)])


def sources(rng: random.Random) -> tuple[QuantumCircuit, object]:
    family = rng.randrange(5)
    if family == 0:
        n = rng.randint(3, 5)
        return random_circuit(n, 5, max_operands=3, seed=rng.randrange(10**6)), MANILA
    if family == 1:
        n = rng.randint(6, 14)
        return random_circuit(n, 3, max_operands=2, seed=rng.randrange(10**6)), GUADALUPE
    if family == 2:
        return ghz(rng.choice((5, 12, 30, 60, 100, 127))), SHERBROOKE
    if family == 3:
        return bound_ansatz(rng.choice((4, 8, 12, 16)), rng), GUADALUPE
    return real_amplitudes(rng.choice((4, 10, 20, 40)), reps=1, entanglement="linear"), SHERBROOKE


def mutate(circuit: Circuit, kind: str, rng: random.Random) -> Circuit | None:
    ops = list(circuit.operations)
    at = rng.randrange(len(ops))
    op = ops[at]
    if kind == "insert":
        ops.insert(at, Operation(rng.choice("xyz"), (), op.qubits[:1]))
    elif kind == "drop":
        pairs = [i for i, o in enumerate(ops) if len(o.qubits) == 2]
        del ops[rng.choice(pairs) if pairs else at]
    elif kind == "replace":
        ops[at] = Operation("y", (), op.qubits[:1])
    elif kind == "angle":
        angled = [i for i, o in enumerate(ops) if o.params and not isinstance(o.params[0], str)]
        if not angled:
            return None
        at = rng.choice(angled)
        moved = (ops[at].params[0] + rng.uniform(0.3, 2.5), *ops[at].params[1:])
        ops[at] = msgspec.structs.replace(ops[at], params=moved)
    elif kind == "swap":
        pairs = [i for i, o in enumerate(ops) if o.name in ("cx", "ecr")]
        if not pairs:
            return None
        at = rng.choice(pairs)
        ops[at] = msgspec.structs.replace(ops[at], qubits=ops[at].qubits[::-1])
    return msgspec.structs.replace(circuit, operations=tuple(ops))


def really_same(compiled: Circuit, mutant: Circuit) -> bool | None:
    """Judge by Qiskit's operators on the qubits in use, or None where that is too large."""
    used = sorted(compiled.used_qubits | mutant.used_qubits)
    if len(used) > 8 or compiled.parameters:
        return None
    place = {q: i for i, q in enumerate(used)}

    def small(c: Circuit) -> Operator:
        ops = tuple(
            msgspec.structs.replace(o, qubits=tuple(place[q] for q in o.qubits))
            for o in c.operations
            if o.name != "barrier"
        )
        return Operator(to_qiskit(Circuit(num_qubits=len(used), operations=ops)))

    return bool(small(compiled).equiv(small(mutant), atol=1e-6))


def bare(source: QuantumCircuit, native: QuantumCircuit, mutant: Circuit, limit: float) -> str:
    circuit = to_qiskit(mutant)
    circuit._layout = native.layout
    try:
        found = qcec.verify(
            source, circuit, run_zx_checker=False, run_simulation_checker=False, parallel=False,
            timeout=limit,
        ).json()["equivalence"]  # fmt: skip
    except Exception as error:  # noqa: BLE001 - it is what is measured
        return type(error).__name__
    return str(found)


def rotations(limit: float) -> int:
    """Print the largest added rotation that is called equivalent; return how many should not be."""
    rng = random.Random(7)
    wrong = 0
    for n in (5, 7, 10, 14, 16, 20):
        largest: dict[str, float] = {"interlock": 0.0, "bare QCEC": 0.0}
        tried: Counter[str] = Counter()
        for number in range(6):
            kind = number % 2
            source = bound_ansatz(n, rng) if kind else random_circuit(n, 3, 2, seed=number)
            native = transpile(source, basis_gates=["rz", "sx", "x", "cx"], seed_transpiler=1)
            made = from_qiskit(native)
            for exponent in range(2, 9):
                ops = list(made.operations)
                at = rng.randrange(len(ops))
                turn = Operation(rng.choice(("rx", "rz")), (10.0**-exponent,), ops[at].qubits[:1])
                mutant = msgspec.structs.replace(made, operations=(*ops[:at], turn, *ops[at:]))
                found = compare(
                    from_qiskit(source), mutant, placement=placement_of(native), timeout_s=limit
                )
                tried[found.answer.value] += 1
                if found.answer.value == "equivalent":
                    largest["interlock"] = max(largest["interlock"], 10.0**-exponent)
                    wrong += 10.0**-exponent >= (found.resolution or 0.0)
                if bare(source, native, mutant, limit).startswith("equivalent"):
                    largest["bare QCEC"] = max(largest["bare QCEC"], 10.0**-exponent)
        print(f"{n} qubits, added rotations, largest called equivalent: {largest}; {dict(tried)}")
    return wrong


def main() -> int:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    rng = random.Random(20260202)
    ours: Counter[tuple[str, str]] = Counter()
    theirs: Counter[tuple[str, str]] = Counter()
    methods: Counter[str] = Counter()
    shares: Counter[tuple[str, str]] = Counter()
    times: dict[str, list[float]] = {"1-5": [], "6-14": [], "15-127": []}
    wrong = 0
    done = 0
    while done < pairs:
        source, backend = sources(rng)
        native = transpile(source, backend, seed_transpiler=done, optimization_level=done % 3)
        compiled = from_qiskit(native)
        kind = KINDS[done % len(KINDS)]
        mutant = compiled if kind == "none" else mutate(compiled, kind, rng)
        if mutant is None or not mutant.operations:
            continue
        same = True if kind == "none" else really_same(compiled, mutant)
        if kind != "none" and same is None and kind in ("swap", "drop", "angle", "replace"):
            same = False if kind != "replace" else None
        if same is None and kind == "replace":
            continue
        truth = "equal" if same else "mutant"
        started = time.perf_counter()
        found = compare(
            from_qiskit(source), mutant, placement=placement_of(native), timeout_s=limit, seed=done,
            recompile=recompiler(backend, level=done % 3, seed=done),
        )  # fmt: skip
        width = source.num_qubits
        bucket = "1-5" if width <= 5 else "6-14" if width <= 14 else "15-127"
        times[bucket].append(time.perf_counter() - started)
        ours[truth, found.answer.value] += 1
        shares[truth, found.strength or "unknown"] += 1
        methods[f"{found.method}{'/' + found.strength if found.strength else ''}"] += 1
        if truth == "mutant" and found.answer.value == "equivalent":
            wrong += 1
            print("FALSE EQUIVALENT", kind, width, found)
        if truth == "equal" and found.answer.value == "not-equivalent":
            print("FALSE ALARM", kind, width, found)
        if width <= 20:
            theirs[truth, bare(source, native, mutant, limit)] += 1
        done += 1
    print(f"{pairs} pairs, deadline {limit:g} s")
    print("interlock:", {" -> ".join(k): v for k, v in sorted(ours.items())})
    print("methods:  ", dict(methods))
    for truth in ("equal", "mutant"):
        print(f"{truth} pairs:", {k[1]: v for k, v in sorted(shares.items()) if k[0] == truth})
    print("bare QCEC, up to 20 qubits:", {" -> ".join(k): v for k, v in sorted(theirs.items())})
    for bucket, values in times.items():
        values.sort()
        if values:
            half, tail = values[len(values) // 2], values[int(len(values) * 0.95)]
            print(f"{bucket} qubits: median {half * 1e3:.0f} ms, p95 {tail * 1e3:.0f} ms")
    print("false equivalent:", wrong)
    missed = rotations(limit)
    print("rotations above the stated resolution called equivalent:", missed)
    wrong += missed
    return 1 if wrong else 0


MANILA, GUADALUPE, SHERBROOKE = FakeManilaV2(), FakeGuadalupeV2(), FakeSherbrooke()

if __name__ == "__main__":
    raise SystemExit(main())
