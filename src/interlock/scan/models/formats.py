"""Admit model files by format and structure: what is not known to be safe is refused.

Allowed: safetensors, ONNX, QPY version 13 or later, JSON. Nothing is ever unpickled or loaded: the
readers here look at bytes. Looking for bad opcodes inside a pickle is not tried, because such lists
have always been got round; a pickle is refused because it is a pickle.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from interlock.errors import InputError
from interlock.scan.finding import ScanFinding, Severity
from interlock.scan.models import structure

__all__ = ["ALLOWED", "admit", "examine", "examine_head", "is_pickle"]

#: suffix -> structure reader
ALLOWED = {
    ".safetensors": structure.check_safetensors,
    ".onnx": structure.check_onnx,
    ".qpy": structure.check_qpy,
    ".json": structure.check_json,
}
#: Suffixes of model formats that run code or are not on the list.
REFUSED = frozenset({
    ".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt", ".h5", ".hdf5",
    ".keras", ".tflite", ".gguf", ".ggml", ".mar", ".nemo", ".t7", ".pdparams", ".caffemodel",
    ".mlmodel", ".skops",
})  # fmt: skip
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"GGUF", "GGUF"),
    (b"ggml", "GGML"),
)
_GLOBAL = re.compile(rb"c[A-Za-z_][\w.]{0,80}\n[A-Za-z_][\w.]{0,80}\n")


def is_pickle(head: bytes) -> bool:
    r"""Return whether bytes begin like a pickle of any protocol; nothing is run.

    Example:
        >>> import pickle
        >>> is_pickle(pickle.dumps([1, 2])), is_pickle(b"(notes)")
        (True, False)
    """
    if len(head) >= 2 and head[0] == 0x80 and head[1] <= 5:
        return _ops(head[2:]) >= 1
    if not head or head[:1] not in b"(]}c\x88\x89KMIFSVUTNLldBCXJG":
        return False
    stop = head.find(b".")
    if stop < 0:
        return False
    return bool(_GLOBAL.search(head[:4096])) and _ops(head) >= 2


def _ops(body: bytes) -> int:
    """Count the opcodes that disassemble before the bytes end or make no sense."""
    count = 0
    try:
        for _code, _argument, _position in pickletools.genops(io.BytesIO(body)):
            count += 1
            if count >= 64:
                break
    except Exception:  # noqa: BLE001 - the disassembler fails in many ways on what is no pickle
        return count
    return count


def _finding(rule: str, shown: str, message: str, severity: Severity) -> ScanFinding:
    return ScanFinding(
        rule=f"model.{rule}",
        title=_TITLES[rule],
        message=message,
        severity=severity,
        confidence="high",
        risk=int(severity),
        path=shown,
        why=_WHY[rule],
        fix=_FIX[rule],
        anchor=message,
    )


_TITLES = {
    "pickle": "Pickled data",
    "disguised": "Not the format its name says",
    "refused-format": "Model format not on the allow-list",
    "external-data": "Model reaches outside its file",
    "custom-operator": "Model needs a custom operator",
}
_WHY = {
    "pickle": "loading a pickle runs whatever code its author put in",
    "disguised": "a file that lies about its format is passed to the wrong, weaker loader",
    "refused-format": "its loader runs code, or nobody has shown that it does not",
    "external-data": "a loader would read a file of the model author's choosing",
    "custom-operator": "running it needs native code that does not come with the file",
}
_FIX = {
    "pickle": "save weights as safetensors or ONNX, circuits as OpenQASM 3, data as JSON",
    "disguised": "find out where the file came from; do not load it",
    "refused-format": "convert it, on a machine without credentials, to safetensors or ONNX",
    "external-data": "keep tensors inside the file or beside it, with a plain relative name",
    "custom-operator": "export with standard operators, or review the operator's library",
}


def admit(handle: BinaryIO, name: str) -> str:
    """Check one model file against the allow-list and return its format.

    Raises:
        InputError: the format is not allowed, or the structure is not what the name says.
    """
    head = handle.read(8192)
    handle.seek(0)
    found = list(examine(handle, head, name, strict=True))
    if found:
        first = found[0]
        raise InputError(
            f"model file refused: {first.title.lower()}",
            code="model-refused",
            got=first.message,
            expected="safetensors, ONNX, QPY >= 13 or JSON, whole and well formed",
            fix=first.fix,
        )
    return PurePosixPath(name).suffix.lower().lstrip(".")


def examine_head(head: bytes, shown: str) -> Iterator[ScanFinding]:
    """Judge a file of which only the first bytes are at hand: a member of an archive."""
    suffix = PurePosixPath(shown).suffix.lower()
    if is_pickle(head):
        disguised = suffix not in REFUSED
        yield _finding(
            "pickle", shown, f"pickled data in a {suffix or 'nameless'} file",
            Severity.CRITICAL if disguised and suffix in ALLOWED else Severity.HIGH,
        )  # fmt: skip
        return
    if head.startswith(b"\x93NUMPY") and re.search(rb"'descr':\s*(?:'\|O|\[.*'\|O)", head[:2048]):
        yield _finding("pickle", shown, "NumPy array of objects: pickled inside", Severity.HIGH)
        return
    known = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if known and suffix not in REFUSED:
        yield _finding(
            "refused-format",
            shown,
            f"{known} data in a {suffix or 'nameless'} file",
            Severity.MEDIUM,
        )
    elif suffix in REFUSED:
        yield _finding("refused-format", shown, f"{suffix} is not on the list", Severity.HIGH)


def examine(
    handle: BinaryIO, head: bytes, shown: str, *, strict: bool = False
) -> Iterator[ScanFinding]:
    """Judge one file by name, first bytes and structure.

    With `strict` every file must be of an allowed format; otherwise a file that is no model at all
    passes.
    """
    suffix = PurePosixPath(shown).suffix.lower()
    pickled = list(examine_head(head, shown))
    if pickled:
        yield from pickled
        return
    if head[:4] == b"PK\x03\x04":
        inside = _zip_pickles(handle)
        handle.seek(0)
        if inside:
            yield _finding("pickle", shown, f"zip that holds a pickle: {inside}", Severity.HIGH)
            return
    reader = ALLOWED.get(suffix)
    if reader is not None and (strict or suffix != ".json"):
        try:
            remarks = reader(handle)
        except structure.StructureError as error:
            yield _finding("disguised", shown, f"not {suffix[1:]}: {error}", Severity.CRITICAL)
            return
        for rule, message in remarks:
            severity = Severity.HIGH if rule == "external-data" else Severity.MEDIUM
            yield _finding(rule, shown, message, severity)
    elif strict and reader is None:
        yield _finding(
            "refused-format", shown, f"{suffix or 'no suffix'} is not on the list", Severity.HIGH
        )


def _zip_pickles(handle: BinaryIO) -> str | None:
    try:
        with zipfile.ZipFile(handle) as archive:
            for info in archive.infolist()[:20_000]:
                if info.filename.lower().endswith((".pkl", ".pickle")):
                    return info.filename[:120]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    return None
