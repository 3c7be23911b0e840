"""One case for each known attack on parsers of quantum circuits."""

import io
import os
import random
import struct
from pathlib import Path

import pytest
from qiskit import QuantumCircuit, qpy, transpile

from interlock.circuits import ingest as reading
from interlock.circuits.ingest import Limits, ingest, read_circuit
from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit
from interlock.errors import InputError, InterlockError

HEAD2 = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; '
HEAD3 = 'OPENQASM 3.0; include "stdgates.inc"; qubit[3] q; bit[3] c; '


def refused(text, code, **limits):
    with pytest.raises(InputError) as error:
        read_circuit(text.encode(), limits=Limits(**limits))
    assert error.value.code == code, error.value.diagnostics()
    assert error.value.got
    assert error.value.fix
    return error.value.diagnostics()


def qpy_of(circuit):
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return bytearray(buffer.getvalue())


def test_qpy_that_runs_code_when_read_is_never_given_to_a_parser(monkeypatch):
    """CVE-2025-2000: QPY below version 13 unpickles."""

    def nobody(*_):
        raise AssertionError("a parser was started")

    monkeypatch.setattr(reading, "_server", nobody)
    data = qpy_of(QuantumCircuit(1))
    for version in (*range(13), 33, 255):
        data[6] = version
        with pytest.raises(InputError) as error:
            read_circuit(bytes(data))
        assert error.value.code == "circuit-format"


@pytest.mark.parametrize(
    ("name", "code"),
    [("/etc/passwd", "qasm-unsupported"), ("/proc/self/environ", "qasm-unsupported"),
     ("stdgates.inc\0/etc/passwd", "circuit-format")],
)  # fmt: skip
def test_an_include_prints_no_file(name, code):
    said = refused(f'OPENQASM 3.0; include "{name}";', code)
    assert "root:" not in said
    assert os.environ.get("PATH", "/usr/bin") not in said


def test_an_include_does_not_leave_its_folder(tmp_path):
    (tmp_path / "secret.inc").write_text("gate leaked a { x a; }")
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "a.qasm"
    path.write_text('OPENQASM 2.0; include "../secret.inc"; qreg q[1]; leaked q[0];')
    with pytest.raises(InputError) as error:
        read_circuit(path)
    assert error.value.code == "qasm-unsupported"


@pytest.mark.parametrize("opening", ["(", "-", "sin(", "!", "2**", "[", "{"])
def test_deep_nesting_does_not_overflow_the_stack(opening):
    with pytest.raises(InputError) as error:
        read_circuit((HEAD3 + "rx(" + opening * 20_000).encode())
    assert error.value.code in ("circuit-too-large", "qasm-syntax")


def test_deep_blocks_do_not_overflow_the_stack():
    refused(HEAD3 + "if (c[0]) { " * 5_000, "circuit-too-large")
    refused('{"version":1,"operations":' + "[" * 100_000, "circuit-json")


@pytest.mark.parametrize("size", ["2147483647", "4294967296", "99999999999999999999", "100000"])
def test_a_huge_register_is_refused_before_any_parser(size, monkeypatch):
    if len(size) < 19:
        monkeypatch.setattr(reading, "_server", lambda *_: pytest.fail("a parser was started"))
    refused(f"OPENQASM 2.0; qreg q[{size}];", "circuit-too-large")
    refused(f"OPENQASM 3.0; qubit[{size}] q;", "circuit-too-large")


def test_a_million_gates_are_refused_before_any_parser(monkeypatch):
    monkeypatch.setattr(reading, "_server", lambda *_: pytest.fail("a parser was started"))
    refused(HEAD2 + "x q[0];" * 1_000_000, "circuit-too-large")


def test_comments_full_of_statements_count_against_nobody():
    text = HEAD3 + "/* qubit[99999999] z; */ //" + ";" * 600_000 + "\n x q[0];"
    assert read_circuit(text.encode()).size == 1


def test_a_wide_or_long_circuit_of_the_sdk_is_refused_before_it_is_read():
    with pytest.raises(InputError) as error:
        from_qiskit(QuantumCircuit(100_000))
    assert error.value.code == "circuit-too-large"


def test_gates_that_double_forty_times_neither_hang_the_reader_nor_the_compiler():
    gates = "gate g0 a { x a; }" + "".join(
        f"gate g{k} a {{ g{k - 1} a; g{k - 1} a; }}" for k in range(1, 41)
    )
    refused(HEAD2 + gates + "g40 q[0];", "circuit-too-large", max_operations=10_000)
    small = HEAD2 + "".join(gates.split("}")[k] + "}" for k in range(9)) + "g8 q[0];"
    read = read_circuit(small.encode())
    assert read.size == 256
    assert transpile(to_qiskit(read), basis_gates=["rz", "sx", "x"]).size() <= 256


def test_text_that_is_a_path_opens_nothing(tmp_path):
    path = tmp_path / "real.qasm"
    path.write_text("OPENQASM 2.0; qreg q[1]; U(0,0,0) q[0];")
    refused(str(path), "circuit-format")
    with pytest.raises(InputError) as error:
        read_circuit(str(path))
    assert error.value.code == "circuit-file"


def test_flipped_bytes_of_qpy_give_a_circuit_with_an_identity_or_a_reason():
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.rz(0.5, 1)
    circuit.measure([0, 1], [0, 1])
    whole, rng = qpy_of(circuit), random.Random(4)
    expected = from_qiskit(circuit).sha256
    seen = set()
    for _ in range(40):
        data = bytearray(whole)
        data[rng.randrange(7, len(data))] ^= 1 << rng.randrange(8)
        try:
            seen.add(ingest(bytes(data), limits=Limits(timeout_s=5.0)).circuit.sha256 == expected)
        except InterlockError as error:
            seen.add(bool(error.got) and "refused with a reason")
    assert "refused with a reason" in seen
    assert seen <= {True, False, "refused with a reason"}
    assert read_circuit(bytes(whole)).sha256 == expected


def test_numbers_of_a_qpy_header_do_not_reserve_memory():
    data = qpy_of(QuantumCircuit(1))
    codes = set()
    for at in range(8, len(data) - 8, 7):
        broken = bytearray(data)
        broken[at : at + 8] = struct.pack(">Q", 2**62)
        try:
            read_circuit(bytes(broken), limits=Limits(timeout_s=5.0, memory_mb=1024))
        except InterlockError as error:
            codes.add(error.code)
    assert "circuit-unreadable" in codes
    assert codes <= {"circuit-unreadable", "circuit-format", "circuit-too-large"}


@pytest.mark.parametrize("angle", ["0.0/0.0", "ln(-1)", "sqrt(-1)", "1e308**64"])
def test_angles_without_a_value_are_refused(angle):
    refused(HEAD3 + f"rx({angle}) q[0];", "qasm-syntax")


@pytest.mark.parametrize("angle", ["1e999", "1e308*1e308"])
def test_infinite_angles_do_not_pass_as_numbers(angle):
    read = read_circuit((HEAD3 + f"rx({angle}) q[0];").encode())
    assert isinstance(read.operations[0].params[0], str)


def test_look_alike_letters_make_no_second_gate():
    refused(HEAD2 + "\u0445 q[0];", "qasm-undefined")
    refused(HEAD2 + "x\u200b q[0];", "qasm-syntax")


def test_compressed_files_are_not_unpacked():
    import gzip
    import zipfile

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.qasm", b"\0" * 5_000_000)
    for data in (bomb.getvalue(), gzip.compress(HEAD2.encode())):
        with pytest.raises(InputError) as error:
            read_circuit(data)
        assert error.value.code == "circuit-format"
    assert not Path("a.qasm").exists()
