"""Model files are admitted by format and structure; nothing malicious is ever opened."""

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from interlock.errors import InputError
from interlock.scan import run
from interlock.scan.models import formats


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def safetensors(shape=(2, 2), extra: bytes = b"") -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 16]}})
    return struct.pack("<Q", len(header)) + header.encode() + bytes(16) + extra


def onnx(*, location: str | None = None, domain: str = "") -> bytes:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    node = field(1, b"x") + field(4, b"Relu") + (field(7, domain.encode()) if domain else b"")
    graph = field(1, node) + field(2, b"g")
    if location:
        entry = field(1, b"location") + field(2, location.encode())
        graph += field(5, field(8, b"w") + bytes([13 << 3 | 2, len(entry)]) + entry)
    return bytes([1 << 3, 8]) + field(7, graph)


def qpy(version: int) -> bytes:
    return b"QISKIT" + bytes([version, 2, 6, 0]) + struct.pack("!Q", 1) + b"e" + bytes(40)


def malicious(mark: str) -> dict[str, bytes]:
    bomb = Bomb(mark)
    made = {f"proto{p}.pkl": pickle.dumps(bomb, protocol=p) for p in range(6)}
    for name in (
        "model.pt", "model.pth", "model.joblib", "model.dill", "model.bin", "weights.safetensors",
        "net.onnx", "circuit.qpy", "config.json", "noname", "photo.png", "notes.txt", "a.ckpt",
    ):  # fmt: skip
        made[name] = pickle.dumps(bomb)
        made["proto0-" + name] = pickle.dumps(bomb, protocol=0)
    for name, member in (("torch.pt", "archive/data.pkl"), ("innocent.zip", "deep/x.pickle")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(member, pickle.dumps(bomb))
        made[name] = buffer.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([bomb], dtype=object), allow_pickle=True)
    made["objects.npy"] = array.getvalue()
    made["packed.pkl.gz"] = gzip.compress(pickle.dumps(bomb))
    made["keras.h5"] = b"\x89HDF\r\n\x1a\n" + bytes(64)
    made["llm.gguf"] = b"GGUF" + bytes(64)
    made["hidden.dat"] = b"GGUF" + bytes(64)
    return made


def test_every_malicious_file_is_refused_and_none_opened(tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    folder = tmp_path / "corpus"
    folder.mkdir()
    corpus = malicious(str(mark))
    assert len(corpus) > 35
    for name, data in corpus.items():
        (folder / name).write_bytes(data)
    report = run.scan([folder], families=("models",), base=folder)
    refused = {f.path.split("!")[0] for f in report.findings}
    assert set(corpus) - refused == set()
    for name in corpus:
        with (folder / name).open("rb") as handle, pytest.raises(InputError) as caught:
            formats.admit(handle, name)
        assert caught.value.code == "model-refused"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.safetensors", safetensors()),
        ("n.onnx", onnx()),
        ("n.onnx", onnx(location="weights.bin")),
        ("c.qpy", qpy(13)),
        ("c.qpy", qpy(17)),
        ("a.json", b'{"a": [1, 2]}'),
    ],
)
def test_whole_files_of_allowed_formats_pass(name: str, data: bytes) -> None:
    assert formats.admit(io.BytesIO(data), name) == name.split(".")[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.safetensors", b""),
        ("w.safetensors", struct.pack("<Q", 2**62) + b"{}"),
        ("w.safetensors", safetensors(extra=b"x")),
        ("w.safetensors", safetensors(shape=(3, 3))),
        ("w.safetensors", safetensors(shape=(-2, -2))),
        ("n.onnx", b""),
        ("n.onnx", b"\xff" * 40),
        ("n.onnx", onnx()[:-3]),
        ("n.onnx", onnx(location="../../etc/passwd")),
        ("n.onnx", onnx(location="/etc/passwd")),
        ("n.onnx", onnx(domain="evil.ops")),
        ("c.qpy", qpy(12)),
        ("c.qpy", qpy(99)),
        ("c.qpy", b"QISKIT"),
        ("a.json", b"{"),
        ("a.json", b'{"a": 1, "a": 2}'),
        ("a.json", b"[" * 100_000),
        ("a.exe", b"MZ"),
    ],
)
def test_what_is_not_whole_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(InputError):
        formats.admit(io.BytesIO(data), name)


def test_random_bytes_never_crash_the_readers() -> None:
    rng = np.random.default_rng(3)
    seeds = [safetensors(), onnx(location="w"), qpy(13), b'{"a": 1}', pickle.dumps({"a": 1})]
    for _ in range(3000):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        for suffix in (".safetensors", ".onnx", ".qpy", ".json"):
            with contextlib.suppress(InputError):
                formats.admit(io.BytesIO(bytes(data)), "x" + suffix)


def test_ordinary_files_are_no_models(tmp_path: Path) -> None:
    for name, text in (
        ("a.txt", "I am text. F. (see notes)"), ("b.csv", "c1,c2\n"), ("d.md", "# T\n]}."),
        ("e.py", "x = 1\n"), ("f.json", "{"), ("g.c", "cos\nsin(x)\n."),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    assert run.scan([tmp_path], families=("models",), base=tmp_path).findings == []


CALL = b"cos\nsystem\n(S'true'\ntR."
CALL4 = b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."


def array(header: str) -> bytes:
    text = header.encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + CALL4


@pytest.mark.parametrize(
    "data",
    [
        b"(S'id'\nios\nsystem\n.", CALL4, b"N0" + CALL4, b")0" + CALL, b"I0x1\n0" + CALL,
        b"U\x05aaaaa0" + CALL, b"B\x05\x00\x00\x00aaaaa0" + CALL, CALL[:-1] + b"junk",
        b"S'" + b"a" * 5_000 + b"'\n0" + CALL, b"S'" + b"a" * 50_000 + b"'\n0" + CALL,
        b"\x95" + struct.pack("<Q", 30) + CALL4, b"N0" * 9_000 + CALL,
        pickle.dumps({"a": [1, 2]}, 0), pickle.dumps({"a": [1, 2]}, 1),
        pickle.dumps([{"a": n} for n in range(5_000)], 0), zlib.compress(pickle.dumps([1] * 100)),
        *(
            array(f"{{{order}'fortran_order': False, 'shape': (1,), }}")
            for order in (
                '"descr": "|O", ', "'descr': 'O', ", "'descr': 'object', ", "'descr': '>O', ",
                "'descr': [('a', 'O')], ", "'descr': [('a', '<f8'), ('b', [('c', '|O')])], ",
                " " * 3_000 + "'descr': '|O', ", "", "'descr': 'O,i4', ", "(",
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.dat", "x.model", "x.npy"])
def test_a_pickle_in_other_clothes_is_still_a_pickle(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    report = run.scan([tmp_path], families=("models",), base=tmp_path)
    assert [f.rule for f in report.findings] == ["model.pickle"]


def test_fonts_plain_arrays_and_text_are_no_pickles(tmp_path: Path) -> None:
    (tmp_path / "a.pfb").write_bytes(b"\x80\x01\x30\x1a\0\0%!PS-AdobeFont-1.0: x\n" * 9)
    (tmp_path / "b.pfb").write_bytes(b"\x80\x01X\x1a\0\0%!PS-AdobeFont-1.0: x\n" * 900)
    kinds = (
        np.float64, np.bool_, np.complex64, "U4", "S3", ">i2", "M8[ns]", "V4",
        np.dtype([("a", "f4", (2, 3)), ("b", [("c", "i8")])]),
    )  # fmt: skip
    for number, kind in enumerate(kinds):
        np.save(tmp_path / f"{number}.npy", np.zeros(3, dtype=kind))
    for number, text in enumerate(("cat\ncar\ndog\n", "](((", "N" * 9_000, "(" * 9_000, "c\n" * 9)):
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "z.zlib").write_bytes(zlib.compress(b"plain text " * 99))
    assert run.scan([tmp_path], families=("models",), base=tmp_path).findings == []


def test_the_size_of_a_tensor_is_never_multiplied_out() -> None:
    shape = ",".join(["4294967296"] * 400_000)
    head = f'{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,8]}}}}'.encode()
    before = time.process_time()
    with pytest.raises(InputError):
        formats.admit(io.BytesIO(struct.pack("<Q", len(head)) + head + bytes(8)), "a.safetensors")
    assert time.process_time() - before < 10  # CPU time; minutes when multiplied out
    empty = b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}'
    data = struct.pack("<Q", len(empty)) + empty
    assert formats.admit(io.BytesIO(data), "a.safetensors") == "safetensors"


def field(number: int, body: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def located(location: str) -> bytes:
    """A TensorProto whose data are elsewhere."""
    return field(13, field(1, b"location") + field(2, location.encode()))


@pytest.mark.parametrize(
    "where",
    [
        field(20, field(1, field(5, located("/etc/passwd")))),  # training, initialization
        field(20, field(2, field(1, field(7, b"evil.ops")))),  # training, algorithm
        field(25, field(11, field(5, located("/etc/passwd")))),  # function, default attribute
        field(7, field(1, field(5, field(22, field(1, located("../x")))))),  # sparse attribute
        field(7, field(1, field(5, field(23, field(2, located("../x")))))),
        field(7, field(5, located("a/" * 3000 + "../" * 4000 + "etc/passwd"))),  # a long name
        varint(1 << 35 | 7 << 3 | 2) + varint(0),  # a number that another reader cuts
    ],
)
def test_no_part_of_an_onnx_model_hides_a_path_or_an_operator(where: bytes) -> None:
    with pytest.raises(InputError):
        formats.admit(io.BytesIO(onnx() + where), "n.onnx")


def test_a_model_that_is_a_zip_too_and_a_late_signature_are_seen(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    data = packed.getvalue()
    head = json.dumps({"a": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}})
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(head)) + head.encode() + data)
    (tmp_path / "w.dat").write_bytes(bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(90))
    report = run.scan([tmp_path], families=("models",), base=tmp_path)
    assert {(f.path, f.rule) for f in report.findings} == {
        ("w.safetensors", "model.disguised"),
        ("w.dat", "model.refused-format"),
    }
