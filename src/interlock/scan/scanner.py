"""Scan files: what each one is, which rules apply, what is found."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, cast

from interlock.errors import InputError
from interlock.scan import archives, notebook
from interlock.scan.archives import Reader
from interlock.scan.finding import Report, ScanFinding
from interlock.scan.models import formats
from interlock.scan.pysource import declared_text, is_script
from interlock.scan.reading import (
    Copied,
    Prefixed,
    coding_of,
    decoded,
    is_binary,
    read_up_to,
    valid_utf8,
)
from interlock.scan.seal import Names, seal
from interlock.scan.secrets.engine import BLOCK_BYTES, Engine, default_engine
from interlock.scan.secrets.mask import finding_of
from interlock.scan.walk import Entry, open_regular, walk

__all__ = ["FAMILIES", "ScanOptions", "Scanner", "require_something", "scan_paths"]

FAMILIES = ("secrets", "code", "models")
_HEAD = 8192
_MARK = 8  # the longest mark of an archive
_PYTHON = (".py", ".pyw", ".pyi")
_DOCUMENTS = (".ipynb", ".qasm", ".qasm3", ".inc", *_PYTHON)
_WIDE = {"utf-16", "utf-32", "utf-16-le", "utf-16-be"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What to look for and how far.

    Attributes:
        families: of `secrets`, `code`, `models`.
        everything: also look into excluded folders.
        strict_models: every file must be a model of an allowed format.
        max_document_bytes: largest notebook, Python or QASM file that is parsed, not only matched.
        archive_limits: how far to look into archives.
        base: paths are shown relative to this folder.
    """

    families: tuple[str, ...] = FAMILIES
    everything: bool = False
    strict_models: bool = False
    max_document_bytes: int = 24 * 1024 * 1024
    archive_limits: archives.ArchiveLimits = field(default_factory=archives.ArchiveLimits)
    base: Path = field(default_factory=Path.cwd)


class Scanner:
    """Looks into one source after another and gathers a report."""

    def __init__(
        self,
        options: ScanOptions,
        *,
        engine: Engine | None = None,
        progress: Callable[[Report], None] | None = None,
    ) -> None:
        self.options = options
        self.report = Report()
        self._engine = engine or default_engine()
        self.names = Names(self.report, self._engine, told="secrets" in options.families)
        self._progress = progress or (lambda _report: None)

    def walk(self, paths: Iterable[Path]) -> Iterator[Entry]:
        """Yield the files under the paths and look at every name on the way."""
        return walk(
            paths,
            self.report,
            base=self.options.base,
            everything=self.options.everything,
            named=self.names,
        )

    def entry(self, entry: Entry) -> None:
        """Scan one file of the tree."""
        handle = open_regular(entry, self.report)
        if handle is None:
            return
        with handle:
            try:
                looked = self.stream(handle, entry.shown)
            except OSError as error:
                self.report.note(entry.shown, "unreadable", error.strerror or "")
                return
            except MemoryError:
                self.report.note(entry.shown, "unreadable", "not enough memory")
                return
        self.report.files += looked
        self._progress(self.report)

    def stream(self, handle: BinaryIO, shown: str, where: str = "", *, suffix: str = "") -> bool:
        """Scan one open file; the handle can seek.

        Args:
            handle: the file.
            shown: its name.
            where: a place in it.
            suffix: what its name would end in, if it has none.

        Returns:
            Whether it was looked into: False for an archive of which no member could be read.
        """
        head = handle.read(_HEAD)
        handle.seek(0)
        name = shown.rpartition("/")[2]
        before = len(self.report.findings)
        if "models" in self.options.families:
            self.report.findings.extend(
                formats.examine(handle, head, shown, strict=self.options.strict_models)
            )
            handle.seek(0)
        kind = archives.kind_of(head, name)
        if kind:
            size = handle.seek(0, 2)
            handle.seek(0)
            budget = archives.Budget(self.options.archive_limits, max(size, 1))
            read = self._packed(handle, kind, shown, budget, 1, where, suffix)
            return read > 0 or len(self.report.findings) > before
        self.text(handle, head, shown, where, suffix)
        return True

    def _packed(
        self,
        handle: BinaryIO,
        kind: str,
        shown: str,
        budget: archives.Budget,
        depth: int,
        where: str = "",
        suffix: str = "",
    ) -> int:
        """Scan an archive; one that is broken or not ours to open is matched as it stands, too.

        A few bytes in front would else hide a plain text.
        """
        broken = budget.broken
        read = self._archive(handle, kind, shown, budget, depth)
        if budget.broken > broken:
            handle.seek(0)
            head = handle.read(_HEAD)
            handle.seek(0)
            told = len(self.report.notes)
            self.text(handle, head[_MARK:], shown, where, suffix)
            self.report.notes[told:] = [
                note for note in self.report.notes[told:] if note.reason != "invalid-utf8"
            ]  # a broken archive is no text, and is named already
        return read

    def _archive(
        self, handle: BinaryIO, kind: str, shown: str, budget: archives.Budget, depth: int
    ) -> int:
        """Scan the members; return how many were read."""
        read = 0
        for name, reader in archives.members(handle, kind, shown, budget, self.report):
            self.names(f"{shown}!{name}")
            try:
                read += self._member(reader, f"{shown}!{name}", name, budget, depth)
            except OverflowError as error:
                self.report.note(shown, "archive-limit", str(error))
                return read + 1
            except archives.BROKEN as error:
                detail = f"{type(error).__name__}: {error}"[:120]
                self.report.note(f"{shown}!{name}", "broken-archive", detail)
                budget.broken += 1
                return read
        return read

    def _member(
        self, reader: Reader, inner: str, name: str, budget: archives.Budget, depth: int
    ) -> int:
        head = reader.read(_HEAD)
        plain = archives.plain_name(inner)
        suffix = os.path.splitext(plain)[1].lower()  # noqa: PTH122 - a name, not a path
        if "models" in self.options.families and formats.has_structure(suffix):
            with tempfile.SpooledTemporaryFile(1 << 20) as copy:
                shutil.copyfileobj(Prefixed(head, reader), copy)
                copy.seek(0)
                found = formats.examine(cast(BinaryIO, copy), head, plain)
                self.report.findings.extend(replace(item, path=inner) for item in found)
                copy.seek(0)
                self.text(copy, head, inner, "", suffix)
            return 1
        if "models" in self.options.families:
            found = formats.examine_head(head, plain)
            self.report.findings.extend(replace(item, path=inner) for item in found)
        nested = archives.kind_of(head, name)
        if nested and depth >= budget.limits.max_depth:
            self.report.note(inner, "archive-limit", f"more than {depth} levels")
            return 0
        if nested:
            packed = io.BytesIO(head + read_up_to(reader, 64 * 1024 * 1024))
            return self._packed(packed, nested, inner, budget, depth + 1)
        self.text(Prefixed(head, reader), head, inner, "", suffix)
        return 1

    def text(self, handle: Reader, head: bytes, shown: str, where: str, suffix: str = "") -> None:
        """Scan what is not an archive: a notebook, code, or any bytes."""
        suffix = suffix or os.path.splitext(shown)[1].lower()  # noqa: PTH122 - a name, not a path
        if suffix not in _DOCUMENTS and is_script(head) and not is_binary(head):
            suffix = ".py"
        if suffix in _DOCUMENTS:
            limit = self.options.max_document_bytes
            raw = read_up_to(handle, limit + 1)
            if len(raw) <= limit:
                self.report.bytes += len(raw)
                self._document(decoded(raw), suffix, shown, where)
                if coding_of(raw[:_HEAD]) in _WIDE:
                    self.blocks([raw], shown, where, binary=False)
                return
            self.report.note(shown, "too-large-to-parse", f"over {limit} bytes: matched as text")
            handle = Prefixed(raw, handle)
        coding = coding_of(head)
        if coding in _WIDE:
            self._both(handle, coding, shown, where)
            return
        binary = coding is None and is_binary(head)
        self.blocks(self._read(handle, coding, shown, binary), shown, where, binary=binary)

    def _both(self, handle: Reader, coding: str, shown: str, where: str) -> None:
        """Match the text, then the bytes: two bytes in front would else hide a plain text."""
        with tempfile.SpooledTemporaryFile(1 << 20) as copy:
            self.blocks(
                self._read(Copied(handle, copy), coding, shown, False), shown, where, binary=False
            )
            copy.seek(0)
            self.blocks(iter(lambda: copy.read(BLOCK_BYTES), b""), shown, where, binary=False)

    def _document(self, raw: bytes, suffix: str, shown: str, where: str) -> None:
        if suffix == ".ipynb":
            self._notebook(raw, shown)
            return
        if not valid_utf8(raw):
            self.report.note(shown, "invalid-utf8")
        self.blocks([raw], shown, where, binary=is_binary(raw[:_HEAD]))
        declared = declared_text(raw) if suffix in _PYTHON else ""
        if declared:
            self.blocks([declared.encode("utf-8", "replace")], shown, where, binary=False)
        if "code" in self.options.families:
            from interlock.scan.code import modules as code_modules

            text = declared or raw.decode("utf-8", "replace")
            check = code_modules.check_qasm if "qasm" in suffix else code_modules.check_python
            if suffix != ".inc":
                self.report.findings.extend(check(text, shown, self.report))

    def _notebook(self, raw: bytes, shown: str) -> None:
        try:
            found = notebook.pieces(raw)
        except InputError as error:
            self.report.note(shown, "broken-notebook", error.got or "")
            loose = raw.replace(b'\\"', b'"').replace(b"\\n", b"\n")
            self.blocks([loose], shown, "", binary=False)
            return
        if "secrets" in self.options.families:
            merged: dict[str, notebook.Piece] = {}
            for piece in found:
                into = merged.setdefault(piece.where, notebook.Piece(piece.where, ""))
                into.text += piece.text + "\n"
                into.lines += piece.lines or [0]
            for piece in merged.values():
                self._piece(piece, shown)
        if "code" in self.options.families:
            from interlock.scan.code import modules as code_modules

            text, places, left_out = notebook.code_cells(found)
            for cell in left_out:
                self.report.note(shown, "python-syntax", f"{cell}: the other cells were looked at")
            if text.strip():
                for item in code_modules.check_python(text, shown, self.report):
                    spot = places[item.line - 1] if 0 < item.line <= len(places) else ("", 0)
                    self.report.findings.append(replace(item, where=spot[0], line=spot[1]))

    def _piece(self, piece: notebook.Piece, shown: str) -> None:
        earlier: list[bytes] = []
        data = piece.text.encode("utf-8", "surrogatepass")
        self.report.units += 1
        for located in self._engine.stream([data]):
            line = piece.lines[min(located.line, len(piece.lines)) - 1] if piece.lines else 0
            self.report.findings.append(finding_of(located, shown, line, piece.where, earlier))
            earlier = [*earlier[-31:], located.match.secret]

    def blocks(self, blocks: Iterable[bytes], shown: str, where: str, *, binary: bool) -> None:
        """Match the secret rules over a stream."""
        if "secrets" not in self.options.families:
            return
        self.report.binary += binary
        earlier: list[bytes] = []
        for located in self._engine.stream(blocks, binary=binary):
            self.report.findings.append(finding_of(located, shown, located.line, where, earlier))
            earlier = [*earlier[-31:], located.match.secret]

    def _read(
        self, handle: Reader, coding: str | None, shown: str, binary: bool
    ) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(coding)("replace") if coding else None
        checker = None if binary else codecs.getincrementaldecoder("utf-8")()
        while True:
            block = handle.read(BLOCK_BYTES)
            if not block:
                return
            self.report.bytes += len(block)
            self._progress(self.report)
            if decoder is not None:
                yield decoder.decode(block).encode()
                continue
            if checker is not None:
                try:
                    checker.decode(block)
                except UnicodeDecodeError:
                    self.report.note(shown, "invalid-utf8")
                    checker = None
            yield block


def scan_paths(
    paths: Iterable[Path],
    options: ScanOptions | None = None,
    *,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Scan files and folders and return the report; Ctrl-C returns what was found so far.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("nothing here")
        ...     report = scan_paths([Path(folder)])
        >>> report.files, report.findings
        (1, [])
    """
    options = options or ScanOptions()
    scanner = Scanner(options, progress=progress)
    wall, cpu = time.monotonic(), time.process_time()
    try:
        for entry in scanner.walk(paths):
            scanner.entry(entry)
    except KeyboardInterrupt:
        scanner.report.interrupted = True
    seal(scanner.report, scanner.names)
    scanner.report.seconds = time.monotonic() - wall
    scanner.report.cpu_seconds = time.process_time() - cpu
    return scanner.report


def require_something(report: Report) -> None:
    """A scan that looked at nothing must not pass.

    Raises:
        InputError: no file, blob, commit or stream was looked into, and nothing found in a name.
    """
    looked = report.files + report.commits + len(report.findings)
    if not looked and not report.interrupted:
        met = ", ".join(f"{n.path}: {n.reason}" for n in report.notes[:5]) or "no files"
        raise InputError(
            "the scan looked at nothing",
            code="scan-empty",
            got=met,
            expected="at least one readable file",
            fix="check the paths; excluded folders are looked into with --all",
        )


def unique(findings: Iterable[ScanFinding]) -> list[ScanFinding]:
    """Drop findings that name the same rule, place and text twice."""
    seen: dict[tuple[str, str, int, int, str, bytes], ScanFinding] = {}
    for item in findings:
        key = (item.rule, item.path, item.line, item.column, item.where, item.secret)
        seen.setdefault(key, item)
    return list(seen.values())
