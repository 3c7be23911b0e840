"""Telling a home with a ledger from a mistyped path."""

from __future__ import annotations

from pathlib import Path

from interlock.errors import InputError
from interlock.ledger.heads import Heads
from interlock.ledger.postgres import address_of

__all__ = ["existing"]


def existing(home: Path) -> Path:
    """Return a home that has a ledger, so that a mistyped path makes no new one.

    Raises:
        InputError: there is none.
    """
    if address_of(home) is not None:
        return home
    if not (home / "ledger.db").exists() and Heads(home / "checkpoints").newest() is None:
        raise InputError(
            "there is no ledger here",
            code="ledger-missing",
            got=str(home),
            expected="a folder with ledger.db",
            fix="give --home, or set INTERLOCK_HOME",
        )
    return home
