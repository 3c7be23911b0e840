"""Harvest now, decrypt later: is data secret for longer than its encryption will be?

Mosca's inequality by label: what is recorded today stays secret only if the lifetime of the data
plus the time to migrate ends before the horizon of the algorithm (Mosca, IEEE S&P 2018). The
horizons are the dates by which regimes stop to accept an algorithm: policy dates, not forecasts
of a machine.
"""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

from interlock.errors import InputError

__all__ = ["DataLabel", "Exposure", "assess", "horizons"]

_YEAR_DAYS = 365.25
_MAX_YEARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLabel:
    """A kind of data and what protects it.

    Attributes:
        name: the label.
        lifetime_years: for how long it has to stay secret, or the signature has to hold.
        algorithm: what protects it, by a name in the data file.
        migration_years: how long it takes to change that.
    """

    name: str
    lifetime_years: float
    algorithm: str
    migration_years: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The verdict on one label under one regime.

    Attributes:
        label: the label.
        regime: name of the regime.
        verdict: `ok`, `exposed`, `expires` or `not-allowed`.
        needed_until: date until which the protection has to hold.
        horizon: date until which the algorithm is accepted, or None.
        source: document of the horizon.
        fix: what to do.
    """

    label: str
    regime: str
    verdict: str
    needed_until: str
    horizon: str | None
    source: str
    fix: str

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


@cache
def horizons() -> dict[str, Any]:
    """Return the dated horizons with their sources."""
    raw = (importlib.resources.files("interlock.crypto") / "data" / "horizons.json").read_text()
    document: dict[str, Any] = json.loads(raw)
    return document


def assess(label: DataLabel, today: date, regimes: tuple[str, ...] = ()) -> list[Exposure]:
    """Return the verdict on a label under each regime (all of them by default).

    Example:
        >>> verdicts = assess(DataLabel(name="patient", lifetime_years=30, algorithm="rsa-2048"),
        ...                   date(2026, 11, 21), ("bsi",))
        >>> verdicts[0].verdict, verdicts[0].horizon
        ('exposed', '2031-12-31')
    """
    data = horizons()
    algorithm = data["algorithms"].get(label.algorithm)
    if algorithm is None:
        raise _bad("algorithm", label.algorithm, ", ".join(sorted(data["algorithms"])))
    for years in (label.lifetime_years, label.migration_years):
        if not 0 <= years <= _MAX_YEARS:
            raise _bad("number of years", str(years), f"0 to {_MAX_YEARS}")
    chosen = regimes or tuple(sorted(data["regimes"]))
    if unknown := [name for name in chosen if name not in data["regimes"]]:
        raise _bad("regime", ", ".join(unknown), ", ".join(sorted(data["regimes"])))
    return [_verdict(label, algorithm, today, name, data["regimes"][name]) for name in chosen]


def _verdict(
    label: DataLabel, algorithm: dict[str, Any], today: date, name: str, regime: dict[str, Any]
) -> Exposure:
    use = algorithm["use"]
    years = label.lifetime_years + label.migration_years
    days = timedelta(days=round(years * _YEAR_DAYS))
    needed = today + days if days < date.max - today else date.max
    horizon: str | None = None
    verdict, fix = "ok", "nothing"
    allowed = regime["allowed_kem" if use == "kem" else "allowed_signature"]
    if use != "symmetric":
        if not algorithm["quantum_safe"]:
            horizon = regime["key_establishment" if use == "kem" else "signature"]
        if horizon is not None and needed > date.fromisoformat(horizon):
            verdict = "exposed" if use == "kem" else "expires"
        elif allowed is not None and label.algorithm not in allowed:
            verdict, horizon = "not-allowed", regime["key_establishment"]
        if verdict != "ok":
            fix = _fix(use, verdict, allowed)
    return Exposure(
        label=label.name,
        regime=name,
        verdict=verdict,
        needed_until=needed.isoformat(),
        horizon=horizon,
        source=f"{regime['source']} ({regime['status']})",
        fix=fix,
    )


def _fix(use: str, verdict: str, allowed: list[str] | None) -> str:
    target = allowed[-1] if allowed else ("x25519-mlkem768" if use == "kem" else "ml-dsa-65")
    if use == "signature":
        return f"sign again with {target} beside the present signature before the horizon"
    advice = f"encrypt again to a {target} key and destroy the old copies"
    if verdict == "exposed":
        advice += "; what was already recorded in transit cannot be taken back"
    return advice


def _bad(what: str, got: str, expected: str) -> InputError:
    return InputError(
        f"no such {what}",
        code="exposure-input",
        got=got,
        expected=expected,
        fix="use a name of the data file, or add it there with its source",
    )
