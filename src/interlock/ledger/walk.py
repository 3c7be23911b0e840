"""The entries of a ledger one by one: what each says, where it is, and the tree over them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from interlock.errors import InterlockError
from interlock.ledger.entry import header_fields
from interlock.ledger.report import Report
from interlock.ledger.rotation import ROOTED, ROTATED, KeyHistory
from interlock.ledger.store import Row
from interlock.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash

__all__ = ["walk"]

_WIDEST_GAP = 1_000_000


class _Places:
    """Where the entries say they belong, against where they are."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._missing: set[int] = set()
        self._moved, self._first_moved = 0, ""
        self.next = 0

    def see(self, index: int, claim: int) -> None:
        where = f"entry {index}"
        if index != claim and claim >= self.next:
            self._moved += 1
            self._first_moved = self._first_moved or f"entry {claim} stored as {index}"
        if claim == self.next:
            self.next += 1
        elif self.next < claim <= self.next + _WIDEST_GAP:
            self._missing.update(range(self.next, claim))
            self.next = claim + 1
        elif claim in self._missing:
            self._missing.remove(claim)
            self._report.add("reordered", where, f"what was entry {claim}", where)
        elif claim < self.next:
            self._report.add("duplicated", where, f"entry {claim} again", "each entry once")
        else:
            self._report.add("edited", where, f"says it is entry {claim}", where)

    def skip(self) -> None:
        self.next += 1

    def finish(self) -> None:
        for start, end in _ranges(sorted(self._missing)):
            count = end - start + 1
            where = f"entry {start}" if count == 1 else f"entries {start} to {end}"
            self._report.add("deleted", where, f"{count} missing", "no gap")
        if self._moved:
            got = f"{self._moved} entries, first {self._first_moved}"
            self._report.add("renumbered", "entries", got, "each entry at its signed index")


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for at, number in enumerate(numbers):
        if at + 1 == len(numbers) or numbers[at + 1] != number + 1:
            yield numbers[start], number
            start = at + 1


def walk(
    report: Report, rows: Iterator[Row], history: KeyHistory, sizes: set[int]
) -> tuple[dict[int, bytes], int]:
    """Check the entries one by one; return the root at each of the sizes, and the next index."""
    frontier, places = Frontier(), _Places(report)
    roots = {0: EMPTY_ROOT}
    last_time = ""
    for row in rows:
        leaf, fields = _check_row(report, row)
        if fields is None:
            places.skip()
        else:
            places.see(row[0], fields["index"])
            if fields["time"] < last_time:
                expected = f"at or after {last_time}"
                report.add("clock-back", f"entry {row[0]}", fields["time"], expected)
            last_time = max(fields["time"], last_time)
            if fields["event"] in (ROTATED, ROOTED):
                _rotate(report, history, row[0], fields)
        frontier.append(leaf)
        if frontier.size in sizes:
            roots[frontier.size] = frontier.root()
            report.times[frontier.size] = last_time
    places.finish()
    report.size = frontier.size
    report.root = frontier.root().hex()
    return roots, places.next


def _rotate(report: Report, history: KeyHistory, index: int, fields: dict[str, Any]) -> None:
    try:
        history.add(index, fields["event"], fields["header"])
    except InterlockError as error:
        report.add("rotation-forged", f"entry {index}", error.got or "", error.expected or "")


def _check_row(report: Report, row: Row) -> tuple[bytes, dict[str, Any] | None]:
    index, event, stored_leaf, header, payload = row
    where = f"entry {index}"
    if not all(isinstance(value, bytes) for value in (stored_leaf, header, payload)):
        report.add("unreadable", where, "a column that is not bytes", "leaf, header and payload")
        return b"", None
    leaf = leaf_hash(header + hashlib.sha256(payload).digest())
    if leaf != stored_leaf:
        report.add("edited", where, f"leaf {leaf.hex()[:16]}", f"leaf {stored_leaf.hex()[:16]}")
        return leaf, None
    try:
        fields = header_fields(header)
    except InterlockError as error:
        report.add("unreadable", where, error.got or "", error.expected or "")
        return leaf, None
    if fields["event"] != event:
        report.add("edited", where, f"event {event!r}", f"event {fields['event']!r}")
    return leaf, fields
