"""Reconnaissance and misuse from audit events, on keyed pseudonyms; it can only tighten.

A principal's hour is described by a few counts and scored against its role's aggregate profile. No
profile holds a name. Released aggregates carry discrete Laplace noise and spend a budget; scoring
itself is local and exact, because noise on single users' counts ruins it.
"""

from __future__ import annotations

import enum
import hmac
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import DeniedError

__all__ = ["AccessProfile", "AuditEvent", "PrivateRelease", "Tighten", "describe", "pseudonym"]

Floats = npt.NDArray[np.float64]
#: Less tells nothing, and its noise does not fit a number.
LEAST_EPSILON = 1e-6
FIELDS = ("events", "denied share", "distinct targets", "new targets share", "reads share",
          "night share", "quota probes")  # fmt: skip


class Tighten(enum.IntEnum):
    """What analytics may ask for. There is no member that grants."""

    NONE = 0
    STEP_UP = 1
    HOLD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One audit event; `principal` is a pseudonym by the time it is stored."""

    t_s: float
    principal: str
    role: str
    action: str
    target: str
    allowed: bool


def pseudonym(key: bytes, principal: str) -> str:
    """Return a keyed pseudonym: the same person gives the same one, and only with the key.

    Example:
        >>> pseudonym(b"k" * 32, "ada") == pseudonym(b"k" * 32, "ada")
        True
    """
    return hmac.digest(key, b"interlock-access\x00" + principal.encode(), "sha256")[:12].hex()


def describe(events: list[AuditEvent], known: frozenset[str] = frozenset()) -> Floats:
    """Return the counts of `FIELDS` for one principal's events of one hour."""
    n = len(events)
    targets = {e.target for e in events}
    return np.array(
        [
            math.log1p(n),
            sum(not e.allowed for e in events) / n,
            math.log1p(len(targets)),
            len(targets - known) / len(targets),
            sum(e.action.startswith(("list", "get", "describe")) for e in events) / n,
            sum((e.t_s // 3600) % 24 < 5 for e in events) / n,
            math.log1p(sum(e.action.endswith("quota") for e in events)),
        ]
    )


def _hours(events: list[AuditEvent]) -> dict[tuple[str, str, int], list[AuditEvent]]:
    groups: dict[tuple[str, str, int], list[AuditEvent]] = defaultdict(list)
    for e in events:
        groups[e.role, e.principal, int(e.t_s // 3600)].append(e)
    return groups


class AccessProfile:
    """Aggregate profiles a role; no principal is in them.

    Args:
        false_positive: share of ordinary principal-hours that may be tightened.
    """

    def __init__(self, *, false_positive: float = 0.01) -> None:
        self._rate = false_positive
        self.roles: dict[str, dict[str, list[float]]] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        self.known: frozenset[str] = frozenset()

    def fit(self, events: list[AuditEvent]) -> AccessProfile:
        """Learn from ordinary events; half set the profile, half the limits."""
        counts: dict[str, int] = defaultdict(int)
        for e in events:
            counts[e.target] += 1
        self.known = frozenset(t for t, c in counts.items() if c >= 5)
        rows: dict[str, list[Floats]] = defaultdict(list)
        for (role, _, _), group in _hours(events).items():
            rows[role].append(describe(group, self.known))
        for role, table in rows.items():
            if len(table) < 40:
                continue
            data = np.array(table)
            first, second = data[::2], data[1::2]
            self.roles[role] = {
                "centre": first.mean(axis=0).tolist(),
                "spread": (first.std(axis=0) + 0.05).tolist(),
            }
            scores = np.sort([self._score(role, row) for row in second])
            top = float(np.quantile(scores, 1 - self._rate))
            self._limits[role] = (top, 2.0 * top)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the profile as plain values: aggregates of roles, no principal."""
        return {
            "rate": self._rate,
            "roles": self.roles,
            "limits": {role: list(pair) for role, pair in self._limits.items()},
            "known": sorted(self.known),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> AccessProfile:
        """Return the profile `to_json` wrote."""
        made = cls(false_positive=found["rate"])
        made.roles = found["roles"]
        made._limits = {role: (step, hold) for role, (step, hold) in found["limits"].items()}
        made.known = frozenset(found["known"])
        return made

    def _score(self, role: str, row: Floats) -> float:
        profile = self.roles[role]
        z = np.maximum((row - np.array(profile["centre"])) / np.array(profile["spread"]), 0.0)
        return float(np.sqrt((z * z).sum()))

    def judge(self, events: list[AuditEvent]) -> dict[tuple[str, int], tuple[Tighten, str]]:
        """Return (pseudonym, hour) -> what to ask for and the field that weighs most.

        A role without a profile asks for step-up: what is not known is not trusted more.
        """
        found: dict[tuple[str, int], tuple[Tighten, str]] = {}
        for (role, who, hour), group in _hours(events).items():
            if role not in self.roles:
                found[who, hour] = (Tighten.STEP_UP, "role without a profile")
                continue
            row = describe(group, self.known)
            score = self._score(role, row)
            step, hold = self._limits[role]
            profile = self.roles[role]
            z = (row - np.array(profile["centre"])) / np.array(profile["spread"])
            verdict = Tighten(int(score > step) + int(score > hold))
            found[who, hour] = (verdict, FIELDS[int(np.argmax(z))])
        return found


class PrivateRelease:
    """Counts with discrete Laplace noise, until the budget is spent.

    One principal changes a count by at most `per_principal`. `access_record.LedgeredRelease` keeps
    what is spent in the ledger; an exhausted budget denies.

    Example:
        >>> release = PrivateRelease(epsilon=1.0, rng=0)
        >>> isinstance(release.count(100, epsilon=0.5), int), release.spent
        (True, 0.5)
    """

    def __init__(
        self,
        *,
        epsilon: float,
        per_principal: int = 1,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.budget, self.spent = epsilon, 0.0
        self._per = per_principal
        self._rng = np.random.default_rng(rng)

    def count(self, value: int, *, epsilon: float) -> int:
        """Return the count with noise and spend `epsilon`.

        Raises:
            DeniedError: the budget does not hold this release.
        """
        self.require(epsilon)
        self.spent += epsilon
        q = 1.0 - math.exp(-epsilon / self._per)
        noise = int(self._rng.geometric(q)) - int(self._rng.geometric(q))
        return value + noise

    def require(self, epsilon: float) -> None:
        """Raise unless the budget holds this much more.

        Raises:
            DeniedError: it does not.
        """
        if not (
            epsilon >= LEAST_EPSILON and self.spent + epsilon <= self.budget + 1e-12
        ):  # NaN neither
            raise DeniedError(
                "the privacy budget does not hold this release",
                code="monitor-privacy-budget",
                got=f"epsilon {epsilon} after {self.spent} of {self.budget}",
                expected=f"an epsilon of at least {LEAST_EPSILON:g} within what is left",
                fix="release fewer aggregates, or wait for the next budget",
            )
