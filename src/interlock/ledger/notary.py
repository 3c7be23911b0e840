"""Signing a tree head and keeping it outside the database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from interlock.errors import InterlockError
from interlock.ledger.heads import Heads
from interlock.ledger.identity import Identity
from interlock.ledger.note import Checkpoint, NoteKey, sign_checkpoint
from interlock.ledger.tree import Frontier

__all__ = ["Notary"]


class Notary:
    """Signs heads with the keys of a ledger; who may ask, and for what, is the caller's matter."""

    def __init__(self, identity: Identity, heads: Heads, clock: Callable[[], int]) -> None:
        self._identity = identity
        self._heads = heads
        self._clock = clock

    def keys(self, generation: int) -> list[NoteKey]:
        """Return the public keys of a generation, as this machine has them."""
        return [signer.key for signer in self._identity.signers(generation)]

    def sign(self, frontier: Frontier, generation: int) -> str:
        """Return the signed note of a head."""
        head = Checkpoint(self._identity.origin, frontier.size, frontier.root())
        time_s = self._clock() // 1_000_000_000
        signatures = sign_checkpoint(head, self._identity.signers(generation), time_s)
        return head.text() + "\n" + "".join(s.line() for s in signatures)

    def keep(self, frontier: Frontier, note: str) -> None:
        """Keep a note as a file; the database has it already, so a full disk is no failure."""
        with contextlib.suppress(InterlockError, OSError):
            self._heads.add(Checkpoint(self._identity.origin, frontier.size, frontier.root()), note)
