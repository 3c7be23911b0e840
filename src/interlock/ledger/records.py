"""What can be asked of a ledger, whether it was opened for writing or only for reading."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from interlock.errors import InputError
from interlock.ledger import entry as entries
from interlock.ledger.entry import Entry
from interlock.ledger.heads import Heads
from interlock.ledger.note import Checkpoint, NoteKey, parse_note, verify_checkpoint
from interlock.ledger.rotation import ROOTED, ROTATED, KeyHistory
from interlock.ledger.sequencer import misfit
from interlock.ledger.store import CheckpointRow, Row
from interlock.ledger.tree import Frontier

__all__ = ["Records"]


class Readable(Protocol):
    """The reading half of a store."""

    def checkpoints(self) -> Sequence[CheckpointRow]:
        """Return the tree heads by size."""

    def last_checkpoint(self) -> CheckpointRow | None:
        """Return the largest signed tree head."""

    def size(self) -> int:
        """Return the number of entries."""

    def rows(self, start: int = 0, event: str | None = None) -> Iterator[Row]:
        """Yield the entries in order."""

    def row(self, index: int) -> Row | None:
        """Return one entry."""


class Opener(Protocol):
    """What decrypts payloads."""

    def decrypt(self, key_id: str, stored: bytes) -> bytes | None:
        """Return the payload, None without its key."""


class Records:
    """Entries and signed heads of one ledger."""

    def __init__(
        self,
        home: Path,
        store: Readable,
        origin: str,
        first: list[NoteKey],
        opener: Opener | None,
    ) -> None:
        self.home = home
        self.origin = origin
        self._store = store
        self._opener = opener
        self._history = KeyHistory(first)
        self._heads = Heads(home / "checkpoints")

    def signed_frontier(self) -> Frontier:
        """Return the tree under the last signed head of the database, empty without one.

        Raises:
            IntegrityError: the head is not signed by the keys in force, or is of another tree.
        """
        signed = self._store.last_checkpoint()
        if signed is None or signed.note is None:
            return Frontier()
        head = self.check_note(signed.note)
        frontier = Frontier.from_bytes(signed.size, signed.frontier)
        if head.size != signed.size or head.root != frontier.root():
            raise misfit(frontier, head)
        return frontier

    def history(self) -> KeyHistory:
        """Return the generations of signing keys that the entries so far put in force."""
        start = self._history.next
        pages = [self._store.rows(start, event) for event in (ROTATED, ROOTED)]
        for row in heapq.merge(*pages, key=itemgetter(0)):
            self._history.add(row[0], row[1], entries.header_fields(row[3])["header"])
        return self._history

    def check_note(self, note: str) -> Checkpoint:
        """Raise unless a note is a head signed by the keys in force at its size."""
        size = Checkpoint.parse(parse_note(note)[0]).size
        head, _ = verify_checkpoint(note, self.history().at(size), origin=self.origin)
        return head

    def __len__(self) -> int:
        return self._store.size()

    def entries(self, event: str | None = None, start: int = 0) -> Iterator[Entry]:
        """Yield the entries in order, from index `start`, of one event if given."""
        for row in self._store.rows(start, event):
            yield self._entry(row[2], row[3], row[4])

    def _entry(self, leaf: bytes, header: bytes, stored: bytes) -> Entry:
        key = entries.header_fields(header)["key"]
        return entries.read(
            header, leaf, self._opener.decrypt(key, stored) if self._opener else None
        )

    def find(self, receipt_id: str) -> Entry:
        """Return the entry of a receipt id.

        Raises:
            InputError: not a receipt id, or none of this ledger.
        """
        index = entries.parse_receipt(receipt_id)
        row = self._store.row(index)
        if row is None or entries.receipt_id(index, row[2]) != receipt_id.strip().lower():
            raise InputError(
                "the ledger has no such receipt",
                code="receipt-unknown",
                got=receipt_id,
                expected=f"a receipt of {self.origin}",
                fix="check --home and the id; a receipt of another ledger is not in this one",
            )
        return self._entry(row[2], row[3], row[4])

    def heads(self) -> list[tuple[int, str]]:
        """Return size and note of every signed head."""
        rows = self._store.checkpoints()
        return [(row.size, row.note) for row in rows if row.note is not None]

    def raw_entries(self, size: int) -> Iterator[tuple[Entry, bytes, bytes]]:
        """Yield the first `size` entries with their header and stored payload as bytes."""
        for row in islice(self._store.rows(), size):
            yield self._entry(row[2], row[3], row[4]), row[3], row[4]
