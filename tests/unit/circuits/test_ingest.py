import io
import os
import pickle
import random
from pathlib import Path

import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, qpy

from interlock.circuits.ingest import Limits, ingest, read_circuit
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.sniff import sniff
from interlock.confine import probe
from interlock.errors import InputError, InterlockError


def bell():
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


def qpy_bytes(circuit):
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


SAMPLES = {
    "qasm2": qasm2.dumps(bell()).encode(),
    "qasm3": qasm3.dumps(bell()).encode(),
    "qpy": qpy_bytes(bell()),
    "json": from_qiskit(bell()).to_json(),
}


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_every_format_gives_the_same_identity_in_a_confined_child(kind):
    found = ingest(SAMPLES[kind])
    assert found.format == kind
    assert found.circuit.sha256 == from_qiskit(bell()).sha256
    assert found.level == probe().level


def test_a_file(tmp_path):
    path = tmp_path / "bell.qasm"
    path.write_bytes(SAMPLES["qasm2"])
    assert read_circuit(path).lines[0][0] > 1
    with pytest.raises(InputError) as error:
        read_circuit(path, format="qpy")
    assert error.value.code == "circuit-format"


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/interlock-was-here",)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"   ", b"hello", b"\x00\x01", b"PK\x03\x04zip", b"\x1f\x8bgzip", b"#!/bin/sh\n",
        b"\xff\xfeO\x00P\x00", b"OPENQASM 4.0;", b"OPENQASM", b"QISKIT",
        b"QISKIT\x0c" + b"\x00" * 64,
        *(pickle.dumps(Bomb(), protocol=p) for p in range(6)),
        b"/*" * 50_000, b"/**/" * 50_000, b"//\n" * 50_000, b". " * 50_000,
    ],
)  # fmt: skip
def test_unknown_formats_are_refused_before_any_parser(data):
    with pytest.raises(InputError) as error:
        sniff(data)
    assert error.value.code == "circuit-format"
    assert error.value.got
    assert error.value.fix


@pytest.mark.parametrize("version", range(13))
def test_old_qpy_is_refused(version):
    data = bytearray(SAMPLES["qpy"])
    data[6] = version
    with pytest.raises(InputError, match="format"):
        read_circuit(bytes(data))


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "OPENQASM 2.0;", 5, None, bytearray(b"OPENQASM 2.0;")],
)
def test_text_is_never_taken_for_a_path(source):
    with pytest.raises(InputError) as error:
        read_circuit(source)
    assert error.value.code == "circuit-file"


def test_what_is_no_file_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "none", fifo, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(InputError) as error:
            read_circuit(path)
        assert error.value.code == "circuit-file"


def test_size_is_bounded(tmp_path):
    path = tmp_path / "big.qasm"
    path.write_bytes(b"OPENQASM 2.0;" + b" " * 1000)
    for source in (path, path.read_bytes()):
        with pytest.raises(InputError) as error:
            read_circuit(source, limits=Limits(max_bytes=100))
        assert error.value.code == "circuit-too-large"


def test_includes_disclose_nothing():
    for name in ("/etc/passwd", "../../../etc/passwd", "stdgates.inc/../../etc/passwd", "", "."):
        for version in ("2.0", "3.0"):
            with pytest.raises(InputError) as error:
                read_circuit(f'OPENQASM {version};\ninclude "{name}";'.encode())
            assert "root" not in error.value.diagnostics()


def test_time_is_bounded():
    slow = b'OPENQASM 3.0; include "stdgates.inc"; qubit[3] q; ' + b"x q;" * 200_000
    with pytest.raises(InputError) as error:
        read_circuit(slow, limits=Limits(timeout_s=0.2))
    assert error.value.code == "circuit-unreadable"
    assert read_circuit(SAMPLES["qasm3"]).size == 4


def test_huge_registers_do_not_end_the_process():
    for text in (b"OPENQASM 2.0; qreg q[2147483647];", b"OPENQASM 2.0; qreg q[99999999999999];"):
        with pytest.raises(InputError) as error:
            read_circuit(text)
        assert error.value.code == "circuit-too-large"


def mutate(data, rng):
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out))
        kind = rng.randrange(4)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 2:
            out[at:at] = out[at : at + rng.randint(1, 40)]
        else:
            out[at:at] = rng.choice([b"(", b"{", b"9" * 20, b"[", b'"', b"\x00", b"nan", b"-"])
        if not out:
            break
    return bytes(out)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_mutations_are_read_or_refused_with_a_reason(kind):
    rng = random.Random(7)
    refused = []
    for _ in range(60):
        try:
            read_circuit(mutate(SAMPLES[kind], rng), limits=Limits(timeout_s=5.0))
        except InterlockError as error:
            refused.append(error)
    assert all(error.message and error.code for error in refused)
    assert refused
    assert not Path("/tmp/interlock-was-here").exists()
    assert read_circuit(SAMPLES[kind]).size == 4


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_what_a_grammar_makes_is_read_or_refused_with_a_reason(kind):
    from benchmarks import circuits_fuzz as fuzz

    rng = random.Random(11)
    make = {
        "qasm2": lambda: fuzz.grammar("qasm2", rng),
        "qasm3": lambda: fuzz.grammar("qasm3", rng),
        "json": lambda: fuzz.random_json(rng),
        "qpy": lambda: fuzz.random_qpy(rng),
    }[kind]
    read, refused = 0, []
    for _ in range(40):
        try:
            read_circuit(make(), limits=Limits(timeout_s=5.0))
            read += 1
        except InterlockError as error:
            refused.append(bool(error.message and error.got and error.code))
    assert read
    assert refused
    assert all(refused)
