"""Changing the keys of a ledger: the next signing keys, and the root that may put them in force."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from interlock.crypto import files, suites
from interlock.crypto.keys import KeyStore
from interlock.ledger.entry import HeaderValue
from interlock.ledger.identity import Identity
from interlock.ledger.note import NoteSigner
from interlock.ledger.records import Records
from interlock.ledger.root import by_root
from interlock.ledger.rotation import (
    ROOTED,
    ROTATED,
    endorse,
    endorsements,
    enrolment,
    rotation,
)
from interlock.ledger.sequencer import Pending

__all__ = ["Rotating"]

_TURN_S = 10.0
#: The event of a new key-encryption key.
KEK_ROTATED = "ledger.kek-rotated"
#: The event of another keeper of the key-encryption key.
KEK_KEPT = "ledger.kek-kept"
#: The event of another suite of algorithms for a use.
SUITE_CHOSEN = "ledger.suite-chosen"


class Rotating(Records):
    """What a ledger can do with its own keys."""

    _keys: KeyStore
    _identity: Identity

    @abstractmethod
    def checkpoint(self) -> str:
        """Return a signed head of everything recorded so far."""

    @abstractmethod
    def _append_own(self, event: str, header: Mapping[str, HeaderValue]) -> Pending:
        """Hand in an entry of the ledger itself."""

    def rotation_request(self) -> bytes:
        """Make the next signing keys and return what the root has to sign to put them in force."""
        with files.locked(self._keys.lock_path()):
            generation = self.history().generation + 1
            signers = self._identity.signers(generation, create=True)
            return rotation(generation, [signer.key for signer in signers])

    def rotate(self, authorisation: bytes | None = None) -> int:
        """Make new signing keys, endorsed in an entry; return their generation.

        Heads from that entry on are signed by the new keys. The old private keys are kept: they
        open nothing, and other processes may be signing a last head with them.

        Args:
            authorisation: of the request, by `interlock ledger root sign`; for a ledger with a
                root. Without a root the old keys endorse the new.

        Raises:
            InputError: the root has not authorised these keys.
        """
        with files.locked(self._keys.lock_path()):
            generation = self.history().generation + 1
            request = self.rotation_request()
            new = [signer.key for signer in self._identity.signers(generation)]
            rooted = bool(self.history().root)
            header = endorse(generation, new, [] if rooted else self._signers())
            if rooted:
                header |= by_root(authorisation, request)
            self.history().check(len(self), ROTATED, header)
            self._append_own(ROTATED, header).wait(_TURN_S)
        text = "".join(f"{key}\n" for key in new)
        files.write_private(self.home / f"ledger.vkeys.{generation}", text.encode(), mode=0o644)
        self.checkpoint()
        return generation

    def rotate_kek(self) -> int:
        """Seal every key under a new key-encryption key and record it; return how many there are.

        The entry follows the rotation: one that a crash or a full disk kept out is made up for by
        the next call, which rotates again.
        """
        count = self._keys.rotate_kek()
        self._append_own(KEK_ROTATED, {"keys": count}).wait(_TURN_S)
        return count

    def keep_kek(self, keeper: str) -> tuple[str, str]:
        """Hand the key-encryption key to another keeper and record it; return old and new name.

        The entry follows the change, as in `rotate_kek`: call it again after a crash.

        Raises:
            UsageError: there is no such keeper.
        """
        before, after = self._keys.move_kek(keeper)
        self._append_own(KEK_KEPT, {"keeper": after, "before": before}).wait(_TURN_S)
        return before, after

    def choose_suite(self, use: str, suite: str) -> str:
        """Choose the algorithms of a use and record it; return the suite before.

        Raises:
            UsageError: there is no such use or suite, or it is not allowed.
        """
        before = suites.choose(self.home, use, suite)
        header = {"use": use, "suite": suite, "before": before}
        self._append_own(SUITE_CHOSEN, header).wait(_TURN_S)
        return before

    def _signers(self) -> list[NoteSigner]:
        return self._identity.signers(self.history().generation)

    def root_request(self, root: Mapping[str, str]) -> bytes:
        """Return what the present root has to sign to hand over to another."""
        return enrolment(self.origin, self.history().roots + 1, root)

    def enrol(self, root: Mapping[str, str], authorisation: bytes | None = None) -> int:
        """Put a root in force: from here on rotations need its signatures; return its number.

        Args:
            root: algorithm -> Base64 public key, see `interlock.ledger.root.parse_root`.
            authorisation: by the present root, where there is one.

        Raises:
            InputError: the present root has not authorised it.
        """
        with files.locked(self._keys.lock_path()):
            request, history = self.root_request(root), self.history()
            header: dict[str, str | int] = {"number": history.roots + 1}
            header |= {f"root.{name}": key for name, key in root.items()}
            if history.root:
                header |= by_root(authorisation, request)
            else:
                header |= endorsements(request, self._signers())
            history.check(len(self), ROOTED, header)
            self._append_own(ROOTED, header).wait(_TURN_S)
        self.checkpoint()
        return self.history().roots
