"""Alerts for `triage`, from a file of them or from the alarms that a home has on record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from interlock.errors import InputError
from interlock.monitor.documents import read_document
from interlock.monitor.store import MonitorStore
from interlock.monitor.triage import Alert

__all__ = ["ASSETS", "Asset", "read_alerts", "read_assets", "recorded_alerts"]

#: Where a home keeps what its devices are worth.
ASSETS = "triage.yaml"
MAX_BYTES, MAX_ALERTS = 64 << 20, 200_000


class Asset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an alarm of a device may cost. The defaults are the worst, so that nothing is hidden.

    Attributes:
        infidelity: predicted loss of fidelity of a typical job, by kind of alarm; `any` for others.
        jobs: queued jobs that use the device.
        criticality: of the device to the business, 0 to 1.
    """

    infidelity: dict[str, float] = {}
    jobs: int = 1
    criticality: float = 1.0

    def loss(self, kind: str) -> float:
        """Return the predicted loss for a kind of alarm; 1 where nobody said."""
        return self.infidelity.get(kind, self.infidelity.get("any", 1.0))


def _checked(alert: Alert) -> Alert:
    bounded = 0 <= alert.infidelity <= 1 and 0 <= alert.criticality <= 1 and alert.jobs >= 0
    if not bounded or not math.isfinite(alert.t_s):
        raise ValueError(
            "infidelity and criticality lie between 0 and 1, jobs from 0, t_s is a time"
        )
    return alert


def read_assets(path: Path) -> dict[str, Asset]:
    """Read what devices are worth, YAML or JSON: `assets: {NAME: {infidelity, jobs, criticality}}`.

    Raises:
        InputError: it is not such a file.
    """
    try:
        found: dict[str, Asset] = read_document(path, dict[str, dict[str, Asset]])["assets"]
        for name, a in found.items():
            for loss in (1.0, *a.infidelity.values()):
                _checked(Alert(t_s=0.0, asset=name, kind="", infidelity=loss, jobs=a.jobs,
                               criticality=a.criticality))  # fmt: skip
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"the assets file {path.name} cannot be used",
            code="monitor-assets-file",
            got=f"{type(error).__name__}: {error}"[:300],
            expected="assets: {NAME: {infidelity: {KIND: 0 to 1}, jobs: N, criticality: 0 to 1}}",
            fix="mend the file; docs/how-to/watch-telemetry.md shows one",
        ) from error
    return found


def read_alerts(path: Path) -> list[Alert]:
    """Read alerts, one JSON object a line: t_s, asset, kind, infidelity, jobs, criticality.

    `shares` (name -> weight) says what weighed most, where somebody knows.

    Raises:
        InputError: a line is no alert, or there are too many.
    """
    alerts: list[Alert] = []
    decoder = msgspec.json.Decoder(Alert)
    try:
        with path.open("rb") as source:  # a pipe will do
            data = source.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        for line in data.splitlines():
            if line.strip():
                alerts.append(_checked(decoder.decode(line)))
            if len(alerts) > MAX_ALERTS:
                raise ValueError(f"more than {MAX_ALERTS} alerts")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the alerts of {path.name} cannot be read",
            code="monitor-alerts",
            got=f"alert {len(alerts) + 1}: {type(error).__name__}: {error}"[:300],
            expected="one JSON object a line: t_s, asset, kind, infidelity, jobs, criticality",
            fix="check the file",
        ) from error
    return alerts


def recorded_alerts(
    store: MonitorStore,
    assets: Mapping[str, Asset],
    *,
    since_s: float = 0.0,
    devices: Iterable[str] | None = None,
) -> list[Alert]:
    """Return the recorded alarms as alerts, each worth what `assets` say of its device.

    Args:
        store: of a home.
        assets: by device; one that is not named counts as the worst.
        since_s: earliest alarm, seconds since the epoch.
        devices: these alone; all by default.
    """
    wanted = None if devices is None else set(devices)
    alerts = []
    for source in store.sources():
        if wanted is not None and source.device not in wanted:
            continue
        asset = assets.get(source.device, Asset())
        alerts += [
            Alert(t_s=a.at_s, asset=source.device, kind=a.kind, infidelity=asset.loss(a.kind),
                  jobs=asset.jobs, criticality=asset.criticality,
                  shares={f"{source.source}/{n}": v for n, v in a.shares.items()})
            for a in store.alarms(source.source, since_s=since_s, limit=2000)
        ]  # fmt: skip
    return alerts
