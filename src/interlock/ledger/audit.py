"""The offline check of a whole ledger: every entry, every head, and what fits together.

Needs no private key and opens the database read-only. Each fault is named by what was done, as
far as the evidence tells; the docs say for each what a witness adds.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlock.errors import InputError, InterlockError
from interlock.ledger.heads import Heads
from interlock.ledger.identity import history_of, read_vkeys
from interlock.ledger.note import Checkpoint, NoteKey, parse_note, verify_checkpoint
from interlock.ledger.policy import WitnessPolicy
from interlock.ledger.postgres import PostgresStore, address_of
from interlock.ledger.report import Report
from interlock.ledger.rotation import KeyHistory
from interlock.ledger.schema import foreign_objects
from interlock.ledger.sqlite import database_error
from interlock.ledger.sqlite_read import untouched
from interlock.ledger.store import CheckpointRow, Row
from interlock.ledger.tree import EMPTY_ROOT, Frontier
from interlock.ledger.walk import walk

__all__ = ["Source", "audit"]


@dataclass(slots=True)
class _Head:
    where: str
    checkpoint: Checkpoint


def audit(
    home: Path,
    keys: Sequence[NoteKey] | None = None,
    policy: WitnessPolicy | None = None,
    source: Source | None = None,
) -> Report:
    """Check the ledger of a home.

    Args:
        home: its folder.
        keys: the public keys to trust; by default those published in the home, which whoever
            can replace the whole home can replace as well.
        policy: witnesses that must have cosigned the newest head.
        source: where the entries are, if not in the home's own database file.

    Raises:
        InputError: there is no ledger.
    """
    path = home / "ledger.db"
    heads = Heads(home / "checkpoints")
    if source is None and (address := address_of(home)):
        found = PostgresStore(address, origin="", create=False, strict=False)
        try:
            return audit(home, keys, policy, found)
        finally:
            found.close()
    if source is None and not path.exists() and not heads.notes():
        raise _missing(str(home))
    if source is not None or not path.exists():
        return _examine(home, keys, policy, source)
    try:
        return untouched(
            path, lambda connection: _examine(home, keys, policy, _FileSource(connection))
        )
    except sqlite3.Error as error:
        report = Report()
        report.add("damaged", path.name, str(error), "a database that SQLite can read")
        return report


def _missing(got: str) -> InputError:
    return InputError(
        "there is no ledger here",
        code="ledger-missing",
        got=got,
        expected="a folder with ledger.db",
        fix="give --home, or set INTERLOCK_HOME",
    )


def _examine(
    home: Path,
    keys: Sequence[NoteKey] | None,
    policy: WitnessPolicy | None,
    source: Source | None,
) -> Report:
    report, path = Report(), home / "ledger.db"
    if keys is None:
        keys = read_vkeys(home / "ledger.vkeys")
        report.notes.append(
            "keys: taken from the home itself; pass the ledger's keys to rule out that the whole "
            "home was replaced"
        )
    origin = keys[0].name if keys else ""
    report.origin = origin
    history = history_of(keys)
    # A stamped head is one more head kept outside the database.
    kept = [*Heads(home / "checkpoints").notes(), *Heads(home / "anchors").notes()]
    notes = [(f"{file.parent.name}/{file.name}", note) for file, note in kept]
    try:
        if source is None:
            _compare(report, _valid(report, notes, history, origin), {0: EMPTY_ROOT}, 0)
        else:
            if isinstance(source, _FileSource):
                if not kept and source.empty:
                    raise _missing(f"{path}, in which no ledger was begun: first use failed")
                source.check(report, path.name)
            if isinstance(source, PostgresStore):
                for found in source.foreign_objects():
                    report.add("planted", "database", found, "only what Interlock makes")
            _check_source(report, source, history, origin, notes)
        if policy is not None:
            _check_witnesses(report, policy, notes)
    except sqlite3.Error as error:
        problem = database_error(path, error)
        if problem.code in ("ledger-locked", "storage-full"):
            raise problem from error
        report.add("damaged", path.name, str(error), "a database that SQLite can read")
    return report


def _check_witnesses(report: Report, policy: WitnessPolicy, notes: list[tuple[str, str]]) -> None:
    sized = [
        (Checkpoint.parse(parse_note(note)[0]).size, note)
        for _, note in notes
        if _sizes([("", note)])
    ]
    newest = max((size for size, _ in sized), default=0)
    best: InterlockError | None = None
    for note in [note for size, note in sized if size == newest]:
        try:
            seen = policy.check(note)
        except InterlockError as error:
            best = error
        else:
            report.notes.append(f"witnesses of the newest head: {', '.join(seen) or 'none'}")
            for name in seen:
                for time_s in verify_checkpoint(note, [policy.witnesses[name]])[1].values():
                    report.hold_clock(newest, (time_s or 0) * 10**9, f"witness {name}")
            return
    where = f"head of {newest} entries"
    if best is not None:
        report.add("unwitnessed", where, best.got or "", best.expected or "")
    elif policy.quorum != "none":
        report.add("unwitnessed", "all heads", "no signed head", f"quorum {policy.quorum}")


def _valid(
    report: Report, notes: list[tuple[str, str]], history: KeyHistory, origin: str
) -> list[_Head]:
    """Return the heads that the keys in force at their size have signed."""
    found, later = [], []
    for where, note in notes:
        try:
            size = Checkpoint.parse(parse_note(note)[0]).size
            checkpoint, _ = verify_checkpoint(note, history.at(size), origin=origin)
        except InterlockError as error:
            if error.code == "keys-later":
                later.append(error)
                continue
            kind = "swapped" if error.code == "checkpoint-origin" else "checkpoint-forged"
            report.add(kind, where, error.got or error.message, error.expected or "")
        else:
            report.checkpoints += 1
            report.signed_size = max(report.signed_size, checkpoint.size)
            found.append(_Head(where, checkpoint))
    report.not_judged = len(later)
    if later:
        report.notes.append(
            f"{len(later)} earlier heads not judged, neither good nor forged: {later[-1].message} "
            f"({later[-1].got}); {later[-1].fix}"
        )
    return found


def _sizes(notes: list[tuple[str, str]]) -> set[int]:
    sizes = set()
    for _, note in notes:
        with contextlib.suppress(InterlockError):
            sizes.add(Checkpoint.parse(parse_note(note)[0]).size)
    return sizes


class Source(Protocol):
    """What an audit reads."""

    def meta(self) -> dict[str, str]:
        """Return format and origin."""

    def checkpoints(self) -> Sequence[CheckpointRow]:
        """Return the tree heads."""

    def rows(self) -> Iterator[Row]:
        """Yield the entries in order."""


class _FileSource:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def empty(self) -> bool:
        """Whether the file has no tables at all, as when the disk was full at its first use."""
        return not self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()

    def check(self, report: Report, name: str) -> None:
        """Let SQLite look for damage; what follows reads one state of the database."""
        self._connection.execute("BEGIN")
        for (line,) in self._connection.execute("PRAGMA integrity_check(5)"):
            if line != "ok":
                report.add("damaged", name, str(line), "an intact database")
        for found in foreign_objects(self._connection):
            report.add("planted", name, found, "only what Interlock makes")

    def meta(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT name, value FROM meta"))

    def checkpoints(self) -> Sequence[CheckpointRow]:
        rows = self._connection.execute("SELECT size, root, frontier, note FROM checkpoints")
        return [
            CheckpointRow(size=size, root=root, frontier=frontier, note=note)
            for size, root, frontier, note in rows.fetchall()
        ]

    def rows(self) -> Iterator[Row]:
        yield from self._connection.execute(
            "SELECT idx, event, leaf, header, payload FROM entries ORDER BY idx"
        )


def _check_edge(report: Report, row: CheckpointRow) -> None:
    """Hold what is stored beside a note against the note: a reader goes on from it."""
    if row.note is None:
        return
    with contextlib.suppress(InputError):
        head = Checkpoint.parse(parse_note(row.note)[0])
        try:
            edge = Frontier.from_bytes(row.size, row.frontier).root()
        except InterlockError:
            edge = b""
        if (head.size, head.root, head.root) != (row.size, row.root, edge):
            where = f"head of {row.size} entries"
            report.add("edited", where, "a stored edge of another tree", head.root.hex())


def _check_source(
    report: Report,
    source: Source,
    history: KeyHistory,
    origin: str,
    notes: list[tuple[str, str]],
) -> None:
    meta = source.meta()
    if meta.get("format") != "1":
        report.add("future-format", "database", f"format {meta.get('format')}", "format 1")
    found = meta.get("origin")
    if found != origin:
        report.add("swapped", "database", str(found), origin)
    stored = source.checkpoints()
    for row in stored:
        _check_edge(report, row)
    notes += [(f"head of {row.size} entries", row.note) for row in stored if row.note is not None]
    roots, following = walk(report, source.rows(), history, _sizes(notes))
    valid = _valid(report, notes, history, origin)
    _compare(report, valid, roots, following)
    # A head is in the database before it is kept as a file.
    stored_sizes = {row.size for row in stored if row.note is not None}
    kept = {h.checkpoint.size for h in valid if h.where.startswith("checkpoints/")}
    for size in sorted(kept - stored_sizes):
        if size <= report.size:
            where = f"head of {size} entries"
            report.add("head-deleted", where, "not in the database", "the head in checkpoints/")


def _compare(report: Report, signed: list[_Head], roots: dict[int, bytes], following: int) -> None:
    """Hold the signed heads against the tree, and against each other."""
    sizes = [head.checkpoint.size for head in signed]
    longest = max(sizes, default=0)
    bad = [
        head
        for head in signed
        if head.checkpoint.size <= report.size
        and roots.get(head.checkpoint.size) != head.checkpoint.root
    ]
    wrong = {head.where for head in bad}
    fitting = [head.checkpoint.size for head in signed if head.where not in wrong]
    good = max((size for size in fitting if size <= report.size), default=0)
    if bad:
        first = min(bad, key=lambda head: head.checkpoint.size)
        size = first.checkpoint.size
        got = f"root {roots.get(size, b'').hex()}"
        expected = f"root {first.checkpoint.root.hex()} ({first.where})"
        if size <= good:
            report.add("forked", f"{size} entries", got + ", signed as well", expected)
        elif not report.faults:
            before = max((s for s in sizes if s < size), default=0)
            report.add("rewritten", f"entries {before} to {size - 1}", got, expected)
    if longest > following:
        where = f"entries {following} to {longest - 1}"
        report.add("newest-deleted", where, f"{following} entries", f"{longest}, as signed")
    report.unsigned = max(0, report.size - longest)
    if report.size and not longest:
        got = f"{report.size} entries and no valid signed head over any of them"
        report.add("unsigned", "all entries", got, "a signed head, made with the first entry")
    elif report.unsigned:
        report.notes.insert(
            0,
            f"{report.unsigned} newest entries (from entry {longest}) are under no signed head: a "
            "change to them, or their removal, would not show",
        )
    report.notes.append(
        "without a witness, somebody with the ledger's keys can rewrite it unseen; compare a head "
        "kept elsewhere"
    )
