"""Which keys sign which heads: rotations are entries in which the old keys endorse the new.

A head of `size` entries is signed by the generation in force there: that of the last rotation
among its entries. A reader needs only the first generation's public keys.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.crypto import signing
from interlock.errors import IntegrityError, InterlockError
from interlock.ledger.note import ED25519, ML_DSA_44, NoteKey, NoteSigner

__all__ = ["ROTATED", "KeyHistory", "endorse"]

#: The event of a rotation. Events that begin with `ledger.` are the ledger's own.
ROTATED = "ledger.rotated"
_ALGORITHMS = {ED25519: "ed25519", ML_DSA_44: "ml-dsa-44"}


def _message(generation: int, keys: Sequence[NoteKey]) -> bytes:
    lines = ["interlock/ledger/rotation/v1", str(generation), *map(str, keys)]
    return "\n".join(lines).encode() + b"\n"


def endorse(
    generation: int, new: Sequence[NoteKey], old: Sequence[NoteSigner]
) -> dict[str, str | int]:
    """Return the header of the entry that puts new keys in force."""
    header: dict[str, str | int] = {"generation": generation}
    for key in new:
        header[f"key.{_ALGORITHMS[key.kind]}"] = str(key)
    message = _message(generation, new)
    for signer in old:
        signature = base64.b64encode(signer.private.sign(message)).decode()
        header[f"endorsed.{_ALGORITHMS[signer.key.kind]}"] = signature
    return header


class KeyHistory:
    """The generations of signing keys of one ledger, each endorsed by the one before."""

    def __init__(self, first: Sequence[NoteKey]) -> None:
        self._generations: list[tuple[int, list[NoteKey]]] = [(0, list(first))]

    @property
    def generation(self) -> int:
        """Number of the newest generation, from 0."""
        return len(self._generations) - 1

    def at(self, size: int) -> list[NoteKey]:
        """Return the keys that sign the head of `size` entries."""
        return next(keys for start, keys in reversed(self._generations) if start <= size)

    def add(self, index: int, header: Mapping[str, Any]) -> None:
        """Take up the rotation recorded in entry `index`.

        Raises:
            IntegrityError: both old keys must have endorsed both new keys, and they have not.
        """
        _, current = self._generations[-1]
        try:
            generation = header["generation"]
            kinds = [key.kind for key in current]
            new = [NoteKey.parse(header[f"key.{_ALGORITHMS[kind]}"]) for kind in kinds]
            names = {key.name for key in (*current, *new)}
            if generation != self.generation + 1 or len(names) != 1:
                raise _invalid(index, f"generation {generation} for {', '.join(sorted(names))}")
            if [key.kind for key in new] != kinds:
                raise _invalid(index, "keys of other types")
            for key in current:
                name = _ALGORITHMS[key.kind]
                signature = base64.b64decode(header[f"endorsed.{name}"], validate=True)
                signing.verify(name, key.public, signature, _message(generation, new))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _invalid(index, f"{type(error).__name__}: {error}") from error
        except InterlockError as error:
            if error.code == "rotation-invalid":
                raise
            raise _invalid(index, error.got or error.message) from error
        self._generations.append((index + 1, new))


def _invalid(index: int, got: str) -> IntegrityError:
    return IntegrityError(
        f"the rotation of keys in entry {index} is not endorsed by the keys before it",
        code="rotation-invalid",
        got=got,
        expected="the next generation, with signatures by both old keys",
        fix="do not trust heads after this entry; find out who wrote it",
    )
