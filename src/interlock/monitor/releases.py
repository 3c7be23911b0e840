"""Which detector versions were released, on record in the home's ledger.

The registry's folder says which version is current; whoever can write there can remove that, or
put back an older signed state. The ledger cannot be set back unseen: with it a version number is
released once for ever, and only the version that was made current last loads.
"""

from __future__ import annotations

import hashlib

from interlock.ledger import Ledger
from interlock.ledger.entry import HeaderValue
from interlock.ledger.reader import Reader
from interlock.monitor.signed import DualPublic

__all__ = ["CURRENT", "LedgerRecord"]

#: The event of a detector's version that becomes current: by a release, or by a rollback.
CURRENT = "detector-current"


class LedgerRecord:
    """The versions of detectors that a ledger has on record.

    Args:
        ledger: of a home; one open for reading does to look.
        public: keys of the detectors' owner: another owner's detector of the same name is another.
    """

    def __init__(self, ledger: Ledger | Reader, public: DualPublic) -> None:
        self._ledger = ledger
        keys = f"{public.ed25519}:{public.ml_dsa_65}"
        self._owner = hashlib.sha256(keys.encode()).hexdigest()

    def of(self, name: str) -> list[tuple[int, str]]:
        """Return version and hash of its card each time one became current, oldest first."""
        return [
            (int(entry.header["version"] or 0), str(entry.header["card_sha256"]))
            for entry in self._ledger.entries(CURRENT)
            if (entry.header["detector"], entry.header["owner_keys"]) == (name, self._owner)
        ]

    def add(self, name: str, version: int, digest: str) -> None:
        """Record that a version becomes current; it is on the disk on return."""
        assert isinstance(self._ledger, Ledger)
        header: dict[str, HeaderValue] = {
            "detector": name,
            "owner_keys": self._owner,
            "version": version,
            "card_sha256": digest,
        }
        self._ledger.append(CURRENT, header, {}).wait()
