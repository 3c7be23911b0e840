"""A chain of training checkpoints: each names the one before, so rollback, fork and swap show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.crypto.weights.manifest import Signed, verify_folder
from interlock.errors import InterlockError

__all__ = ["ChainFault", "ChainReport", "check_chain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFault:
    """One thing that is wrong.

    Attributes:
        kind: `unsigned-or-changed`, `swapped`, `fork`, `rollback`, `gap` or `another-model`.
        where: the folder.
        detail: what was found.
    """

    kind: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a check of a chain found.

    Attributes:
        checkpoints: the valid ones, in the order given.
        faults: what is wrong.
        last_good: folder up to which everything fits, or None.
    """

    checkpoints: tuple[Signed, ...]
    faults: tuple[ChainFault, ...]
    last_good: Path | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_chain(folders: Sequence[Path], public: Mapping[str, bytes]) -> ChainReport:
    """Check checkpoints, oldest first, each as signed and each the child of the one before.

    A whole newer end that was cut off does not show in the rest: keep the newest id elsewhere
    (the ledger does), or give the loader its state folder.
    """
    valid: list[Signed] = []
    faults: list[ChainFault] = []
    children: dict[str | None, str] = {}
    last_good: Path | None = None
    previous: Signed | None = None
    for folder in folders:
        try:
            signed = verify_folder(folder, public)
        except InterlockError as error:
            detail = f"{error.message}: {error.got}"
            faults.append(ChainFault(kind="unsigned-or-changed", where=str(folder), detail=detail))
            previous = None
            continue
        fault = _fault(signed, previous, children, first=folder == folders[0])
        if fault:
            faults.append(ChainFault(kind=fault[0], where=str(folder), detail=fault[1]))
        children.setdefault(signed.parent, str(folder))
        valid.append(signed)
        previous = signed
        if not faults:
            last_good = folder
    return ChainReport(checkpoints=tuple(valid), faults=tuple(faults), last_good=last_good)


def _fault(
    signed: Signed, previous: Signed | None, children: Mapping[str | None, str], *, first: bool
) -> tuple[str, str] | None:
    if signed.parent in children:
        return "fork", f"{children[signed.parent]} has the same parent"
    if previous is None:
        if first and signed.parent is not None:
            return "gap", f"its parent {signed.parent[:16]} is not given"
        return None
    if signed.name != previous.name:
        return "another-model", f"{signed.name!r} after {previous.name!r}"
    if signed.version <= previous.version:
        return "rollback", f"version {signed.version} after {previous.version}"
    if signed.parent != previous.id:
        return "swapped", f"its parent is {str(signed.parent)[:16]}, not {previous.id[:16]}"
    return None
