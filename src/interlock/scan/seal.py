"""Keep secrets out of all that a scan says, and find those that stand in names.

A file named after its token leaks it through every report, log and prompt that names the file.
`Names` looks at each name a scan meets; `seal` then masks, in every text of a report, whatever the
rules find and every secret found anywhere in the scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from interlock.scan.finding import Note, Report, ScanFinding
from interlock.scan.secrets.engine import Engine, Located, Match, default_engine
from interlock.scan.secrets.mask import finding_of, mask

__all__ = ["Names", "Sealer", "seal"]

#: A name or text without any of these holds no secret a rule could find.
_WORTH = re.compile(r"(?s)\d.{0,400}?[A-Za-z]|[A-Za-z].{0,400}?\d|[A-Za-z]{20}|://|[^\x00-\x7f]")
_PARTS = re.compile(r"[^/!]+")
_GLUE = re.compile(rb"[_.\-]")
_HEAD = 6
_MAX_TRIES = 96


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Names:
    """Looks for secrets in the names of files, folders and archive members.

    Args:
        report: where findings go.
        engine: the rules.
        told: report what is found; it is masked either way.

    Example:
        >>> report = Report()
        >>> names = Names(report, default_engine(), told=True)
        >>> names("backup/DEV-" + "9f3a07c1d2e84b56" * 2 + "0a1b2c3d_old.txt")
        >>> [f.rule for f in report.findings], len(names.known)
        (['secret.dwave-token'], 1)
    """

    def __init__(self, report: Report, engine: Engine, *, told: bool) -> None:
        self.known: set[bytes] = set()
        self._report, self._engine, self._told = report, engine, told
        self._folders: set[str] = set()

    def __call__(self, shown: str) -> None:
        """Look at a path; each folder of it once."""
        spans = [part.span() for part in _PARTS.finditer(shown)]
        for index in range(len(spans) - 1, -1, -1):
            start, end = spans[index]
            prefix = shown[:end]
            if index < len(spans) - 1:
                if prefix in self._folders:
                    return
                self._folders.add(prefix)
            name = shown[start:end]
            if len(name) >= 12 and _WORTH.search(name):
                self._part(prefix, _encoded(name))

    def _part(self, prefix: str, name: bytes) -> None:
        seen: set[bytes] = set()
        for text in _spaced(self._engine, name):
            for match in self._engine.scan(text):
                if match.secret in seen:
                    continue
                seen.add(match.secret)
                self.known.add(match.secret)
                if self._told:
                    self._report.findings.append(_finding(match, prefix, name))


def _spaced(engine: Engine, name: bytes) -> Iterator[bytes]:
    """The name, and the name with a space where `_`, `-` or `.` may part a token from the rest."""
    yield name
    tries = 0
    for offset in engine.places(name):
        if offset and _GLUE.match(name, offset - 1):
            name = name[: offset - 1] + b" " + name[offset:]
            yield name
        for glue in _GLUE.finditer(name, offset + 8):
            tries += 1
            if tries > _MAX_TRIES:
                return
            yield name[: glue.start()] + b" " + name[glue.end() :]


def _finding(match: Match, prefix: str, name: bytes) -> ScanFinding:
    located = Located(match, 0, match.start + 1, name, match.start)
    found = finding_of(located, prefix, 0, "its name", [])
    return replace(
        found,
        fix=f"{match.rule.revoke} Then rename it; backups, logs and histories keep the old name.",
    )


class Sealer:
    """Masks secrets in short texts: those the rules find, and those given.

    Example:
        >>> Sealer([b"hunter2hunter2"])("notes/hunter2hunter2.txt")
        'notes/****(14).txt'
    """

    def __init__(self, secrets: Iterable[bytes] = (), engine: Engine | None = None) -> None:
        self._engine = engine or default_engine()
        self._known: dict[bytes, list[bytes]] = {}
        for secret in sorted(set(secrets), key=len, reverse=True):
            if len(secret) >= _HEAD:
                self._known.setdefault(secret[:_HEAD], []).append(secret)
        self._done: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if text not in self._done:
            self._done[text] = self._sealed(text)
        return self._done[text]

    def _sealed(self, text: str) -> str:
        data = plain = _encoded(text)
        if len(data) >= 12 and _WORTH.search(text):
            for match in reversed(self._engine.scan(data)):
                hidden = mask(match.rule, match.secret).encode()
                data = data[: match.start] + hidden + data[match.end :]
        data = self._without_known(data)
        return text if data == plain else data.decode("utf-8", "surrogatepass")

    def _without_known(self, data: bytes) -> bytes:
        if not self._known:
            return data
        out, done, index = bytearray(), 0, 0
        while index <= len(data) - _HEAD:
            for secret in self._known.get(data[index : index + _HEAD], ()):
                if data.startswith(secret, index):
                    out += data[done:index] + b"****(%d)" % len(secret)
                    index += len(secret)
                    done = index
                    break
            else:
                index += 1
        return bytes(out + data[done:])


def seal(report: Report, names: Names | None = None) -> None:
    """Mask every secret in every text of a report, in place; `report.real` keeps masked paths.

    Two paths that differ only in a secret stay apart: the second gets `~2`.
    """
    if names is not None:
        for note in list(report.notes):
            names(note.path)
    secrets = {item.secret for item in report.findings if item.secret}
    sealer = Sealer(secrets | (names.known if names is not None else set()))
    shown: dict[str, str] = {}
    counts: dict[str, int] = {}

    def path_of(path: str) -> str:
        if path not in shown:
            hidden = sealer(path)
            if hidden != path:
                counts[hidden] = counts.get(hidden, 0) + 1
                hidden += f"~{counts[hidden]}" if counts[hidden] > 1 else ""
                report.real[hidden] = path
            shown[path] = hidden
        return shown[path]

    for index, item in enumerate(report.findings):
        report.findings[index] = replace(
            item,
            path=path_of(item.path),
            title=sealer(item.title),
            message=sealer(item.message),
            where=sealer(item.where),
            excerpt=sealer(item.excerpt),
            anchor=sealer(item.anchor),
        )
    report.covered[:] = map(sealer, report.covered)
    report.notes[:] = [
        Note(path=path_of(note.path), reason=note.reason, detail=sealer(note.detail))
        for note in report.notes
    ]
