"""What the ledger asks of a database: ordered rows, one writer at a time, durable commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CheckpointRow", "Row", "Store"]

#: index, event, leaf hash, canonical header, stored payload
Row = tuple[int, str, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A tree head that was stored before it was signed; `note` is None until it has been."""

    size: int
    root: bytes
    frontier: bytes
    note: str | None


class Store(Protocol):
    """One ledger in one database.

    `begin` to `commit` is a transaction of the one sequencer; reads are on connections of their
    own and see only what has been committed.
    """

    origin: str

    def begin(self, deadline: float) -> None:
        """Become the sequencer, waiting until `deadline` on the monotonic clock."""

    def tail(self) -> tuple[int, bytes | None]:
        """Return one more than the highest index, and the header of the last entry."""

    def leaves_since(self, start: int) -> Sequence[tuple[int, bytes]]:
        """Return index and leaf hash of the entries from `start`, inside the transaction."""

    def insert(self, rows: Sequence[Row]) -> None:
        """Add entries."""

    def put_checkpoint(self, row: CheckpointRow) -> None:
        """Add a tree head, or replace that of the same size."""

    def commit(self) -> None:
        """Make everything since `begin` durable."""

    def rollback(self) -> None:
        """Forget everything since `begin`."""

    def count(self, event: str) -> int:
        """Return how many entries of an event there are, inside the transaction."""

    def checkpoints(self) -> Sequence[CheckpointRow]:
        """Return the tree heads by size."""

    def last_checkpoint(self) -> CheckpointRow | None:
        """Return the largest signed tree head."""

    def size(self) -> int:
        """Return the number of entries."""

    def rows(self, start: int = 0, event: str | None = None) -> Iterator[Row]:
        """Yield the entries in order."""

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf hash of committed entries in order."""

    def row(self, index: int) -> Row | None:
        """Return one entry."""

    def close(self) -> None:
        """Let go of the database."""
