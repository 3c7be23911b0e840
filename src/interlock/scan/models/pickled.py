"""Recognise pickles and NumPy arrays of objects by their bytes; nothing is loaded.

This tells what a file is, not whether a pickle is harmful: every pickle is refused.
"""

from __future__ import annotations

import ast
import pickletools
import re
import struct
import zlib
from dataclasses import dataclass, field

__all__ = ["is_object_array", "is_pickle"]

_HEAD = 8192
_MOST_OPS = 200_000
_CODES = {ord(op.code): op for op in pickletools.opcodes}
_LENGTHS = {-2: "<B", -3: "<i", -4: "<I", -5: "<Q"}
_NAMES = re.compile(r"[^\W\d][\w.]{0,200}\n[^\W\d][\w.]{0,200}\n")
_IMPORTS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}


@dataclass(slots=True)
class _Walk:
    """What the opcodes from the first byte on do to the stack.

    A string argument is skipped, not decoded: the real loader is laxer than the disassembler of the
    standard library, and stops later.
    """

    count: int = 0
    kinds: set[str] = field(default_factory=set)
    imports: bool = False
    calls: bool = False
    ended: str = ""  # stop, cut (the bytes ran out), long, or bad
    at: int = 0


def _walk(data: bytes) -> _Walk:
    walk, stack = _Walk(), [0]
    while not walk.ended:
        if walk.at >= len(data) or walk.count >= _MOST_OPS:
            walk.ended = "cut" if walk.at >= len(data) else "long"
            break
        op = _CODES.get(data[walk.at])
        if op is None:
            walk.ended = "bad"
            break
        end = walk.at + 1 if op.arg is None else _end(data, walk.at + 1, op.arg)
        if end < 0 or end > len(data):
            walk.ended = "bad" if end == -2 else "cut"
            break
        named = op.name in ("GLOBAL", "INST")
        if named and not _NAMES.fullmatch(data[walk.at + 1 : end].decode("utf-8", "replace")):
            walk.ended = "bad"
            break
        if not _shift(stack, op):
            walk.ended = "bad"
            break
        walk.at, walk.count = end, walk.count + 1
        walk.kinds.add(op.name)
        walk.imports |= op.name in _IMPORTS
        walk.calls |= walk.imports and op.name in _CALLS
        if op.name == "STOP":
            walk.ended = "stop"
    return walk


def _end(data: bytes, at: int, argument: pickletools.ArgumentDescriptor) -> int:
    """Where an argument ends; -1 when the bytes run out before, -2 when it makes no sense."""
    if argument.n >= 0:
        return at + argument.n
    if argument.n == pickletools.UP_TO_NEWLINE:
        for _ in range(2 if argument.name == "stringnl_noescape_pair" else 1):
            at = data.find(b"\n", at) + 1
            if not at:
                return -1
        return at
    form = _LENGTHS[argument.n]
    width = struct.calcsize(form)
    if at + width > len(data):
        return -1
    length: int = struct.unpack_from(form, data, at)[0]
    return at + width + length if length >= 0 else -2


def _shift(stack: list[int], op: pickletools.OpcodeInfo) -> bool:
    """Apply an opcode to the stack, kept as heights between marks; False when it is too short."""
    mark = pickletools.markobject
    take, pushed = len(op.stack_before), len(op.stack_after)
    if mark in op.stack_before:
        if len(stack) < 2:
            return False
        stack.pop()
        take = op.stack_before.index(mark)
    if op.name == "POP" and not stack[-1] and len(stack) > 1:
        stack.pop()
        return True
    if stack[-1] < take:
        return False
    if op.name == "MARK":
        stack.append(0)
    else:
        stack[-1] += pushed - take
    return True


def is_pickle(data: bytes) -> bool:
    r"""Return whether bytes begin like a pickle of any protocol, or one in zlib; nothing is run.

    It is one if it begins with the mark of protocols 2 to 5 and sensible opcodes, if opcodes import
    and call something, or if opcodes alone fill the bytes. What runs before a fault counts.

    Example:
        >>> import pickle
        >>> is_pickle(pickle.dumps([1, 2])), is_pickle(b"(notes)")
        (True, False)
    """
    if len(data) > 2 and data[0] & 0x8F == 8 and int.from_bytes(data[:2]) % 31 == 0:
        try:
            inner = zlib.decompressobj().decompress(data, _HEAD)
        except zlib.error:
            inner = b""
        if inner and _judge(inner):
            return True
    return _judge(data)


def _judge(data: bytes) -> bool:
    walk = _walk(data)
    if walk.calls or (walk.imports and walk.ended == "stop") or walk.ended == "long":
        return True
    if len(data) >= 2 and data[0] == 0x80 and data[1] <= 5:
        font = data[:2] == b"\x80\x01" and data[6:8] == b"%!"
        return walk.count >= (2 if walk.ended in ("stop", "cut") and not font else 4)
    if len(walk.kinds) < 4:
        return False
    if walk.ended == "stop":
        return walk.at == len(data)
    return walk.ended == "cut" and len(data) >= _HEAD and walk.count >= 16


def goes_on(head: bytes) -> bool:
    """Return whether the opcodes reach the end of a full head, so that more bytes must decide."""
    return len(head) >= _HEAD and _walk(head).ended == "cut"


_PLAIN = re.compile(r"[<>|=]?[?biufcSUVmM]\d*(?:\[[\w/ ]{1,12}\])?")


def is_object_array(head: bytes) -> bool:
    """Return whether bytes are a NumPy file whose values are, or may be, pickled.

    Only types that `numpy.save` writes for plain values count as plain; a header that cannot be
    read, or that passes the bytes given, does not.
    """
    if not head.startswith(b"\x93NUMPY"):
        return False
    try:
        form, at = ("<H", 10) if head[6] == 1 else ("<I", 12)
        (length,) = struct.unpack_from(form, head, 8)
        text = head[at : at + length].decode("utf-8" if head[6] == 3 else "latin-1")
        if len(text.encode()) > _HEAD or at + length > len(head):
            return True
        header = ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text).strip())
        return not _plain(header["descr"])
    except (ValueError, SyntaxError, TypeError, LookupError, struct.error, RecursionError,
            MemoryError):  # fmt: skip
        return True


def _plain(kind: object) -> bool:
    if isinstance(kind, str):
        return bool(_PLAIN.fullmatch(kind))
    if isinstance(kind, list):
        return all(isinstance(part, tuple) and len(part) >= 2 and _plain(part[1]) for part in kind)
    return isinstance(kind, tuple) and len(kind) == 2 and _plain(kind[0])
