"""Which keys sign which heads: rotations are entries in which the old keys endorse the new.

A head of `size` entries is signed by the generation in force there: that of the last rotation
among its entries. A reader needs only the first generation's public keys.

A ledger can have a root: two keys kept off the machine, made known by an entry that the signing
keys endorse. From there on only the root puts signing keys, or another root, in force, so whoever
steals the signing keys cannot, and signing keys that are lost can be replaced.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.crypto import signing
from interlock.errors import InputError, IntegrityError, InterlockError
from interlock.ledger.note import ED25519, ML_DSA_44, NoteKey, NoteSigner

__all__ = [
    "ROOTED",
    "ROTATED",
    "KeyHistory",
    "LaterKeys",
    "endorse",
    "enrolment",
    "rotation",
]

#: The event of a rotation. Events that begin with `ledger.` are the ledger's own.
ROTATED = "ledger.rotated"
#: The event that puts a root in force.
ROOTED = "ledger.rooted"
#: The algorithms of a root; both have to sign.
ROOT_ALGORITHMS = ("ed25519", "ml-dsa-65")
_ALGORITHMS = {ED25519: "ed25519", ML_DSA_44: "ml-dsa-44"}


def rotation(generation: int, keys: Sequence[NoteKey]) -> bytes:
    """Return what is signed to put signing keys in force."""
    lines = ["interlock/ledger/rotation/v1", str(generation), *map(str, keys)]
    return "\n".join(lines).encode() + b"\n"


def enrolment(origin: str, generation: int, root: Mapping[str, str]) -> bytes:
    """Return what is signed to put a root in force; `root` is algorithm -> Base64 public key."""
    lines = [f"{name}:{root[name]}" for name in ROOT_ALGORITHMS]
    text = ["interlock/ledger/offline-root/v1", origin, str(generation), *lines]
    return "\n".join(text).encode() + b"\n"


def endorsements(message: bytes, signers: Sequence[NoteSigner]) -> dict[str, str]:
    """Return the header fields in which signing keys endorse a message."""
    return {
        f"endorsed.{_ALGORITHMS[signer.key.kind]}": base64.b64encode(
            signer.private.sign(message)
        ).decode()
        for signer in signers
    }


def endorse(
    generation: int, new: Sequence[NoteKey], old: Sequence[NoteSigner]
) -> dict[str, str | int]:
    """Return the header of the entry that puts new keys in force."""
    header: dict[str, str | int] = {"generation": generation}
    for key in new:
        header[f"key.{_ALGORITHMS[key.kind]}"] = str(key)
    return header | endorsements(rotation(generation, new), old)


class KeyHistory:
    """The generations of signing keys of one ledger, each endorsed by the one before or the root.

    Attributes:
        root: the root in force, algorithm -> Base64 public key; empty without one.
        roots: how many roots there have been.
        next: every entry before this index has been taken into account.
    """

    def __init__(self, first: Sequence[NoteKey]) -> None:
        self._generations: list[tuple[int, list[NoteKey]]] = [(0, list(first))]
        self._before = 0
        self.root: dict[str, str] = {}
        self.roots = 0
        self.next = 0

    @property
    def generation(self) -> int:
        """Number of the newest generation, from 0."""
        return self._before + len(self._generations) - 1

    def at(self, size: int) -> list[NoteKey]:
        """Return the keys that sign the head of `size` entries."""
        return next(keys for start, keys in reversed(self._generations) if start <= size)

    def until(self, size: int) -> list[list[NoteKey]]:
        """Return the generations put in force by the first `size` entries, oldest first."""
        return [list(keys) for start, keys in self._generations if start <= size]

    def add(self, index: int, event: str, header: Mapping[str, Any]) -> None:
        """Take up the rotation, or the root, recorded in entry `index`.

        Raises:
            IntegrityError: the root has to have endorsed it with both keys, or, where there is
                none, both signing keys in force; and they have not.
        """
        take = self._rotate if event == ROTATED else self._enrol
        try:
            take(index, header)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _invalid(index, f"{type(error).__name__}: {error}") from error
        except InterlockError as error:
            if error.code == "rotation-invalid":
                raise
            raise _invalid(index, error.got or error.message) from error
        self.next = index + 1

    def check(self, index: int, event: str, header: Mapping[str, Any]) -> None:
        """Raise what `add` would; take nothing up."""
        copy.deepcopy(self).add(index, event, header)

    def _rotate(self, index: int, header: Mapping[str, Any]) -> None:
        _, current = self._generations[-1]
        generation = header["generation"]
        kinds = [key.kind for key in current]
        new = self._named(header)
        names = {key.name for key in (*current, *new)}
        if generation != self.generation + 1 or len(names) != 1:
            raise _invalid(index, f"generation {generation} for {', '.join(sorted(names))}")
        if [key.kind for key in new] != kinds:
            raise _invalid(index, "keys of other types")
        self._endorsed(header, rotation(generation, new))
        self._generations.append((index + 1, new))

    def _named(self, header: Mapping[str, Any]) -> list[NoteKey]:
        kinds = [key.kind for key in self._generations[-1][1]]
        return [NoteKey.parse(header[f"key.{_ALGORITHMS[kind]}"]) for kind in kinds]

    def _enrol(self, index: int, header: Mapping[str, Any]) -> None:
        root = {name: str(header[f"root.{name}"]) for name in ROOT_ALGORITHMS}
        if header["number"] != self.roots + 1:
            raise _invalid(index, f"root {header['number']}")
        origin = self._generations[0][1][0].name
        self._endorsed(header, enrolment(origin, self.roots + 1, root))
        self.root, self.roots = root, self.roots + 1

    def _endorsed(self, header: Mapping[str, Any], message: bytes) -> None:
        keys = {name: base64.b64decode(key, validate=True) for name, key in self.root.items()}
        for name, public in keys.items():
            signature = base64.b64decode(header[f"by-root.{name}"], validate=True)
            signing.verify(name, public, signature, message)
        for key in () if keys else self._generations[-1][1]:
            name = _ALGORITHMS[key.kind]
            signature = base64.b64decode(header[f"endorsed.{name}"], validate=True)
            signing.verify(name, key.public, signature, message)


class LaterKeys(KeyHistory):
    """The generations as somebody sees them who trusts the keys of a later one, and no others.

    These keys vouch for all entries under a head that they, or their successors, signed; for an
    earlier head they say nothing. What earlier entries say of a root is taken as they say it: a
    head signed by the trusted keys covers those entries.

    Attributes:
        start: size of the ledger when the keys came into force; None until their entry is seen.
    """

    def __init__(self, given: Sequence[NoteKey]) -> None:
        super().__init__(given)
        self.start: int | None = None

    def at(self, size: int) -> list[NoteKey]:
        """Return the keys that sign the head of `size` entries.

        Raises:
            InputError: the trusted keys were not in force then.
        """
        if self.start is not None and size < self.start:
            raise InputError(
                "the keys given were not in force for this head",
                code="keys-later",
                got=f"keys of generation {self._before}, in force from {self.start} entries on",
                expected=f"the keys in force at {size} entries, or the first keys of the ledger",
                fix="give --keys ledger.vkeys, the first keys: rotations lead from them to these",
            )
        return super().at(size)

    def _rotate(self, index: int, header: Mapping[str, Any]) -> None:
        if self.start is not None:
            super()._rotate(index, header)
        elif self._named(header) == self._generations[0][1]:
            self._before, self.start = int(header["generation"]), index + 1
            self._generations = [(self.start, self._generations[0][1])]

    def _endorsed(self, header: Mapping[str, Any], message: bytes) -> None:
        if self.start is not None:
            super()._endorsed(header, message)


def _invalid(index: int, got: str) -> IntegrityError:
    return IntegrityError(
        f"the rotation of keys in entry {index} is not endorsed by the keys that may do it",
        code="rotation-invalid",
        got=got,
        expected="the next generation, with signatures by both keys of the root, "
        "or, without a root, by both old keys",
        fix="do not trust heads after this entry; find out who wrote it",
    )
