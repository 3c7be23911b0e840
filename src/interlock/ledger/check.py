"""Checking a proof file on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interlock.errors import InputError
from interlock.ledger.identity import read_vkeys
from interlock.ledger.policy import WitnessPolicy
from interlock.ledger.proof import Proof
from interlock.ledger.tree import leaf_hash

__all__ = ["check_proof", "read_policy"]


def read_text(path: Path) -> str:
    """Read a small text file from outside."""
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("larger than 1 MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            "the file cannot be read",
            code="file-unreadable",
            got=f"{path}: {error}",
            expected="a text file of at most 1 MiB",
            fix="check the path",
        ) from error


def read_policy(path: Path) -> WitnessPolicy:
    """Read a witness policy from a file."""
    return WitnessPolicy.parse(read_text(path))


def check_proof(proof: Path, keys: Path, policy: Path | None = None) -> dict[str, Any]:
    """Raise unless a proof file shows an entry in the ledger whose first keys these are.

    The proof has to carry the entry's header and payload hash, as `interlock ledger prove` writes.

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
    head = parsed.verify(leaf_hash(parsed.extra), read_vkeys(keys))
    seen = read_policy(policy).check(parsed.note) if policy else []
    return {
        "index": parsed.index,
        "origin": head.origin,
        "size": head.size,
        "header": parsed.extra[:-32].decode("utf-8", "replace"),
        "witnesses": seen,
    }
