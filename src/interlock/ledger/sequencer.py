"""Group commit: many threads hand in entries, one of them at a time makes a batch durable.

Whoever waits first becomes the leader, takes everything that is queued, gives it places and times
and commits it with one synchronisation; the others find their entry done. What nobody waits for is
committed by a background thread within `LINGER_S`. Several processes take turns; each turn reads
what the others added since and extends the tree with it, so all of them sign one history.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from interlock.errors import IntegrityError, InterlockError, StorageError
from interlock.ledger import clock as clocks
from interlock.ledger.entry import (
    Draft,
    Entry,
    format_time,
    header_fields,
    parse_time,
    receipt_id,
)
from interlock.ledger.notary import Notary
from interlock.ledger.note import Checkpoint
from interlock.ledger.rotation import ROTATED
from interlock.ledger.store import CheckpointRow, Row, Store
from interlock.ledger.tree import Frontier

__all__ = ["Pending", "Sequencer"]

#: Longer than most jobs of a simulator: what a job queues before it runs shares its last commit.
LINGER_S = 0.05
_MAX_BATCH = 4096
_MAX_BATCH_BYTES = 16 << 20


class _Later(Mapping[str, Any]):
    """A payload that was handed in as JSON text; parsed only if somebody looks."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    @functools.cached_property
    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.json.decode(self._text)
        return plain

    def __getitem__(self, key: str) -> Any:
        return self._plain[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)


class Pending:
    """An entry handed in and not yet known to be durable."""

    __slots__ = ("_sequencer", "at", "calls", "draft", "entry", "error")

    def __init__(self, sequencer: Sequencer, draft: Draft) -> None:
        self._sequencer = sequencer
        self.at = time.monotonic()
        self.draft = draft
        self.entry: Entry | None = None
        self.error: InterlockError | None = None
        self.calls: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether it is durable, or has failed."""
        return self.entry is not None or self.error is not None

    def when_done(self, call: Callable[[], None]) -> None:
        """Have something called, once, when the entry is durable or has failed.

        On the thread that has committed it, or on this one. It must not raise.
        """
        self.calls.append(call)
        if self.done:
            self.tell()

    def tell(self) -> None:
        """Call what waits for the entry."""
        while self.calls:
            with contextlib.suppress(IndexError):  # another thread has taken the last one
                self.calls.pop()()

    def wait(self, timeout_s: float = 10.0) -> Entry:
        """Return the entry once it is on the disk.

        Raises:
            StorageError: it was not recorded (disk full, no turn in time, ...).
            IntegrityError: the ledger was changed behind our back; nothing more is added to it.
        """
        if not self.done:
            self._sequencer.drive(self, time.monotonic() + timeout_s)
        if self.error is not None:
            raise self.error
        if self.entry is None:
            raise StorageError(
                "the entry was not recorded in time",
                code="ledger-timeout",
                got=f"{timeout_s} s without a commit",
                expected="a commit within milliseconds",
                fix="look for a slow disk or a stopped program that has the ledger open",
            )
        return self.entry


class Sequencer:
    """The one place where entries get their index and time in this process."""

    def __init__(
        self, store: Store, frontier: Frontier, clock: Callable[[], int], notary: Notary
    ) -> None:
        self._store = store
        self._notary = notary
        self._clock = clock
        self._frontier = frontier
        self._last_ns = 0
        self._broken: InterlockError | None = None
        self.renew()

    def renew(self) -> None:
        """Begin with nothing queued, as a forked child does: its parent records that."""
        self._queue: deque[Pending] = deque()
        self._finished: deque[Pending] = deque()
        self._mutex = threading.Lock()

    @property
    def queued(self) -> int:
        """Entries that wait for a commit."""
        return len(self._queue)

    @property
    def size(self) -> int:
        """Entries this process knows to be recorded."""
        return self._frontier.size

    def due_s(self) -> float:
        """Return the seconds until what was queued first has waited for `LINGER_S`."""
        try:
            return max(0.0, self._queue[0].at + LINGER_S - time.monotonic())
        except IndexError:
            return LINGER_S

    def submit(self, draft: Draft) -> Pending:
        """Queue an entry."""
        pending = Pending(self, draft)
        self._queue.append(pending)
        return pending

    def withdraw(self, pending: Pending, error: InterlockError) -> None:
        """Take an entry back and fail it, unless a commit has it already."""
        with contextlib.suppress(ValueError):
            self._queue.remove(pending)
            pending.error = error

    def drive(self, pending: Pending, deadline: float) -> None:
        """Commit batches until this entry is done, or somebody else's commit did it."""
        while not pending.done:
            if not self._mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
                with contextlib.suppress(ValueError):
                    self._queue.remove(pending)
                return
            try:
                if not pending.done:
                    self._commit(deadline)
            finally:
                self._mutex.release()
                self._tell()

    def flush(self, timeout_s: float) -> None:
        """Commit everything queued now; failures stay with the entries they belong to.

        What is queued meanwhile waits for the next time, so that it shares that commit.
        """
        deadline = time.monotonic() + timeout_s
        left = len(self._queue)
        while self._queue and left > 0:
            try:
                with self._mutex:
                    left -= self._commit(deadline)
            finally:
                self._tell()

    def _tell(self) -> None:
        while self._finished:
            with contextlib.suppress(IndexError):
                self._finished.popleft().tell()

    def _take(self, batch: list[Pending]) -> None:
        total = 0
        while len(batch) < _MAX_BATCH and total < _MAX_BATCH_BYTES:
            try:
                pending = self._queue[0]
            except IndexError:
                break
            batch.append(pending)  # first: an interrupt between the two must not lose it
            with contextlib.suppress(ValueError):
                self._queue.remove(pending)
            total += len(pending.draft.data)

    def _commit(self, deadline: float) -> int:
        """Make one batch durable, or fail it; return how many it was."""
        batch: list[Pending] = []
        try:
            self._take(batch)
            # Here, not where they are handed in: many in a row take less time than one by one
            # between two runs of a simulator.
            for pending in batch:
                pending.draft.stored = pending.draft.seal(pending.draft.data)
            if batch:
                self._commit_batch(batch, deadline)
        except BaseException:
            for pending in batch:
                if not pending.done:
                    pending.error = _interrupted()
            raise
        finally:
            self._finished += [pending for pending in batch if pending.calls]
        return len(batch)

    def _commit_batch(self, batch: list[Pending], deadline: float) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            self._store.begin(deadline)
            try:
                frontier, last_ns, entries, rows = self._place(batch)
                self._store.insert(rows)
                note = self._first_note(frontier) if rows[0][0] == 0 else None
            except BaseException:
                self._store.rollback()
                raise
            self._store.commit()
        except InterlockError as error:
            if isinstance(error, IntegrityError) and error.code != "clock-wrong":
                self._broken = error
            for pending in batch:
                pending.error = error
            return
        self._frontier, self._last_ns = frontier, last_ns
        if note is not None:
            self._notary.keep(frontier, note)
        for pending, entry in zip(batch, entries, strict=True):
            pending.entry = entry

    def _first_note(self, frontier: Frontier) -> str:
        """Sign the first entries in the transaction that records them.

        So there is no moment, not even for a kill, at which a ledger has entries and no head, and
        one that is found like that has lost its heads.
        """
        note = self._notary.sign(frontier, self._store.count(ROTATED))
        self._store.put_checkpoint(head_row(frontier, note))
        return note

    def _place(self, batch: list[Pending]) -> tuple[Frontier, int, list[Entry], list[Row]]:
        frontier, last_ns = self._catch_up()
        now_ns = self._checked_time(last_ns, frontier.size)
        stamp = format_time(now_ns)
        entries: list[Entry] = []
        rows: list[Row] = []
        for pending in batch:
            draft, index = pending.draft, frontier.size
            header, leaf = draft.place(index, stamp)
            frontier.append(leaf)
            rows.append((index, draft.event, leaf, header, draft.stored))
            entries.append(
                Entry(
                    index=index,
                    id=receipt_id(index, leaf),
                    event=draft.event,
                    time=stamp,
                    header=draft.header,
                    payload=_Later(draft.payload)
                    if isinstance(draft.payload, bytes)
                    else draft.payload,
                    leaf_hash=leaf,
                    key=draft.key,
                )
            )
        return frontier, now_ns, entries, rows

    def _catch_up(self) -> tuple[Frontier, int]:
        """Extend the tree by what other processes added; return a copy of it and the last time."""
        size, header = self._store.tail()
        mine = self._frontier
        if size == mine.size and (header is None or self._last_ns):
            return mine.copy(), self._last_ns
        frontier = extend(self._store, mine.copy(), size)
        last_ns = parse_time(header_fields(header)["time"]) if header is not None else 0
        return frontier, max(last_ns, self._last_ns)

    def _checked_time(self, last_ns: int, size: int) -> int:
        now_ns = self._clock() // 1000 * 1000
        if size:
            clocks.check_next(now_ns, last_ns)
        else:
            clocks.check_first(now_ns)
        return max(now_ns, last_ns)

    def head(self, timeout_s: float) -> tuple[Frontier, bool, int]:
        """Store the present tree head as about to be signed.

        Returns:
            The head, whether it is new, and the generation of keys in force there.

        The head is derived from the tree this process has followed since its last verified
        checkpoint, so it can never contradict one that has been signed.
        """
        with self._mutex:
            if self._broken is not None:
                raise self._broken
            self._store.begin(time.monotonic() + timeout_s)
            try:
                frontier, last_ns = self._catch_up()
                known = self._store.last_checkpoint()
                if known is not None and known.size > frontier.size:
                    raise truncated(frontier.size, known.size)
                new = known is None or known.size < frontier.size
                generation = self._store.count(ROTATED)
                if new:
                    self._store.put_checkpoint(head_row(frontier, None))
            except BaseException:
                self._store.rollback()
                raise
            self._store.commit()
            self._frontier, self._last_ns = frontier, last_ns
            return frontier.copy(), new, generation

    def put_note(self, frontier: Frontier, note: str, timeout_s: float) -> None:
        """Store the signed note of a head."""
        with self._mutex:
            self._store.begin(time.monotonic() + timeout_s)
            try:
                self._store.put_checkpoint(head_row(frontier, note))
            except BaseException:
                self._store.rollback()
                raise
            self._store.commit()


def _interrupted() -> StorageError:
    return StorageError(
        "the commit was interrupted; the entry may or may not be recorded",
        code="ledger-interrupted",
        got="an interrupt in the thread that was writing",
        expected="an undisturbed commit",
        fix="open the ledger again and look for the entry before repeating it",
    )


def head_row(frontier: Frontier, note: str | None) -> CheckpointRow:
    """Return a tree head as it is stored."""
    return CheckpointRow(
        size=frontier.size, root=frontier.root(), frontier=frontier.to_bytes(), note=note
    )


def extend(
    store: Store, frontier: Frontier, size: int, signed: Checkpoint | None = None
) -> Frontier:
    """Add the leaf hashes from the tree's size up to `size`.

    Raises:
        IntegrityError: entries are gone, or are not those under the head `signed`.
    """
    if size < frontier.size:
        raise truncated(size, frontier.size)
    for index, leaf in store.leaves_since(frontier.size):
        if index != frontier.size:
            raise gap(index, frontier.size)
        frontier.append(leaf)
        if signed is not None and frontier.size == signed.size and frontier.root() != signed.root:
            raise misfit(frontier, signed)
    return frontier


def misfit(frontier: Frontier, head: Checkpoint) -> IntegrityError:
    """Return the error of a tree that is not the one signed."""
    return IntegrityError(
        "the stored tree does not fit the signed head",
        code="ledger-frontier",
        got=f"{frontier.size} entries, root {frontier.root().hex()}",
        expected=f"{head.size} entries, root {head.root.hex()}",
        fix="run `interlock verify`; restore the ledger from a copy",
    )


def gap(got: int, expected: int) -> IntegrityError:
    """Return the error of a ledger with entries missing."""
    return IntegrityError(
        "entries are missing from the middle of the ledger",
        code="ledger-gap",
        got=f"entry {got}",
        expected=f"entry {expected}",
        fix="run `interlock verify`; keep this copy as evidence; restore another",
    )


def unsigned(size: int) -> IntegrityError:
    """Return the error of a ledger that has entries and has lost every signed head."""
    return IntegrityError(
        "the ledger has entries but no signed head; nothing is added to it",
        code="ledger-unsigned",
        got=f"{size} entries, no signed head",
        expected="a signed head, made with the first entry",
        fix="run `interlock verify`; keep this copy as evidence; restore the newest copy",
    )


def truncated(got: int, expected: int) -> IntegrityError:
    """Return the error of a ledger that is shorter than it has been."""
    return IntegrityError(
        "the newest entries of the ledger are gone; nothing is added to it",
        code="ledger-truncated",
        got=f"{got} entries",
        expected=f"at least {expected}",
        fix="run `interlock verify`; keep this copy as evidence; restore the newest copy",
    )
