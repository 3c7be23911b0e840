"""The persisted form: schema, golden vectors, and a second reader that shares no code."""

import hashlib
import json
import math
import random
import struct
from decimal import Decimal
from importlib import resources
from pathlib import Path

import jsonschema
import msgspec
import pytest

from interlock.circuits.canonical import Circuit
from interlock.circuits.qasm import parse

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
SCHEMA = json.loads(
    resources.files("interlock.circuits").joinpath("circuit-v1.schema.json").read_text()
)


def compact(value):
    """Write JSON by the reference page: numbers as it says, no spaces."""
    if isinstance(value, list):
        return "[" + ",".join(compact(v) for v in value) + "]"
    if isinstance(value, float):
        digits = Decimal(repr(value))
        if value == 0 or 1e-5 <= abs(value) < 1e16:
            text = f"{digits:f}"
            return text if "." in text else text + ".0"
        mantissa, exponent = f"{digits:e}".lower().split("e")
        return f"{mantissa}e{int(exponent)}"
    return json.dumps(value, ensure_ascii=False)


def second_reader(document):
    """Compute the identity of a circuit without blocks from its JSON, by the reference page."""
    qubits, clbits = document["num_qubits"], document["num_clbits"]
    depth, stamp = {}, {}
    rows = []
    for name, params, on, bits, control in document["operations"]:
        assert control is None
        wires = list(on) + [qubits + c for c in bits] or list(range(qubits + clbits))
        start = max((depth.get(w, 0), stamp.get(w, 0)) for w in wires)
        level = (start[0], start[1] + 1) if name == "barrier" else (start[0] + 1, 0)
        for w in wires:
            depth[w], stamp[w] = level
        first = min(wires) if name == "barrier" or len(wires) != 2 or bits else on[0]
        on = sorted(on) if name == "barrier" else on
        rows.append((level, first, [name, params, on, bits, None]))
    rows.sort(key=lambda r: r[:2])
    registers = document["registers"] if len(document["registers"]) > 1 else []
    body = [qubits, clbits, [r[2] for r in rows], sorted(registers, key=lambda r: r[1])]
    return hashlib.sha256(b"interlock-circuit-v1\n" + compact(body).encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_vectors(name):
    row = GOLDEN[name]
    circuit = Circuit.from_json(json.dumps(row["circuit"]))
    assert circuit.sha256 == row["sha256"]
    assert json.loads(circuit.to_json()) == row["circuit"]
    assert parse(row["qasm"]).sha256 == row["sha256"]
    jsonschema.validate(row["circuit"], SCHEMA)
    if not row["blocks"]:
        assert second_reader(row["circuit"]) == row["sha256"]


def test_numbers_are_written_as_the_page_says():
    rng = random.Random(3)
    drawn = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(2000)]
    values = [10.0**k for k in range(-20, 20)] + [v for v in drawn if math.isfinite(v)]
    values += [rng.uniform(-7, 7) for _ in range(500)]
    assert [msgspec.json.encode(v).decode() for v in values] == [compact(v) for v in values]


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"extra": 1}, {"operations": [["h", [], [0, 0]]]}, {"num_qubits": -1}],
)
def test_the_schema_refuses_what_the_reader_refuses(change):
    document = {**next(iter(GOLDEN.values()))["circuit"], **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)
