"""Inclusion proofs that stand alone, in the C2SP tlog-proof format."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from interlock.errors import InputError
from interlock.ledger.note import Checkpoint, NoteKey, verify_checkpoint
from interlock.ledger.tree import verify_inclusion

__all__ = ["Proof"]

_FIRST = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That an entry is in a ledger: its index, the audit path, the signed head.

    Attributes:
        index: place of the entry.
        path: sibling hashes, leaf end first.
        note: the signed checkpoint, cosignatures included.
        extra: opaque bytes that nothing vouches for (Interlock puts the entry's bytes there).
    """

    index: int
    path: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    def __str__(self) -> str:
        """Return the tlog-proof text."""
        lines = [_FIRST]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(node).decode() for node in self.path]
        return "\n".join(lines) + "\n\n" + self.note

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read a tlog-proof.

        Raises:
            InputError: it is not one.
        """
        head, blank, note = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or lines[0] != _FIRST or len(lines) < 2:
            raise _bad(text[:60])
        extra = None
        if lines[1].startswith("extra "):
            extra = _unbase64(lines.pop(1)[6:])
        match = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if match is None:
            raise _bad(head[:200])
        path = tuple(_unbase64(line) for line in lines[2:])
        if len(path) > 63 or any(len(node) != 32 for node in path):
            raise _bad("an audit path with a hash that is not 32 bytes, or too many of them")
        return cls(index=int(match[1]), path=path, note=note, extra=extra)

    def verify(
        self, leaf: bytes, keys: Iterable[NoteKey], *, origin: str | None = None
    ) -> Checkpoint:
        """Raise unless the leaf is in the ledger whose keys these are; return the head.

        Raises:
            IntegrityError: a signature or the path is wrong, or it is another ledger's.
        """
        head, _ = verify_checkpoint(self.note, keys, origin=origin)
        verify_inclusion(leaf, self.index, head.size, self.path, head.root)
        return head


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _bad(text[:60]) from error


def _bad(got: str) -> InputError:
    return InputError(
        "this is not a proof",
        code="proof-format",
        got=repr(got),
        expected=f"{_FIRST}, an index line, the hashes, an empty line, a checkpoint",
        fix="see c2sp.org/tlog-proof; write one with `interlock ledger prove`",
    )
