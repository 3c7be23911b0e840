"""Admit model files by format and structure: what is not known to be safe is refused.

Allowed: safetensors, ONNX, QPY version 13 or later, JSON. Nothing is ever unpickled or loaded: the
readers here look at bytes. Looking for bad opcodes inside a pickle is not tried, because such lists
have always been got round; a pickle is refused because it is a pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from interlock.errors import InputError
from interlock.scan.finding import ScanFinding, Severity
from interlock.scan.models import structure
from interlock.scan.models.pickled import goes_on, is_object_array, is_pickle

__all__ = ["ALLOWED", "admit", "examine", "examine_head", "has_structure"]

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
    ".mlmodel", ".skops", ".pt2", ".ptl", ".engine",
})  # fmt: skip
_MAGIC = (
    *((at, b"\x89HDF\r\n\x1a\n", "HDF5") for at in (0, 512, 1024, 2048, 4096)),
    (0, b"GGUF", "GGUF"),
    (0, b"ggml", "GGML"),
    (4, b"TFL3", "TFLite"),
)
_MORE = 4 * 1024 * 1024


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


def has_structure(suffix: str) -> bool:
    """Return whether files of that suffix are models whose whole structure is checked."""
    return suffix in ALLOWED and suffix != ".json"


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
    if is_object_array(head):
        yield _finding(
            "pickle", shown, "NumPy array of objects, or of a type not said plainly", Severity.HIGH
        )
        return
    known = next((name for at, magic, name in _MAGIC if head.startswith(magic, at)), None)
    if known and suffix not in REFUSED:
        yield _finding(
            "refused-format",
            shown,
            f"{known} data in a {suffix or 'nameless'} file",
            Severity.MEDIUM,
        )
    elif suffix in REFUSED or shown.endswith("saved_model.pb"):
        yield _finding("refused-format", shown, f"{suffix} is not on the list", Severity.HIGH)


def examine(
    handle: BinaryIO, head: bytes, shown: str, *, strict: bool = False
) -> Iterator[ScanFinding]:
    """Judge one file by name, first bytes and structure.

    With `strict` every file must be of an allowed format; otherwise a file that is no model at all
    passes.
    """
    suffix = PurePosixPath(shown).suffix.lower()
    if goes_on(head):
        handle.seek(0)
        head = handle.read(_MORE)
        handle.seek(0)
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
    if reader is not None and (strict or has_structure(suffix)):
        try:
            remarks = reader(handle)
        except structure.StructureError as error:
            yield _finding("disguised", shown, f"not {suffix[1:]}: {error}", Severity.CRITICAL)
            return
        if zipfile.is_zipfile(handle):
            yield _finding("disguised", shown, f"{suffix[1:]} and a zip at once", Severity.CRITICAL)
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
