"""What a file is, told from its bytes, before any parser sees it."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias, get_args

from interlock.errors import InputError

__all__ = ["FORMATS", "MIN_QPY", "Format", "sniff"]

Format: TypeAlias = Literal["qasm2", "qasm3", "qpy", "json"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
#: QPY files of older versions can run code when they are read (CVE-2025-2000).
MIN_QPY: Final = 13
MAX_QPY: Final = 32

_KNOWN: Final = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\x7fELF", "an ELF binary"),
    (b"MZ", "a Windows binary"),
    (b"#!", "a script"),
    (b"\x93NUMPY", "a numpy file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF file"),
    (b"SQLite format 3", "a SQLite database"),
)
_VERSION: Final = re.compile(
    r"\A(?:\ufeff)?(?>\s+|//[^\n]*\n|/\*.*?\*/)*+OPENQASM\s+(2|3)(?:\.\d+)?\s*;", re.DOTALL
)


def _like_pickle(data: bytes) -> bool:
    """Whether a text could be a pickle of protocol 0 or 1: an opcode first, a full stop last."""
    return data[:1] in b"(]}cNFILVSX" and data[-64:].rstrip().endswith(b".")


def _refuse(what: str, fix: str) -> InputError:
    return InputError(
        "the file is no circuit in a format that is read",
        code="circuit-format",
        got=what,
        expected=f"OpenQASM 2 or 3, QPY {MIN_QPY} or later, or the JSON of the canonical form",
        fix=fix,
    )


def sniff(data: bytes, claimed: str | None = None) -> Format:
    """Return the format of a file, going by its bytes alone.

    Args:
        data: the file.
        claimed: what the caller says it is; a contradiction is refused.

    Raises:
        InputError: `circuit-format`; it is none of the formats, or not the one claimed.

    Example:
        >>> sniff(b"OPENQASM 3.0; qubit q;")
        'qasm3'
    """
    found = _format_of(data)
    if claimed is not None and claimed != found:
        if claimed not in FORMATS:
            raise _refuse(f"the format {claimed!r} was asked for", "one of " + ", ".join(FORMATS))
        raise _refuse(f"{found}, though {claimed} was claimed", f"read it as {found}")
    return found


def _format_of(data: bytes) -> Format:
    if not data.strip():
        raise _refuse("an empty file", "check the path")
    if data.startswith(b"QISKIT"):
        version = data[6] if len(data) > 6 else 0
        if not MIN_QPY <= version <= MAX_QPY:
            raise _refuse(
                f"QPY version {version}",
                "write it as OpenQASM 3"
                if version > MAX_QPY
                else "old QPY can run code when read (CVE-2025-2000): write it again with a "
                "current Qiskit, or as OpenQASM 3",
            )
        return "qpy"
    for magic, what in _KNOWN:
        if data.startswith(magic):
            raise _refuse(what, "send the circuit itself as OpenQASM 3")
    if data[0] == 0x80:
        raise _refuse("a pickle, which runs code when read", "write the circuit as OpenQASM 3")
    if b"\x00" in data:
        raise _refuse("binary data", "write the circuit as OpenQASM 3")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if _like_pickle(data):
            raise _refuse(
                "a pickle, which runs code when read", "write the circuit as OpenQASM 3"
            ) from error
        raise _refuse(f"text that is not UTF-8 (byte {error.start})", "save it as UTF-8") from error
    if text.lstrip()[:1] == "{":
        return "json"
    match = _VERSION.match(text)
    if match is None:
        if _like_pickle(data):
            raise _refuse("a pickle, which runs code when read", "write the circuit as OpenQASM 3")
        raise _refuse(
            "text that does not start with OPENQASM 2 or 3", "put `OPENQASM 3.0;` at the top"
        )
    return "qasm2" if match[1] == "2" else "qasm3"
