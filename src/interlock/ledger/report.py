"""What an audit of a ledger found, each fault by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from interlock.ledger.clock import DRIFT_NS
from interlock.ledger.entry import format_time, parse_time
from interlock.ledger.tree import EMPTY_ROOT

__all__ = ["Fault", "Report"]

#: After this many faults the rest is only counted.
_MOST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: `edited`, `deleted`, `newest-deleted`, `reordered`, `duplicated`, `rewritten`,
            `forked`, `swapped`, `clock-back`, `checkpoint-forged`, `rotation-forged`,
            `unsigned`, `unwitnessed`, `unstamped`, `stamp-forged`, `renumbered`, `planted`,
            `future-format`, `clock-ahead`, `damaged` or `unreadable`.
        where: the entry, head or file.
        got: what was found.
        expected: what would have been right.
    """

    kind: str
    where: str
    got: str
    expected: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What an audit found.

    Attributes:
        origin: the ledger.
        size: number of entries found.
        root: Merkle root over them.
        signed_size: entries covered by the newest valid signed head.
        unsigned: number of newest entries that no signed head covers.
        checkpoints: number of valid signed heads.
        not_judged: number of heads from before the keys given came into force.
        faults: what is wrong, in the order found.
        more_faults: how many further faults were only counted.
        notes: what is not wrong but limits what the check can say.
        times: size of a head -> time of the newest entry under it.
    """

    origin: str = ""
    size: int = 0
    root: str = EMPTY_ROOT.hex()
    signed_size: int = 0
    unsigned: int = 0
    checkpoints: int = 0
    not_judged: int = 0
    faults: list[Fault] = field(default_factory=list)
    more_faults: int = 0
    notes: list[str] = field(default_factory=list)
    times: dict[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"ok": self.ok, **asdict(self)}

    def hold_clock(self, size: int, seen_ns: int, who: str) -> None:
        """Note a fault if entries are later than when somebody else had seen a head over them."""
        time, where = self.times.get(size), f"the first {size} entries"
        if not time:
            return
        try:
            late = parse_time(time) > seen_ns + DRIFT_NS
        except ValueError:
            self.add("unreadable", where, time, "a time")
            return
        if late:
            expected = f"at most an hour after {format_time(seen_ns)}, when {who} saw them"
            self.add("clock-ahead", where, time, expected)

    def add(self, kind: str, where: str, got: str, expected: str) -> None:
        """Note a fault."""
        if len(self.faults) < _MOST:
            self.faults.append(Fault(kind=kind, where=where, got=got, expected=expected))
        else:
            self.more_faults += 1
