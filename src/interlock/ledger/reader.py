"""A ledger opened for reading only: on a read-only or full disk, or in a copy without keys."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError
from interlock.ledger.audit import audit
from interlock.ledger.entry import header_fields
from interlock.ledger.existing import existing
from interlock.ledger.heads import Heads
from interlock.ledger.identity import read_vkeys
from interlock.ledger.postgres import PostgresShelf, PostgresStore, address_of
from interlock.ledger.records import Records
from interlock.ledger.report import Report
from interlock.ledger.sequencer import truncated, unsigned
from interlock.ledger.sqlite_read import SqliteReader
from interlock.ledger.subjects import SubjectKeys

__all__ = ["Reader"]


class Reader(Records):
    """What `Ledger.read` returns; payloads whose keys are not here read as None.

    Example:
        >>> import pathlib, tempfile
        >>> from interlock.ledger import Ledger
        >>> home = pathlib.Path(tempfile.mkdtemp()) / "home"
        >>> with Ledger.open(home) as ledger:
        ...     receipt = ledger.append("demo", {}, {"shots": 100}).wait(5).id
        >>> with Ledger.read(home) as reader:
        ...     reader.find(receipt).payload["shots"]
        100
    """

    def __init__(self, home: Path) -> None:
        home = existing(Path(home))
        address = address_of(home)
        path = home / "ledger.db"
        if address is None and not path.exists():
            newest = Heads(home / "checkpoints").newest()
            raise truncated(0, newest[0].size if newest else 0)
        store = (
            SqliteReader(path)
            if address is None
            else PostgresStore(address, origin="", create=False)
        )
        self._close = store.close
        try:
            first = read_vkeys(home / "ledger.vkeys")
            if not first or first[0].name != store.origin:
                raise IntegrityError(
                    "this database is not the ledger of this home",
                    code="ledger-swapped",
                    got=store.origin,
                    expected=first[0].name if first else "a key in ledger.vkeys",
                    fix="read the right database, or put back the ledger.vkeys that belongs to it",
                )
            keys = KeyStore.reading(home / "keys")
            self._subjects: SubjectKeys | None = None
            if keys is not None and keys.has("subject-wrap"):
                shelf = PostgresShelf(store) if isinstance(store, PostgresStore) else None
                self._subjects = SubjectKeys(keys, shelf, create=False)
            super().__init__(home, store, store.origin, first, self._subjects)
            self._check_size()
        except BaseException:
            store.close()
            raise

    def _check_size(self) -> None:
        newest, signed = self._heads.newest(), self.signed_frontier().size
        size = len(self)
        longest = max(signed, newest[0].size if newest else 0)
        if longest > size:
            raise truncated(size, longest)
        if size and not signed and not self.signed_frontier().size:
            raise unsigned(size)

    def labelled(self, label: str) -> tuple[int, str | None] | None:
        """Return how many entries have a data label and can still be read, and the oldest's time.

        None where the keys that say so are not here. What was erased is not counted.
        """
        if self._subjects is None:
            return None
        scopes = self._subjects.scopes()
        keys = {key_id for key_id, scope in scopes.items() if scope.labelled(label)}
        headers = (header_fields(row[3]) for row in self._store.rows())
        times = [fields["time"] for fields in headers if fields["key"] in keys]
        return len(times), min(times, default=None)

    def verify(self) -> Report:
        """Check every entry and every head against each other; see `interlock.ledger.audit`."""
        return audit(self.home)

    def close(self) -> None:
        """Let go of the database."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
