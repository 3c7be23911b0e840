"""Readers that check the structure of each allowed model format without loading it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["StructureError", "check_json", "check_onnx", "check_qpy", "check_safetensors"]

_MAX_HEADER = 100_000_000
_MAX_JSON = 64 * 1024 * 1024
_MAX_FIELDS = 4_000_000
_MAX_NEST = 24
_MAX_VALUES = 1 << 64
_MAX_TEXT = 4096
QPY_OLDEST, QPY_NEWEST = 13, 17

Remark = tuple[str, str]


class StructureError(ValueError):
    """The bytes are not a well-formed file of that format."""


def _size(handle: BinaryIO) -> int:
    size = handle.seek(0, 2)
    handle.seek(0)
    return size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise StructureError("the same key twice")
    return out


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"JSON: {error}"[:120]) from error


_DTYPES = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def check_safetensors(handle: BinaryIO) -> list[Remark]:
    """Header length, header, and tensors that tile the buffer exactly: no gap, no overlap.

    Raises:
        StructureError: anything else.
    """
    size = _size(handle)
    if size < 8:
        raise StructureError("shorter than its length field")
    (length,) = struct.unpack("<Q", handle.read(8))
    if length > min(_MAX_HEADER, size - 8):
        raise StructureError(f"header of {length} bytes in a file of {size}")
    raw = handle.read(length)
    if raw[:1] != b"{":
        raise StructureError("header does not begin with {")
    header = _parse(raw)
    meta = header.pop("__metadata__", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise StructureError("__metadata__ is not text to text")
    spans = sorted(_tensor_span(name, info) for name, info in header.items())
    position = 0
    for begin, end in spans:
        if begin != position:
            raise StructureError(f"gap or overlap at byte {position} of the buffer")
        position = end
    if position != size - 8 - length:
        raise StructureError(f"tensors end at {position}, the buffer at {size - 8 - length}")
    return []


def _tensor_span(name: str, info: Any) -> tuple[int, int]:
    try:
        bits, shape, (begin, end) = _DTYPES[info["dtype"]], info["shape"], info["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        if not whole or end - begin != (_count(shape) * bits + 7) // 8:
            raise StructureError(f"tensor {name[:60]!r}: shape and offsets disagree")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StructureError):
            raise
        raise StructureError(f"tensor {name[:60]!r} is malformed") from error
    return begin, end


def _count(shape: list[int]) -> int:
    """Return the number of values.

    Raises:
        ValueError: more than any file holds; said before the number grows so long that it costs.
    """
    if 0 in shape:
        return 0
    count = 1
    for size in shape:
        count *= size
        if count > _MAX_VALUES:
            raise ValueError
    return count


def check_qpy(handle: BinaryIO) -> list[Remark]:
    """QPY file header: magic, version 13 to the newest known, program count, symbolic encoding.

    Versions below 13 may hold pickled or evaluated expressions (CVE-2025-2000).

    Raises:
        StructureError: anything else.
    """
    raw = handle.read(19)
    if len(raw) < 19 or not raw.startswith(b"QISKIT"):
        raise StructureError("no QPY header")
    version = raw[6]
    (programs,) = struct.unpack("!Q", raw[10:18])
    if not QPY_OLDEST <= version <= QPY_NEWEST:
        raise StructureError(f"QPY version {version}; {QPY_OLDEST} to {QPY_NEWEST} are allowed")
    if raw[18:19] not in (b"e", b"p"):
        raise StructureError(f"unknown symbolic encoding {raw[18:19]!r}")
    if not 0 < programs <= 1_000_000:
        raise StructureError(f"{programs} programs")
    return []


def check_json(handle: BinaryIO) -> list[Remark]:
    """One JSON document of at most 64 MiB, UTF-8, no key twice.

    Raises:
        StructureError: anything else.
    """
    if _size(handle) > _MAX_JSON:
        raise StructureError(f"over {_MAX_JSON} bytes")
    _parse(handle.read())
    return []


class _Wire:
    """A protobuf wire-format walk over a file: fields and where they are, nothing decoded."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.fields = 0

    def _varint(self, end: int) -> int:
        value = shift = 0
        while True:
            byte = self._handle.read(1)
            if not byte or self._handle.tell() > end or shift > 63:
                raise StructureError("protobuf: number runs past its message")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7

    def walk(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (field, wire type, begin, end); of a number, `begin` is its value."""
        self._handle.seek(begin)
        position = begin
        while position < end:
            self.fields += 1
            if self.fields > _MAX_FIELDS:
                raise StructureError(f"protobuf: over {_MAX_FIELDS} fields")
            tag = self._varint(end)
            number, kind = tag >> 3, tag & 7
            if number == 0 or tag >= 1 << 32:
                raise StructureError(f"protobuf: field {number}")
            if kind == 0:
                value = self._varint(end)
                position = self._handle.tell()
                yield number, kind, value, position
            elif kind in (1, 2, 5):
                length = {1: 8, 5: 4}.get(kind) or (self._varint(end) if kind == 2 else 0)
                at = self._handle.tell()
                position = at + length
                if position > end:
                    raise StructureError("protobuf: field runs past its message")
                yield number, kind, at, position
            else:
                raise StructureError(f"protobuf: wire type {kind}")
            self._handle.seek(position)

    def text(self, begin: int, end: int) -> str:
        """Read a string field."""
        if end - begin > _MAX_TEXT:
            raise StructureError(f"a name of {end - begin} bytes")
        self._handle.seek(begin)
        return self._handle.read(end - begin).decode("utf-8", "replace")


_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
# ModelProto.graph=7; GraphProto.node=1, initializer=5; NodeProto.attribute=5, domain=7;
# AttributeProto.t=5, g=6, tensors=10, graphs=11, sparse_tensor=22, sparse_tensors=23;
# TensorProto.external_data=13; ModelProto.training_info=20, functions=25;
# TrainingInfoProto.initialization=1, algorithm=2; FunctionProto.node=7, attribute_proto=11
_CHILDREN = {
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "training": {1: "graph", 2: "graph"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "function": {7: "node", 11: "attribute"},
    "model": {7: "graph", 20: "training", 25: "function"},
}  # fmt: skip


def check_onnx(handle: BinaryIO) -> list[Remark]:
    """ONNX ModelProto: walks the whole wire format, wants `ir_version` and a graph.

    Remarks name external data outside the file's own folder and operators of unknown domains.

    Raises:
        StructureError: not a ModelProto.
    """
    wire, remarks = _Wire(handle), []
    stack: list[tuple[str, int, int, int]] = [("model", 0, _size(handle), 0)]
    seen: set[tuple[str, int]] = set()
    domains: set[str] = set()
    while stack:
        kind, begin, end, depth = stack.pop()
        if depth > _MAX_NEST:
            raise StructureError(f"nested deeper than {_MAX_NEST}")
        texts: dict[int, str] = {}
        for number, wire_type, at, stop in wire.walk(begin, end):
            if kind == "model":
                seen.add(("model", number))
                if number == 1 and (wire_type != 0 or not 3 <= at <= 20):
                    raise StructureError("no plausible ir_version")
            if wire_type != 2:
                continue
            child = _CHILDREN.get(kind, {}).get(number)
            if child:
                stack.append((child, at, stop, depth + 1))
            elif kind == "entry" or (kind == "node" and number == 7):
                texts[number] = wire.text(at, stop)
        if kind == "node":
            domains.add(texts.get(7, ""))
        if kind == "entry" and texts.get(1) == "location" and _outside(texts.get(2, "")):
            remarks.append(("external-data", f"external data at {texts.get(2, '')[:120]!r}"))
    if not {("model", 1), ("model", 7)} <= seen:
        raise StructureError("no ir_version or no graph")
    foreign = sorted(domains - _STANDARD)
    if foreign:
        remarks.append(("custom-operator", "operator domains: " + ", ".join(foreign)[:120]))
    return remarks


def _outside(location: str) -> bool:
    parts = location.replace("\\", "/").split("/")
    return location.startswith(("/", "\\")) or ".." in parts or ":" in location or not location
