"""A whole run of the monitor over frames: what the command and the report need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.monitor.detectors.alarms import Alarm, AlarmSettings, incidents
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.pipeline import AssetMonitor, attribute

__all__ = ["Watch", "simulated", "watch"]

KEEP_VALUES = 16_000_000
CONTEXT_ROWS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a run saw. `values` and `e_process` are the last rows kept for the report."""

    spec: StreamSpec
    rows: int
    alarms: list[Alarm]
    attributions: list[list[tuple[str, float]]]
    first_row: int
    values: npt.NDArray[np.float32]
    e_process: npt.NDArray[np.float64]

    @property
    def incidents(self) -> list[list[Alarm]]:
        """Alarms of one cause together."""
        return incidents(self.alarms)


def _shares(
    recent: npt.NDArray[np.float32], row: npt.NDArray[np.float32], names: tuple[str, ...]
) -> list[tuple[str, float]]:
    """Return the three channels that weigh most in the row's Mahalanobis score."""
    data = recent[np.isfinite(recent).all(axis=1)].astype(np.float64)
    if len(data) < 2 * len(names) + 8:
        return []
    centre, spread = data.mean(axis=0), data.std(axis=0) + 1e-12
    z: npt.NDArray[np.float64] = np.nan_to_num((row - centre) / spread).astype(np.float64)
    table = (data - centre) / spread
    cor = table.T @ table / len(table)
    form: npt.NDArray[np.float64] = np.linalg.pinv(cor + 1e-6 * np.eye(len(z))).astype(np.float64)
    parts = np.maximum(attribute(z, form), 0.0)
    total = float(parts.sum())
    order = np.argsort(parts)[::-1][:3]
    return [(names[k], float(parts[k]) / total) for k in order] if total > 0 else []


def watch(
    frames: Iterable[Frame],
    *,
    settings: AlarmSettings | None = None,
    block: int = 1,
    on_batch: Callable[[int, list[Alarm]], None] | None = None,
) -> Watch | None:
    """Score frames of one stream; None when there were none.

    Memory is bounded: at most the last 16 million values are kept for the report.
    """
    monitor: AssetMonitor | None = None
    spec: StreamSpec | None = None
    alarms: list[Alarm] = []
    shares: list[list[tuple[str, float]]] = []
    kept: list[npt.NDArray[np.float32]] = []
    traces: list[npt.NDArray[np.float64]] = []
    kept_rows = rows = 0
    recent = np.empty((0, 0), np.float32)
    for frame in frames:
        if monitor is None:
            spec = frame.spec
            monitor = AssetMonitor(len(spec.channels), settings=settings, block=block)
            recent = np.empty((0, len(spec.channels)), np.float32)
        found = monitor.update(frame.values, keep_trace=True)
        for alarm in found:
            at = alarm.row - rows
            past = np.concatenate([recent, frame.values[: max(at, 0)]])[-CONTEXT_ROWS:]
            here = frame.values[at] if 0 <= at < len(frame) else past[-1]
            shares.append(_shares(past, here, frame.spec.channels))
        alarms += found
        rows += len(frame)
        recent = np.concatenate([recent, frame.values])[-CONTEXT_ROWS:]
        kept.append(frame.values)
        traces.append(np.repeat(monitor.bank.trace, block))
        kept_rows += len(frame)
        while len(kept) > 1 and kept_rows * frame.values.shape[1] > KEEP_VALUES:
            kept_rows -= len(kept.pop(0))
            traces.pop(0)
        if on_batch:
            on_batch(rows, found)
    if spec is None:
        return None
    return Watch(
        spec=spec,
        rows=rows,
        alarms=alarms,
        attributions=shares,
        first_row=rows - kept_rows,
        values=np.concatenate(kept),
        e_process=np.concatenate(traces),
    )


def simulated(rows: int = 60_000, *, seed: int = 0, channels: int = 4) -> Iterator[Frame]:
    """Yield frames of a simulated device with one fault of each of five kinds."""
    from interlock.monitor.simulator import inject, regime

    rng = np.random.default_rng(seed)
    data = np.stack([regime("slow-drift", rows, rng=rng) for _ in range(channels)], axis=1)
    for k, kind in enumerate(("shift", "spike", "frozen", "noise", "ramp")):
        start = int(rows * (0.35 + 0.12 * k))
        data, _ = inject(data, kind, start, channels=(k % channels,), size=3.0, rng=rng)
    spec = StreamSpec(
        source="simulated-device",
        kind=StreamKind.CALIBRATION,
        channels=tuple(f"q{k}.t1_us" for k in range(channels)),
        period_ns=1_000_000,
        origin=Origin.SIMULATED,
    )
    for start in range(0, rows, 4096):
        part = data[start : start + 4096]
        yield Frame.of(spec, part, start_ns=start * spec.period_ns, first_seq=start)
