"""Which files may be weights: safetensors and ONNX, told by their bytes and never by trust.

Formats that can carry code (pickle, PyTorch archives, Keras, joblib, numpy objects) are refused by
what is allowed, not by a list of what is bad.
"""

from __future__ import annotations

import json
import struct
from pathlib import PurePosixPath

from interlock.errors import InputError

__all__ = ["SIDECARS", "WEIGHTS", "check_bytes", "kind_of"]

#: Weight formats by suffix.
WEIGHTS = {".safetensors": "safetensors", ".onnx": "onnx"}
#: Text that may lie beside weights.
SIDECARS = {".json", ".txt", ".md", ".yaml"}
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_MAX_HEADER = 100 << 20


def kind_of(name: str) -> str:
    """Return `safetensors`, `onnx` or `sidecar`.

    Raises:
        InputError: any other suffix; the file is not even opened.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in WEIGHTS:
        return WEIGHTS[suffix]
    if suffix in SIDECARS:
        return "sidecar"
    raise _refused(name, f"a file named *{suffix or '(no suffix)'}")


def check_bytes(name: str, data: bytes) -> None:
    """Raise unless the bytes are of the format that the name says."""
    kind = kind_of(name)
    if kind == "safetensors":
        _check_safetensors(name, data)
    elif kind == "onnx":
        _check_onnx(name, data)
    else:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _refused(name, "bytes that are not text") from error


def _check_safetensors(name: str, data: bytes) -> None:
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > min(_MAX_HEADER, len(data) - 8):
            raise ValueError(f"a header of {length} B in {len(data)} B")
        header = json.loads(data[8 : 8 + length])
        spans = []
        for tensor, entry in header.items():
            if tensor == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            size = _DTYPE_BITS[entry["dtype"]] // 8
            for dimension in entry["shape"]:
                if not isinstance(dimension, int) or dimension < 0:
                    raise ValueError(f"shape of {tensor}")
                size *= dimension
            if end - start != size:
                raise ValueError(f"size of {tensor}")
            spans.append((start, end))
        at = 0
        for start, end in sorted(spans):
            if start != at:
                raise ValueError("tensors overlap or leave a gap")
            at = end
        if at != len(data) - 8 - length:
            raise ValueError("bytes that belong to no tensor")
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise _refused(name, f"not safetensors: {error}") from error


def _check_onnx(name: str, data: bytes) -> None:
    """Walk the outermost protobuf fields of a ModelProto; refuse weights kept in other files."""
    at, seen = 0, set()
    try:
        while at < len(data):
            tag, at = _varint(data, at)
            field, wire = tag >> 3, tag & 7
            if wire == 0:
                _, at = _varint(data, at)
            elif wire == 2:
                size, at = _varint(data, at)
                at += size
            else:
                raise ValueError(f"wire type {wire}")
            if at > len(data) or not 1 <= field <= 30:
                raise ValueError(f"field {field}")
            seen.add(field)
    except (ValueError, IndexError) as error:
        raise _refused(name, f"not ONNX: {error}") from error
    if not {1, 7, 8} <= seen:
        raise _refused(name, "not ONNX: no version, graph or operator set")
    if b"external_data" in data or b"\x0a\x08location\x12" in data:
        raise _refused(name, "ONNX with weights in other files")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that is too long")


def _refused(name: str, got: str) -> InputError:
    return InputError(
        f"{name} is not in a format that may be loaded",
        code="weights-format",
        got=got,
        expected="safetensors or ONNX in one file; beside them .json, .txt, .md, .yaml",
        fix="convert the weights to safetensors; never load the file to see what it is",
    )
