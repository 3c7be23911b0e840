"""Fuzz the reader: mutated files and grammar-made ones in turn, in the confined child.

    python benchmarks/circuits_fuzz.py [inputs-a-format] [format...]      (10000, all by default)

Every input must be read or refused with a reason; the parent must go on, and a canary file that
hostile inputs try to read or create must stay as it is.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import Parameter
from qiskit.circuit.random import random_circuit

from interlock.circuits.ingest import Limits, ingest
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import InterlockError

SECRET = "canary-7f3a"


def samples() -> dict[str, list[bytes]]:
    bell = QuantumCircuit(2, 2)
    bell.h(0)
    bell.cx(0, 1)
    bell.measure([0, 1], [0, 1])
    rich = QuantumCircuit(3, 3)
    rich.rx(Parameter("a") * 2 + 1, 0)
    rich.measure(0, 0)
    with rich.if_test((rich.clbits[0], 1)):
        rich.ccx(0, 1, 2)
    with rich.for_loop(range(4)) as i:
        rich.rz(i * 0.5, 1)
    rich.delay(100, 2)
    rich.measure([1, 2], [1, 2])
    out: dict[str, list[bytes]] = {"qasm2": [qasm2.dumps(bell).encode()]}
    out["qasm3"] = [qasm3.dumps(c).encode() for c in (bell, rich)]
    out["json"] = [from_qiskit(c).to_json() for c in (bell, rich)]
    out["qpy"] = []
    for circuit in (bell, rich):
        buffer = io.BytesIO()
        qpy.dump(circuit, buffer)
        out["qpy"].append(buffer.getvalue())
    return out


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def pieces(folder: Path) -> list[bytes]:
    secret = folder / "secret.inc"
    return [
        b"(", b")", b"{", b"}", b"[", b"]", b'"', b"//", b"/*", b"*/", b"@", b"#", b"$",
        b"\x00", b"\xff", b"nan", b"1e999", b"-", b"9" * 30, b"(" * 200, b"{" * 100,
        f'include "{secret}";'.encode(), f'include "../../../..{secret}";'.encode(),
        pickle.dumps(Bomb(str(folder / "ran"))), b"U(0,0,0) q[0];", b"gate g a { g a; }",
        b"while(true) { }", b"qubit[99999999] z;", b'[["range",0,1000000000,1]]', b'"NaN"',
        b"pow(99999999) @ ", b"ctrl @ ", b"input float t;", "θ".encode(), b"\xed\xa0\x80",
    ]  # fmt: skip


def mutate(data: bytes, rng: random.Random, extra: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(out) or 1)
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.randint(1, 12)]
        elif kind == 2:
            out[at:at] = out[at : at + rng.randint(1, 60)]
        elif kind == 3:
            out[at:at] = rng.choice(extra)
        else:
            size = rng.randint(1, 8)
            out[at : at + size] = rng.randbytes(size)
    return bytes(out)


def grammar(kind: str, rng: random.Random) -> bytes:
    """Make a program that is often nearly right."""
    names = ["x", "h", "cx", "rx", "U", "ccx", "u3", "gphase", "cu", "nothing", "measure"]

    def expression(depth: int) -> str:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(["pi", "0.5", "1", "t", "2", "1e400", "i", "c", "c[0]", "0"])
        form = rng.choice(["{}+{}", "{}*{}", "{}/{}", "-({})", "sin({})", "({})**{}", "{}=={}"])
        return form.format(*(expression(depth - 1) for _ in range(2)))

    def statement(depth: int) -> str:
        roll = rng.random()
        if depth > 0 and roll < 0.3:
            head = rng.choice(
                [f"if ({expression(2)})", f"while ({expression(1)})", "for int i in [0:3]", "box",
                 "gate k a, b", "switch (c)", "ctrl @", "def f()"]
            )  # fmt: skip
            return (
                f"{head} {{ {' '.join(statement(depth - 1) for _ in range(rng.randint(0, 3)))} }}"
            )
        operands = ", ".join(
            rng.choice(["q[0]", "q[1]", "q", "a", "$0", "q[i]", "q[0:1]", "c[0]"])
            for _ in range(rng.randint(0, 3))
        )
        params = f"({expression(3)})" if rng.random() < 0.4 else ""
        return f"{rng.choice(names)}{params} {operands};"

    right = ["x q[0];", "cx q[0], q[1];", "rz(pi / 2) q;", "barrier q;", "measure q[0] -> c[0];",
             "reset q[2];", "gate mine(t) a { rz(t) a; } mine(0.5) q[1];"]  # fmt: skip
    if kind == "qasm3":
        right += ["if (c[0]) { x q[1]; }", "for int i in [0:2] { h q[i]; }", "ctrl @ x q[0], q[1];"]
    body = " ".join(
        rng.choice(right) if rng.random() < 0.6 else statement(rng.randint(0, 3))
        for _ in range(rng.randint(1, 3))
    )
    if kind == "qasm2":
        return f'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; {body}'.encode()
    return (
        'OPENQASM 3.0; include "stdgates.inc"; input float t; qubit[3] q; bit[3] c; ' + body
    ).encode()


def random_json(rng: random.Random) -> bytes:
    """Make canonical JSON that is often nearly right: real names, wrong shapes and numbers."""
    names = ["h", "cx", "rx", "U", "unitary", "measure", "barrier", "if_else", "for_loop",
             "switch_case", "box", "break_loop", "delay", "nothing", "", "\u0000"]  # fmt: skip
    numbers = [0, 1, -1, 2**63, 2**70, 0.5, -0.0, 1e308, "NaN", "a", "2*a", "exec('x')", None]
    right = [["h", [], [0], []], ["cx", [], [0, 1], []], ["rx", ["a"], [2], []],
             ["measure", [], [0], [0]], ["barrier", [], [0, 1], []]]  # fmt: skip
    shape = rng.random() < 0.5

    def bits() -> list[object]:
        return [rng.choice([0, 1, 2, 3, -1, 2**40, "0", None]) if rng.random() < 0.2 else
                rng.randrange(3) for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]  # fmt: skip

    def condition(depth: int) -> object:
        if depth == 0 or rng.random() < 0.4:
            return rng.choice([["bit", 0], ["bits", [0, 1]], ["value", 1, 2], ["bit"], [], None, 7,
                               ["range", 0, 10**18, 1], ["set", [0, "1"]]])  # fmt: skip
        return [rng.choice(["==", "&&", "!", "<<", "uint", "?"]), condition(depth - 1),
                condition(depth - 1)]  # fmt: skip

    def operation(depth: int) -> object:
        if shape and rng.random() < 0.8:
            return rng.choice(right)
        params = [rng.choice(numbers) for _ in range(rng.randrange(3))]
        out: list[object] = [rng.choice(names), params, bits(), bits()]
        if depth and rng.random() < 0.4:
            blocks = [[operation(depth - 1) for _ in range(rng.randrange(3))]
                      for _ in range(rng.randrange(3))]  # fmt: skip
            cases = [[0]] if rng.random() < 0.3 else []
            out.append([condition(2), blocks, cases, rng.choice(["", "i"])])
        return out[: rng.choice([1, 2, 3, 4, 5, 5, 5])]

    document: dict[str, object] = {
        "version": 1 if shape else rng.choice([1, 1, 1, 1, 2, "1"]),
        "num_qubits": 3 if shape else rng.choice([3, 3, 3, 0, -1, 10**9, 2.5]),
        "num_clbits": 3 if shape else rng.choice([3, 3, 3, 10**12]),
        "registers": [["c", [0, 1]]] if rng.random() < 0.8 else [["c", [9]], ["c", [0]]],
        "global_phase": rng.choice(numbers),
        "operations": [operation(3) for _ in range(rng.randint(0, 4))],
    }
    if rng.random() < 0.1:
        document[rng.choice(["lines", "__class__", "x"])] = []
    return json.dumps(document).encode()


def random_qpy(rng: random.Random) -> bytes:
    """Write a random circuit as QPY of some version, then change numbers where its fields are."""
    circuit = random_circuit(
        rng.randint(1, 4), rng.randint(1, 4), measure=True, conditional=rng.random() < 0.3,
        seed=rng.randrange(10**6),
    )  # fmt: skip
    if rng.random() < 0.5:
        circuit.name = rng.choice(["", "a" * 500, "../../etc/passwd", "\u202e"])
        circuit.metadata = {"k": rng.choice(["v", None, [1, 2], "x" * 1000])}
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer, version=rng.randint(13, qpy.QPY_VERSION))
    out = bytearray(buffer.getvalue())
    for _ in range(rng.randint(0, 3)):
        width = rng.choice([1, 2, 4, 8])
        at = rng.randrange(len(out) - width)
        value = rng.choice([0, 1, 255, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), len(out)])
        out[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "big")
    return bytes(out)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    limits = Limits(timeout_s=5.0)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secret.inc").write_text(f"// {SECRET}\ngate {SECRET.replace('-', '_')} a {{ }}")
        extra = pieces(folder)
        wanted = sys.argv[2:] or list(samples())
        for kind, seeds in ((k, v) for k, v in samples().items() if k in wanted):
            rng = random.Random(20260101)
            codes: Counter[str] = Counter()
            started = time.perf_counter()
            slowest = 0.0
            for number in range(count):
                data = mutate(rng.choice(seeds), rng, extra)
                if kind.startswith("qasm") and number % 2:
                    data = grammar(kind, rng)
                elif number % 2:
                    data = random_json(rng) if kind == "json" else random_qpy(rng)
                began = time.perf_counter()
                try:
                    ingest(data, limits=limits)
                    codes["read"] += 1
                except InterlockError as error:
                    codes[error.code] += 1
                    if not (error.message and error.got) or SECRET in error.diagnostics():
                        failed += 1
                        print("NO REASON OR DISCLOSURE", kind, number, error.diagnostics())
                slowest = max(slowest, time.perf_counter() - began)
            spent = time.perf_counter() - started
            if (folder / "ran").exists():
                failed += 1
                print("CODE RAN", kind)
            print(f"{kind}: {count} inputs, {spent:.0f} s, slowest {slowest:.2f} s, {dict(codes)}")
    print("failures:", failed)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
