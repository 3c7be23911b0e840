"""Access analytics with a record: profiles and privacy budgets in the ledger, standings in a store.

A profile is used only if the newest ledger entry about profiles names its hash. A release spends
its budget in the ledger before any count leaves, so a restart, a second process or a crash cannot
spend it twice. A standing asks for step-up or hold until it expires; none grants.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from interlock.crypto.files import locked, read_private, write_private
from interlock.errors import InputError, IntegrityError
from interlock.ledger import Ledger
from interlock.ledger.entry import HeaderValue
from interlock.monitor.access import (
    LEAST_EPSILON,
    AccessProfile,
    AuditEvent,
    PrivateRelease,
    Tighten,
    pseudonym,
)
from interlock.monitor.store import MonitorStore

__all__ = ["AccessWatch", "LedgeredRelease", "pseudonym_key", "read_events"]

PROFILE, RELEASE = "access-profile", "privacy-release"
MICRO = 1_000_000
MAX_T_S = 1e12  # seconds; no clock reads more
MAX_TOTAL = 1e6  # epsilon beyond this protects nobody


@lru_cache(maxsize=16)
def pseudonym_key(home: Path) -> bytes:
    """Return the home's key for pseudonyms, made on first use."""
    path = home / "access-pseudonyms.key"
    if (known := read_private(path)) is not None:
        return known
    with locked(home / "access-pseudonyms.lock"):
        found = read_private(path)
        if found is None:
            found = secrets.token_bytes(32)
            write_private(path, found)
    return found


def read_events(path: Path, key: bytes) -> list[AuditEvent]:
    """Read audit events, one JSON object a line; names become pseudonyms at once.

    Raises:
        InputError: a line is no audit event.
    """
    events = []
    fields = ("t_s", "principal", "role", "action", "target", "allowed")
    try:
        with path.open(encoding="utf-8") as source:
            for line in source:
                row = json.loads(line)
                values = {f: row[f] for f in fields}
                values["t_s"] = float(values["t_s"])
                values["principal"] = pseudonym(key, str(values["principal"]))
                if not abs(values["t_s"]) < MAX_T_S or not isinstance(values["allowed"], bool):
                    raise ValueError("t_s is no time, or allowed no truth value")
                events.append(AuditEvent(**values))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the audit log {path.name} cannot be read",
            code="monitor-audit-log",
            got=f"line {len(events) + 1}: {type(error).__name__}: {error}"[:300],
            expected="one JSON object a line with " + ", ".join(fields),
            fix="check the file",
        ) from error
    return events


class AccessWatch:
    """Profiles and standings of one home.

    Args:
        home: folder of ledger, state and keys.
        ledger: where profiles are recorded.
    """

    def __init__(self, home: Path, ledger: Ledger) -> None:
        self._path = home / "access-profile.json"
        self._ledger = ledger
        self._store = MonitorStore(home)

    def learn(self, events: list[AuditEvent], *, false_positive: float = 0.01) -> AccessProfile:
        """Learn the roles' aggregate profiles and record their hash."""
        profile = AccessProfile(false_positive=false_positive).fit(events)
        raw = json.dumps(profile.to_json(), sort_keys=True).encode()
        header: dict[str, HeaderValue] = {
            "sha256": hashlib.sha256(raw).hexdigest(),
            "roles": len(profile.roles),
        }
        self._ledger.append(PROFILE, header, {"roles": sorted(profile.roles)}).wait()
        write_private(self._path, raw)
        return profile

    def load(self) -> AccessProfile:
        """Return the profile in force.

        Raises:
            IntegrityError: it is not the one the ledger names last.
        """
        raw = read_private(self._path)
        newest: Any = None
        for entry in self._ledger.entries(PROFILE):
            newest = entry.header["sha256"]
        if raw is None or hashlib.sha256(raw).hexdigest() != newest:
            raise IntegrityError(
                "the access profile is not the one on record",
                code="monitor-access-profile",
                got="no profile" if raw is None else hashlib.sha256(raw).hexdigest(),
                expected=str(newest or "a recorded profile"),
                fix="interlock monitor access learn EVENTS",
            )
        return AccessProfile.from_json(json.loads(raw))

    def judge(self, events: list[AuditEvent]) -> dict[tuple[str, int], tuple[Tighten, str]]:
        """Judge principal-hours; what asks for more is kept until the hour after has passed."""
        found = self.load().judge(events)
        self._store.add_standings(
            [
                (who, (hour + 2) * 3600.0, int(tighten), field)
                for (who, hour), (tighten, field) in found.items()
                if tighten is not Tighten.NONE
            ]
        )
        return found


class LedgeredRelease:
    """Counts with noise whose budget is what the ledger says is left.

    Args:
        home: its folder holds the lock that makes spending one at a time.
        ledger: where each release is recorded before it leaves.
        name: of the budget, for instance `access-2026`.
        epsilon: the whole budget.
        rng: of the noise.
    """

    def __init__(
        self,
        home: Path,
        ledger: Ledger,
        *,
        name: str,
        epsilon: float,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self._lock = home / "privacy-release.lock"
        self._ledger, self._name, self._epsilon = ledger, name, epsilon
        self._rng = np.random.default_rng(rng)

    def _recorded(self, field: str) -> list[int]:
        """Return a field, in millionths, of each release out of this budget."""
        return [
            int(e.header[field] or 0)
            for e in self._ledger.entries(RELEASE)
            if e.header["budget"] == self._name and field in e.header
        ]

    @property
    def total(self) -> float:
        """The whole budget: the least it was ever said to be, so that it cannot be raised."""
        return min([self._epsilon, *(t / MICRO for t in self._recorded("total_micro"))])

    @property
    def spent(self) -> float:
        """What the ledger says was spent of this budget."""
        return sum(self._recorded("epsilon_micro")) / MICRO

    def counts(self, values: Iterable[tuple[str, int]], *, epsilon: float) -> dict[str, int]:
        """Return name -> count with noise; each spends `epsilon`, recorded first.

        Raises:
            DeniedError: the budget does not hold all of them; nothing is spent.
            InputError: the whole budget is no number above 0.
        """
        rows = list(values)
        # rounded up: what is recorded is never less than what is spent
        micro = math.ceil(epsilon * MICRO * len(rows)) if math.isfinite(epsilon) else -1
        with locked(self._lock):
            total = self.total
            if not 0 < total <= MAX_TOTAL:  # NaN neither
                raise InputError(
                    "a privacy budget has no such total",
                    code="monitor-privacy-total",
                    got=str(total),
                    expected=f"an epsilon above 0, at most {MAX_TOTAL:g}",
                    fix="give the epsilon of the whole budget",
                )
            release = PrivateRelease(epsilon=total, rng=self._rng)
            release.spent = self.spent
            release.require(micro / MICRO if epsilon >= LEAST_EPSILON else -1.0)
            header: dict[str, HeaderValue] = {
                "budget": self._name,
                "epsilon_micro": micro,
                "total_micro": round(total * MICRO),
                "counts": len(rows),
            }
            self._ledger.append(RELEASE, header, {"names": [n for n, _ in rows]}).wait()
            release = PrivateRelease(epsilon=math.inf, rng=self._rng)
            return {name: release.count(value, epsilon=epsilon) for name, value in rows}
