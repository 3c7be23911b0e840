"""A mark in front hides nothing, and what a packed file is goes by its own name."""

import gzip
import io
import lzma
import random
import zipfile
from pathlib import Path

import pytest

from interlock.scan.scanner import ScanOptions, scan_paths
from interlock.scan.secrets.synth import fill

_MARKS = [
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"LZIP",
    b"MSCF\0\0\0\0", b"\x04\x22\x4d\x18", b"!<arch>\ndebian", b"#" * 257 + b"ustar",
    b"\x5d\0\0\0\1" + b"\xff" * 8,
]  # fmt: skip


@pytest.mark.parametrize("mark", _MARKS)
def test_the_mark_of_an_archive_hides_no_secret(tmp_path: Path, mark: bytes) -> None:
    token = fill("DEV-{hex:40}", random.Random(4))
    text = f"\nDWAVE_API_TOKEN={token}\n".encode()
    (tmp_path / "settings").write_bytes(mark + text)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner/settings", mark + text)
    (tmp_path / "outer.zip").write_bytes(packed.getvalue())
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert {f.path for f in report.findings} >= {"settings", "outer.zip!inner/settings"}
    assert {n.reason for n in report.notes} & {"broken-archive", "archive-format"}


def test_the_mark_of_an_archive_hides_no_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("BZh = 1\nimport pickle\npickle.load(open('x', 'rb'))\n")
    report = scan_paths([tmp_path])
    assert "code.unsafe-load" in {f.rule for f in report.findings}


def test_what_a_packed_file_is_goes_by_its_name(tmp_path: Path) -> None:
    code = b"import pickle\npickle.load(open('x', 'rb'))\n"
    (tmp_path / "a.py.gz").write_bytes(gzip.compress(code))
    (tmp_path / "b.py.lzma").write_bytes(lzma.compress(code, format=lzma.FORMAT_ALONE))
    (tmp_path / "old.qpy.gz").write_bytes(
        gzip.compress(b"QISKIT" + bytes([12, 1, 0, 0]) + bytes(9))
    )
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert {(f.path, f.rule) for f in report.findings} == {
        ("a.py.gz!(content)", "code.unsafe-load"),
        ("b.py.lzma!(content)", "code.unsafe-load"),
        ("old.qpy.gz!(content)", "model.disguised"),
    }
    assert not report.notes


def test_a_model_in_an_archive_is_checked_whole(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    whole = len(header).to_bytes(8, "little") + header + b"abcd"
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.safetensors", whole)
        archive.writestr("long.safetensors", whole + b"x" * 100_000)
        archive.writestr("old.qpy", b"QISKIT" + bytes([10, 1, 0, 0]) + bytes(9))
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert {(f.path, f.rule) for f in report.findings} == {
        ("m.zip!long.safetensors", "model.disguised"),
        ("m.zip!old.qpy", "model.disguised"),
    }
