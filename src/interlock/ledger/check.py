"""Checking a proof file on its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.errors import InputError, InterlockError
from interlock.ledger.identity import read_vkeys
from interlock.ledger.note import Checkpoint, NoteKey, parse_note
from interlock.ledger.policy import WitnessPolicy
from interlock.ledger.proof import Proof
from interlock.ledger.reader import Reader
from interlock.ledger.tree import leaf_hash

__all__ = ["check_proof", "read_policy"]

_ANY_SIZE = 1 << 63


def read_text(path: Path) -> str:
    """Read a small text file from outside."""
    try:
        return files.read_plain(path).decode()
    except (OSError, ValueError) as error:
        raise InputError(
            "the file cannot be read",
            code="file-unreadable",
            got=f"{path}: {error}",
            expected="a plain text file of at most 1 MiB",
            fix="check the path",
        ) from error


def read_policy(path: Path) -> WitnessPolicy:
    """Read a witness policy from a file."""
    return WitnessPolicy.parse(read_text(path))


def keys_in_force(home: Path, given: Sequence[NoteKey] | None, size: int) -> list[NoteKey]:
    """Return the keys that have to sign a head of `size` entries.

    The ledger of the home, where there is one of the same origin, leads from the keys given to
    those in force at that size; without one the keys given have to sign themselves.

    Raises:
        InputError: the keys given came into force only after a ledger of that size.
    """
    first = read_vkeys(home / "ledger.vkeys") if given is None else list(given)
    try:
        with Reader(home) as reader:
            if not first or reader.origin != first[0].name:
                return first
            history = reader.history()
    except InterlockError as error:
        if error.code != "ledger-missing":
            raise
        return first
    # Endorsed one by the other from the first of this home: keys elsewhere in that chain, or
    # keys that are not in it, vouch for nothing here but themselves.
    if first in history.until(size):
        return history.at(size)
    if first in history.until(_ANY_SIZE):
        raise InputError(
            "the keys given came into force after this head was signed",
            code="proof-keys-later",
            got=f"keys of a later rotation, for a head of {size} entries",
            expected="the first keys of the ledger (ledger.vkeys), or those in force then",
            fix="give --keys ledger.vkeys; the proof itself may well be good",
        )
    return first


def check_proof(
    proof: Path, home: Path, keys: Path | None = None, policy: Path | None = None
) -> dict[str, Any]:
    """Raise unless a proof file shows an entry in the ledger whose keys these are.

    The proof has to carry the entry's header and payload hash, as `interlock ledger prove` writes.

    Args:
        proof: the file.
        home: of the ledger; its rotations lead to the keys in force at the size of the proof.
        keys: to trust, instead of those published in the home.
        policy: witnesses that must have cosigned.

    Returns:
        Index, origin, size and the witnesses of the policy that have cosigned.
    """
    parsed = Proof.parse(read_text(proof))
    if parsed.extra is None:
        raise InputError(
            "the proof does not say what it proves",
            code="proof-format",
            got="no extra line",
            expected="the entry's header and payload hash in the extra line",
            fix="write it with `interlock ledger prove`",
        )
    size = Checkpoint.parse(parse_note(parsed.note)[0]).size
    trusted = keys_in_force(home, read_vkeys(keys) if keys else None, size)
    origin = trusted[0].name if trusted else None
    head = parsed.verify(leaf_hash(parsed.extra), trusted, origin=origin)
    seen = read_policy(policy).check(parsed.note) if policy else []
    return {
        "index": parsed.index,
        "origin": head.origin,
        "size": head.size,
        "header": parsed.extra[:-32].decode("utf-8", "replace"),
        "witnesses": seen,
    }
