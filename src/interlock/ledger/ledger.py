"""The ledger as callers use it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from interlock.crypto import files
from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, IntegrityError, StorageError
from interlock.ledger import background
from interlock.ledger import entry as entries
from interlock.ledger.audit import audit
from interlock.ledger.clock import check_against
from interlock.ledger.entry import Draft, Entry, HeaderValue
from interlock.ledger.heads import Heads
from interlock.ledger.identity import Identity, missing_keys
from interlock.ledger.notary import Notary
from interlock.ledger.note import (
    Checkpoint,
    NoteKey,
    verify_checkpoint,
)
from interlock.ledger.postgres import PostgresShelf, PostgresStore, address_of
from interlock.ledger.proof import Proof
from interlock.ledger.reader import Reader
from interlock.ledger.report import Report
from interlock.ledger.rotating import Rotating
from interlock.ledger.sequencer import Pending, Sequencer, extend, gap, truncated, unsigned
from interlock.ledger.sqlite import SqliteStore
from interlock.ledger.store import Store
from interlock.ledger.subjects import Scope, SubjectKeys
from interlock.ledger.tree import Frontier, Tree

if TYPE_CHECKING:
    from interlock.ledger.anchor import Anchor

__all__ = ["Ledger"]

_CHECKPOINT_S = 5.0
_QUIET_S = 1.0
_TURN_S = 10.0
#: The event of a destroyed data key.
ERASED = "ledger.erased"
_OWN = Scope("interlock:ledger")


class Ledger(Rotating):
    """An append-only record that shows what was changed in it afterwards.

    Tamper-evident, not tamper-proof: whoever holds the keys can write a different history. A
    deleted tail is shown when a head of the longer ledger is kept somewhere: in `checkpoints/`
    beside the database, or, where that folder can be changed too, by a witness.

    Example:
        >>> import pathlib, tempfile
        >>> with Ledger.open(pathlib.Path(tempfile.mkdtemp()) / "home") as ledger:
        ...     entry = ledger.append("demo", {"job": "j1"}, {"shots": 100}).wait(5)
        ...     ledger.verify().ok, entry.index, ledger.find(entry.id).payload["shots"]
        (True, 0, 100)
    """

    def __init__(
        self, home: Path, store: Store, keys: KeyStore, identity: Identity, clock: Callable[[], int]
    ) -> None:
        shelf = PostgresShelf(store) if isinstance(store, PostgresStore) else None
        self._subjects = SubjectKeys(keys, shelf)
        super().__init__(home, store, identity.origin, identity.first, self._subjects)
        self._store: Store = store
        self._keys = keys
        self._identity = identity
        self._clock = clock
        self._notary = Notary(identity, self._heads, clock)
        self._sequencer = Sequencer(store, self._follow(), clock, self._notary)
        self._tree = Tree()
        self._tree_lock = threading.Lock()
        self.wake = threading.Event()
        self._closed = threading.Event()
        self._flusher: threading.Thread | None = None
        self._seen = self._signed = self._sequencer.size
        self._seen_at = self._signed_at = time.monotonic()
        background.register(self)

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        database: str | None = None,
    ) -> Ledger:
        """Open the ledger of a home, making it, its keys and its folder the first time.

        Args:
            home: folder; created with access for its owner only.
            clock: nanoseconds since 1970, like `time.time_ns`.
            database: `postgresql://...` for a ledger that several machines write; all of them
                need the same `keys` folder. By default what `ledger.url` in the home says; without
                that file the ledger is a file in the home.

        Raises:
            IntegrityError: it was cut, swapped or damaged; nothing is added to it then.
            StorageError: the disk or the database cannot be used.
            SetupError: others can read the keys.
        """
        home = Path(home)
        files.own_dir(home)
        keys = KeyStore(home / "keys")
        identity = Identity(home, keys)
        path = home / "ledger.db"
        database = database or address_of(home)
        newest = Heads(home / "checkpoints").newest() if database is None else None
        if newest is not None and not path.exists():
            raise truncated(0, newest[0].size)
        store: Store
        if database is None:
            # A ledger that had a head is not made anew in a database that was emptied.
            store = SqliteStore(path, origin=None if newest else identity.origin)
        else:
            store = PostgresStore(database, origin=identity.origin)
        try:
            if store.origin != identity.origin:
                raise IntegrityError(
                    "this database is not the ledger of this home",
                    code="ledger-swapped",
                    got=store.origin,
                    expected=identity.origin,
                    fix="give the right database, or copy the keys that belong to it; "
                    "nothing was changed",
                )
            return cls(home, store, keys, identity, clock)
        except BaseException:
            store.close()
            raise

    @staticmethod
    def read(home: Path) -> Reader:
        """Open the ledger of a home for reading: nothing is made, signed or written.

        Raises:
            InputError: there is no ledger.
            IntegrityError: it was cut or swapped, or has lost its signed heads.
        """
        return Reader(home)

    def _follow(self) -> Frontier:
        """Return the tree of all entries, from the last signed head on, held against each head."""
        frontier = self.signed_frontier()
        signed = frontier.size
        newest = self._heads.newest()
        if newest is not None and newest[0].size > signed:
            self.check_note(newest[1])
        self._store.begin(time.monotonic() + _TURN_S)
        try:
            size, _ = self._store.tail()
            if newest is not None and newest[0].size > size:
                raise truncated(size, newest[0].size)
            frontier = extend(self._store, frontier, size, newest[0] if newest else None)
        finally:
            self._store.rollback()
        if size and not signed and not self.signed_frontier().size:
            raise unsigned(size)
        return frontier

    def append(
        self,
        event: str,
        header: Mapping[str, HeaderValue],
        payload: Mapping[str, Any] | bytes,
        *,
        subject: str = "local",
        label: str = "",
    ) -> Pending:
        """Hand in an entry; it is recorded when `wait` on the result returns.

        Several entries handed in before the first `wait` share one commit.

        Args:
            event: what happened, for instance a stage of the guarded path.
            header: flat, in the clear, kept for ever: no personal data.
            payload: JSON values, or an object as JSON text; encrypted under the subject's data key.
            subject: whom the payload is about; `erase` works by subject. Several, one a line: the
                payload is erased with any of them.
            label: data label; `expire` ends the retention of a label, month by month. Several, one
                a line: the first to end ends it.

        Raises:
            InputError: a value cannot be recorded exactly.
        """
        if self._closed.is_set():
            raise _closed(event)
        if event.startswith("ledger."):
            raise InputError(
                "this event is the ledger's own",
                code="ledger-entry",
                got=event,
                expected="an event that does not begin with `ledger.`",
                fix="choose another name",
            )
        return self._append(event, header, payload, self._scope(subject, label))

    @property
    def queued(self) -> int:
        """Entries handed in that wait for a commit."""
        return self._sequencer.queued

    def _scope(self, subject: str, label: str) -> Scope:
        if not isinstance(subject, str) or not isinstance(label, str):
            raise InputError(
                "a subject or a label is no text",
                code="ledger-entry",
                got=f"subject {subject!r}, label {label!r}",
                expected="texts; an empty label for none",
                fix="pass label='' where there is none",
            )
        return Scope(subject, label, self._month() if label else "")

    def _month(self) -> str:
        return entries.format_time(self._clock())[:7]

    def _append(
        self,
        event: str,
        header: Mapping[str, HeaderValue],
        payload: Mapping[str, Any] | bytes,
        scope: Scope = _OWN,
    ) -> Pending:
        fields, data = entries.draft(event, header, payload)
        writer = self._subjects.writer(scope)
        pending = self._sequencer.submit(
            Draft(
                event=event, header=header, fields=fields, payload=payload, data=data,
                key=writer.id, seal=writer.seal,
            )
        )  # fmt: skip
        if not self.wake.is_set():
            self._start()
        if self._closed.is_set():
            self._sequencer.withdraw(pending, _closed(event))  # nobody comes for it any more
        return pending

    def _append_own(self, event: str, header: Mapping[str, HeaderValue]) -> Pending:
        return self._append(event, header, {})

    def renew(self) -> None:
        """Begin anew in a forked child: what is queued is the parent's to record."""
        self._sequencer.renew()
        self.wake = threading.Event()
        self._flusher = None

    def _start(self) -> None:
        self.wake.set()
        background.awake(self)
        if self._flusher is None or not self._flusher.is_alive():
            self._flusher = background.start(self)

    def checkpoint(self) -> str:
        """Return a signed head of everything recorded so far.

        The head is stored before it is signed, and is never signed when it contradicts an
        earlier one. Without new entries the last note is returned again.
        """
        self._sequencer.flush(_TURN_S)
        frontier, new, generation = self._sequencer.head(_TURN_S)
        self._signed, self._signed_at = frontier.size, time.monotonic()
        last = self._store.last_checkpoint()
        head = Checkpoint(self.origin, frontier.size, frontier.root())
        if not new and last is not None and last.note is not None:
            if not self._heads.has(head.size):
                self._heads.add(head, last.note)
            return last.note
        if self._notary.keys(generation) != self.history().at(head.size):
            raise missing_keys(f"other keys of generation {generation}")
        note = self._notary.sign(frontier, generation)
        self._sequencer.put_note(frontier, note, _TURN_S)
        self._heads.add(head, note)
        return note

    def prove(self, index: int) -> Proof:
        """Return a proof that entry `index` is in the ledger, against the newest signed head."""
        note = self.checkpoint()
        head = self.check_note(note)
        path = self._grown_tree().inclusion(index, head.size)
        row = self._store.row(index)
        extra = row[3] + hashlib.sha256(row[4]).digest() if row else None
        return Proof(index=index, path=tuple(path), note=note, extra=extra)

    def prove_consistency(self, old: int, size: int) -> list[bytes]:
        """Return the proof that the first `old` entries are the beginning of the first `size`."""
        return self._grown_tree().consistency(old, size)

    def _grown_tree(self) -> Tree:
        with self._tree_lock:
            for index, leaf in self._store.leaves(len(self._tree)):
                if index != len(self._tree):
                    raise gap(index, len(self._tree))
                self._tree.append(leaf)
            return self._tree

    def erase(self, subject: str) -> list[Entry]:
        """Destroy the data keys of a subject and record it; return the receipts.

        What was recorded about the subject can then be read by nobody, here or in any copy of the
        database, while every proof still holds. Copies of the `keys` folder are out of reach of
        this call: keep none, or let them expire.
        """
        self._subjects.destroy(lambda scope: scope.about(subject))
        return self._record_destroyed("erase")

    def expire(self, label: str, months: int) -> list[Entry]:
        """End the retention of a label: destroy the keys of months that ended `months` ago.

        Args:
            label: the data label.
            months: how many whole months are kept beside the present one.
        """
        year, month = map(int, self._month().split("-"))
        oldest = year * 12 + month - 1 - months
        keep = f"{oldest // 12:04d}-{oldest % 12 + 1:02d}"
        self._subjects.destroy(lambda scope: scope.labelled(label) and scope.period < keep)
        return self._record_destroyed("retention")

    def _record_destroyed(self, reason: str) -> list[Entry]:
        """Record each destroyed key that has no receipt yet, those of a crash before included."""
        done = {entry.header["key"] for entry in self.entries(ERASED)}
        pending = [
            self._append(ERASED, {"key": key_id, "reason": reason}, {})
            for key_id in self._subjects.destroyed()
            if key_id not in done
        ]
        return [one.wait(_TURN_S) for one in pending]

    def cosign(self, url: str, keys: Sequence[NoteKey], *, timeout_s: float = 10.0) -> str:
        """Have a witness cosign the newest head; return the head with all its signatures.

        Raises:
            BackendError: the witness cannot be reached or refuses.
            IntegrityError: the witness knows another history of this ledger, or another time; the
                cosigned head is kept then.
        """
        from interlock.ledger.cosign import ask, merged

        note = self.checkpoint()
        head = self.check_note(note)
        tree = self._grown_tree()
        lines = ask(
            url, note, keys, lambda old: tree.consistency(old, head.size), timeout_s=timeout_s
        )
        note = merged(note, lines)
        row = self._store.last_checkpoint()
        if row is not None and row.size == head.size:
            frontier = Frontier.from_bytes(row.size, row.frontier)
            self._sequencer.put_note(frontier, note, _TURN_S)
        self._heads.add(head, note)
        for key, time_s in verify_checkpoint(note, keys)[1].items():
            if time_s is not None:
                check_against(time_s * 10**9, self._clock(), f"witness {key.partition('+')[0]}")
        return note

    def encrypt(self, data: bytes, *, subject: str, label: str = "") -> bytes:
        """Encrypt what is kept elsewhere as `append` would: `erase` and `expire` reach it there."""
        scope = self._scope(subject, label)
        writer = self._subjects.writer(scope)
        return writer.id.encode() + writer.seal(data)

    def scope_of(self, data: bytes) -> tuple[str, str] | None:
        """Return subject and label of what `encrypt` made, None once it is erased."""
        scope = self._subjects.scope_of(data[:32].decode("ascii", "replace"))
        return None if scope is None else (scope.subject, scope.label)

    def decrypt(self, data: bytes) -> bytes | None:
        """Return what `encrypt` was given, None once the subject is erased.

        Raises:
            IntegrityError: it is not what was encrypted.
        """
        return self._subjects.decrypt(data[:32].decode("ascii", "replace"), data[32:])

    @property
    def public_keys(self) -> list[NoteKey]:
        """The first generation of public keys: what a reader has to keep."""
        return list(self._identity.first)

    def entry_key(self, key_id: str, stored: bytes) -> bytes:
        """Return the key that opens one payload and no other."""
        return self._subjects.entry_key(key_id, stored) or b""

    def artefact_signer(self) -> ArtefactSigner:
        """Return the keys of this home that sign artefacts."""
        return ArtefactSigner(self._keys)

    def keys_of(self, subject: str) -> set[str]:
        """Return the ids of the data keys a subject has (none once it is erased)."""
        scopes = self._subjects.scopes()
        return {key_id for key_id, scope in scopes.items() if scope.about(subject)}

    def anchor(self, url: str, roots: Path, *, timeout_s: float = 15.0) -> Anchor:
        """Have an RFC 3161 authority stamp the newest head; keep its answer in `anchors/`.

        Raises:
            BackendError: no answer.
            IntegrityError: the answer is not a time-stamp of this head under these roots, or is
                of another time than this machine's; it is kept then.
        """
        from interlock.ledger.anchor import fetch, roots_from

        note = self.checkpoint()
        size = self.check_note(note).size
        stamped = fetch(url, note, roots_from(roots), timeout_s=timeout_s)
        folder = files.private_dir(self.home / "anchors")
        files.write_private(folder / f"{size:020d}.note", note.encode())
        files.write_private(folder / f"{size:020d}.tsr", stamped.response)
        stamped_ns = int(stamped.time.timestamp()) * 10**9
        check_against(stamped_ns, self._clock(), "the time-stamping authority")
        return stamped

    def verify(self) -> Report:
        """Check every entry and every head against each other; see `interlock.ledger.audit`."""
        source = self._store if isinstance(self._store, PostgresStore) else None
        return audit(self.home, source=source)

    def tick(self) -> float:
        """Do what is due in the background, and return the seconds until something may be."""
        if not self._sequencer.due_s():
            self._sequencer.flush(_TURN_S)
        size, now = self._sequencer.size, time.monotonic()
        if size != self._seen:
            self._seen, self._seen_at = size, now
        quiet = now - self._seen_at >= _QUIET_S
        if size != self._signed and (quiet or now - self._signed_at >= _CHECKPOINT_S):
            self.checkpoint()
        if quiet:
            self.wake.clear()
            if self._sequencer.queued:
                self.wake.set()
        return self._sequencer.due_s()

    def close(self) -> None:
        """Record what is queued, sign a last head and let go; a second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.wake.set()
        try:
            self.checkpoint()
        finally:
            if self._flusher is not None and self._flusher is not threading.current_thread():
                self._flusher.join(timeout=1.0)
            self._store.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _closed(event: str) -> StorageError:
    return StorageError(
        "the ledger is closed",
        code="ledger-closed",
        got=f"append of {event!r}",
        expected="an open ledger",
        fix="append before `close`, or open it again",
    )
