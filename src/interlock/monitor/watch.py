"""A whole run of the monitor over frames: what the command and the report need."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.monitor.detectors.alarms import Alarm, AlarmKind, AlarmSettings, incidents
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.pipeline import AssetMonitor, attribute, second_look

__all__ = ["Note", "Watch", "Watcher", "simulated", "watch"]

KEEP_VALUES = 16_000_000
KEEP_ALARMS = 100_000
CONTEXT_ROWS = 4096
INCIDENT_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the window of an alarm shows: shares of its score, and Sub-PCA's second look.

    `look` is None after the first alarm of an incident, or with too few rows before it.
    """

    shares: list[tuple[str, float]]
    look: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a run saw. `values` and `e_process` are the last rows kept for the report.

    `values` lacks `reference`, as frames do. A shift alarms at an e-process of `alarm_level`.
    `unscored` rows were too few to look at; unless `began`, all of them were too few for alarms on
    shifts.
    """

    spec: StreamSpec
    rows: int
    alarms: list[Alarm]
    notes: list[Note]
    first_row: int
    values: npt.NDArray[np.float32]
    e_process: npt.NDArray[np.float64]
    alarm_level: float
    reference: npt.NDArray[np.float64]
    unscored: int
    began: bool

    @property
    def attributions(self) -> list[list[tuple[str, float]]]:
        """For each alarm, the channels that weigh most, with their shares."""
        return [n.shares for n in self.notes]

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


def _merged(shares: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return shares with those of one name added up: in blocks a channel has two features."""
    total: dict[str, float] = {}
    for name, share in shares:
        total[name] = total.get(name, 0.0) + share
    return sorted(total.items(), key=lambda item: -item[1])


class Watcher:
    """Watches one stream, frame by frame, in bounded memory.

    Args:
        spec: the stream.
        settings: the alarm budget.
        block: rows a block; 1 takes each row to the alarms.
        keep_values: samples kept for the report.
        scorer: a fused kernel learnt before, for blocks.
    """

    def __init__(
        self,
        spec: StreamSpec,
        *,
        settings: AlarmSettings | None = None,
        block: int = 1,
        keep_values: int | None = None,
        scorer: FusedScorer | None = None,
    ) -> None:
        self.spec = spec
        self.monitor = AssetMonitor(
            len(spec.channels), settings=settings, block=block, scorer=scorer
        )
        self._keep_rows = (keep_values or KEEP_VALUES) // len(spec.channels)
        self.rows = self._kept_rows = 0
        self.recent = np.empty((0, len(spec.channels)), np.float32)
        self._kept: collections.deque[npt.NDArray[np.float32]] = collections.deque()
        self._traces: collections.deque[npt.NDArray[np.float64]] = collections.deque()
        self.alarms: collections.deque[Alarm] = collections.deque(maxlen=KEEP_ALARMS)
        self.notes: collections.deque[Note] = collections.deque(maxlen=KEEP_ALARMS)
        self._looked = -CONTEXT_ROWS
        self.reference = np.zeros(len(spec.channels))

    def name(self, channel: int) -> str:
        """Return a channel's name; `several` where no single one weighs most."""
        return self.spec.channels[channel] if channel >= 0 else "several"

    def update(self, frame: Frame) -> list[tuple[Alarm, Note]]:
        """Take a frame; return its alarms, each with what its window shows."""
        if self.monitor.block == 1:  # blocks are for fast streams: one more look would cost there
            frame = frame.known()
        if frame.reference is not None:
            self.reference = np.nan_to_num(frame.reference)
        found = self._noted(self.monitor.update(frame.values, keep_trace=True), frame.values)
        self.alarms.extend(a for a, _ in found)
        self.notes.extend(n for _, n in found)
        self.rows += len(frame)
        self.recent = np.concatenate([self.recent, frame.values])[-CONTEXT_ROWS:]
        self._kept.append(frame.values)
        self._traces.append(self.monitor.trace)
        self._kept_rows += len(frame)
        while len(self._kept) > 1 and self._kept_rows > self._keep_rows:
            self._kept_rows -= len(self._kept.popleft())
            self._traces.popleft()
        return found

    def _noted(
        self, alarms: list[Alarm], values: npt.NDArray[np.float32]
    ) -> list[tuple[Alarm, Note]]:
        """Return alarms, each with what its window shows; `values` are the rows just taken."""
        found = []
        for alarm in alarms:
            at = alarm.row - self.rows
            past = np.concatenate([self.recent, values[: max(at, 0)]])[-CONTEXT_ROWS:]
            here = values[at] if 0 <= at < len(values) else past[-1]
            # One second look an incident: the alarms that follow have one cause with the first.
            first = alarm.row - self._looked > INCIDENT_ROWS
            self._looked = alarm.row
            look = second_look(np.vstack([past, here])) if first else None
            # A frozen or missing channel is its own cause; its values say nothing.
            silent = alarm.kind in (AlarmKind.GAP, AlarmKind.STALE)
            names = self.spec.channels
            if alarm.kind is AlarmKind.SHIFT:  # many rows made it: the last alone would mislead
                shares = _merged([(self.name(c), part) for c, part in alarm.parts])
            else:
                shares = [(names[alarm.channel], 1.0)] if silent else _shares(past, here, names)
            found.append((alarm, Note(shares=shares, look=None if silent else look)))
        return found

    def finish(self) -> list[tuple[Alarm, Note]]:
        """Return the alarms of the last rows, less than a block; nothing more comes."""
        found = self._noted(self.monitor.finish(keep_trace=True), self.recent[:0])
        self.alarms.extend(a for a, _ in found)
        self.notes.extend(n for _, n in found)
        self._traces.append(self.monitor.trace)
        return found

    def seen(self) -> Watch:
        """Return what the run saw so far."""
        return Watch(
            spec=self.spec,
            rows=self.rows,
            alarms=list(self.alarms),
            notes=list(self.notes),
            first_row=self.rows - self._kept_rows,
            values=np.concatenate([self.recent[:0], *self._kept]),
            e_process=np.concatenate([np.empty(0), *self._traces]),
            alarm_level=self.monitor.alarm_level,
            reference=self.reference,
            unscored=self.monitor.unscored,
            began=self.monitor.began,
        )


def watch(
    frames: Iterable[Frame],
    *,
    settings: AlarmSettings | None = None,
    block: int = 1,
    on_batch: Callable[[Watcher, list[tuple[Alarm, Note]]], None] | None = None,
    make: Callable[..., Watcher] | None = None,
    learnt: Callable[[Frame], FusedScorer] | None = None,
) -> Watch | None:
    """Score frames of one stream; None when there were none.

    Memory is bounded: at most the last 16 million values are kept for the report. `make` stands in
    for `Watcher`, with the same arguments; `learnt` gives a released detector for the first frame.
    """
    watcher: Watcher | None = None
    for frame in frames:
        if watcher is None:
            scorer = learnt(frame) if learnt else None
            made = make or Watcher
            watcher = made(frame.spec, settings=settings, block=block, scorer=scorer)
        found = watcher.update(frame)
        if on_batch:
            on_batch(watcher, found)
    if watcher is None:
        return None
    found = watcher.finish()
    if on_batch and found:
        on_batch(watcher, found)
    return watcher.seen()


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
