"""Watching with a record: alarms, strips and the detector's own health, kept for others to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.monitor.checkup import Checkup
from interlock.monitor.detectors.alarms import Alarm, AlarmSettings
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.frames import Frame, StreamSpec
from interlock.monitor.ingest.otlp import LogEvent
from interlock.monitor.ingest.receiver import Receiver
from interlock.monitor.ingest.source import Account
from interlock.monitor.ingest.sources import Source
from interlock.monitor.store import KEEP_STRIPS, AlarmRow, MonitorStore, SourceState, Strip
from interlock.monitor.watch import Note, Watcher

__all__ = ["LiveWatch", "Recorder"]

KEEP_VALUES = 1 << 18
STRIP_ROWS = 64
WRITE_EVERY_S = 1.0


class Recorder(Watcher):
    """A watcher that checks its own detector and keeps what it sees in the store.

    Args:
        spec: the stream.
        store: where alarms, strips and health are kept.
        device: the device the alarms concern; the source by default.
        account: what the source sent, if somebody counts it.
        clock: seconds since the epoch.
        scorer: a fused kernel learnt before, for blocks.
    """

    def __init__(
        self,
        spec: StreamSpec,
        *,
        store: MonitorStore,
        device: str = "",
        settings: AlarmSettings | None = None,
        block: int = 1,
        keep_values: int | None = None,
        account: Account | None = None,
        clock: Callable[[], float] = time.time,
        scorer: FusedScorer | None = None,
    ) -> None:
        super().__init__(
            spec, settings=settings, block=block, keep_values=keep_values, scorer=scorer
        )
        self.account = account
        self._store, self._device, self._clock = store, device or spec.source, clock
        self._checkup = Checkup(self.monitor)
        self._alarms: list[AlarmRow] = []
        self._strips: list[Strip] = []
        self._total = 0
        self._written_s = -WRITE_EVERY_S
        self._rest = np.empty((0, len(spec.channels)), np.float32)
        self._trace = np.empty(0)

    def update(self, frame: Frame) -> list[tuple[Alarm, Note]]:
        """Take a frame; return its alarms. What is new is written at most once a second."""
        frame = frame.known() if self.monitor.block == 1 else frame
        found, now = super().update(frame), self._clock()
        self._checkup.update(frame.values, [a for a, _ in found], now_s=now)
        self._keep(found, now)
        rows = np.concatenate([self._rest, frame.values])
        self._cut(rows, np.concatenate([self._trace, self.monitor.trace]), STRIP_ROWS, now)
        if found or now - self._written_s >= WRITE_EVERY_S:
            self.write()
        return found

    def _keep(self, found: list[tuple[Alarm, Note]], now: float) -> None:
        self._total += len(found)
        for alarm, note in found:
            self._alarms.append(
                AlarmRow(
                    source=self.spec.source,
                    row=alarm.row,
                    kind=alarm.kind.value,
                    channel=self.name(alarm.channel),
                    evidence=alarm.evidence,
                    shares=dict(note.shares),
                    look=note.look,
                    at_s=now,
                )
            )

    def _cut(
        self,
        rows: npt.NDArray[np.float32],
        trace: npt.NDArray[np.float64],
        least: int,
        now: float,
    ) -> None:
        """Make strips of the last rows; what is too short for one waits."""
        size = max(least, -(-len(rows) // KEEP_STRIPS))
        first = self.rows - len(rows)
        for at in range(0, len(rows) - size + 1, size):
            part = rows[at : at + size]
            known = np.isfinite(part)
            low = np.where(known, part, np.inf).min(axis=0) + self.reference
            high = np.where(known, part, -np.inf).max(axis=0) + self.reference
            self._strips.append(
                Strip(
                    row=first + at,
                    at_s=now,
                    low=tuple(float(v) if np.isfinite(v) else None for v in low),
                    high=tuple(float(v) if np.isfinite(v) else None for v in high),
                    e_log10=float(np.log10(trace[at : at + size].max(initial=1e-3))),
                )
            )
        keep = len(rows) // size * size
        self._rest, self._trace = rows[keep:], trace[keep:]

    def state(self) -> SourceState:
        """Return how source and detector are now."""
        health, reasons = self._checkup.health(now_s=self._clock())
        account = self.account or Account(rows=self.rows)
        return SourceState(
            source=self.spec.source,
            device=self._device,
            kind=self.spec.kind.value,
            origin=self.spec.origin.value,
            channels=self.spec.channels,
            rows=account.rows,
            missing=account.missing,
            duplicates=account.duplicates,
            refused=account.refused,
            alarms=self._total,
            skew_ms=account.skew_ns / 1e6,
            health=health.value,
            reasons=reasons,
            checks=dict(self._checkup.checks),
            seen_s=self._checkup.seen_s,
        )

    def finish(self) -> list[tuple[Alarm, Note]]:
        """Return the alarms of the last rows and write what is new, to the last row."""
        found = super().finish()
        self._keep(found, self._clock())
        if len(self._rest):
            trace = np.concatenate([self._trace, self.monitor.trace])
            self._cut(self._rest, trace, len(self._rest), self._clock())
        self.write()
        return found

    def write(self) -> None:
        """Write what is new."""
        self._store.write(self.state(), self._alarms, self._strips)
        self._alarms, self._strips, self._written_s = [], [], self._clock()


class LiveWatch:
    """Watches every source of a listener.

    Args:
        sources: who may send.
        store: where what is seen is kept.
        settings: the alarm budget of each source.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        store: MonitorStore,
        settings: AlarmSettings | None = None,
    ) -> None:
        self.watchers = {
            s.source: Recorder(
                s.spec(), store=store, device=s.device, settings=settings, keep_values=KEEP_VALUES
            )
            for s in sources
        }

    def run(
        self,
        receiver: Receiver,
        *,
        rows: int | None = None,
        on_events: Callable[[list[tuple[str, LogEvent]]], None] | None = None,
        on_rows: Callable[[Recorder], None] | None = None,
    ) -> Iterator[tuple[str, Alarm, Note]]:
        """Yield alarms until `rows` rows were watched; for ever without.

        Log records go to `on_events`; without it they are dropped. `on_rows` is told after each
        source's rows, for a view of them.
        """
        done = 0
        for name, watcher in self.watchers.items():
            watcher.account = receiver.streams[name].account
        while rows is None or done < rows:
            events = receiver.take_events()
            if events and on_events is not None:
                on_events(events)
            frame = receiver.take()
            if frame is None:
                receiver.ready.wait(0.5)
                continue
            done += len(frame)
            watcher = self.watchers[frame.spec.source]
            for alarm, note in watcher.update(frame):
                yield frame.spec.source, alarm, note
            if on_rows is not None:
                on_rows(watcher)

    def finish(
        self,
        receiver: Receiver,
        *,
        on_events: Callable[[list[tuple[str, LogEvent]]], None] | None = None,
    ) -> Iterator[tuple[str, Alarm, Note]]:
        """Yield the alarms of what was taken and not yet watched, once nothing more comes."""
        events = receiver.take_events()
        if events and on_events is not None:
            on_events(events)
        for last in (False, True):
            if last:
                receiver.flush()  # into a buffer that is empty by now
            for frame in iter(receiver.take, None):
                for alarm, note in self.watchers[frame.spec.source].update(frame):
                    yield frame.spec.source, alarm, note
        for name, watcher in self.watchers.items():
            for alarm, note in watcher.finish():
                yield name, alarm, note

    def accounts(self, receiver: Receiver) -> list[dict[str, Any]]:
        """Return what each source sent: rows, gaps, duplicates, refusals, clock, health."""
        found = []
        for name, stream in receiver.streams.items():
            state = self.watchers[name].state()
            found.append(
                {
                    "source": name,
                    "rows": state.rows,
                    "missing": state.missing,
                    "restarts": stream.account.restarts,
                    "duplicates": state.duplicates,
                    "refused": state.refused,
                    "unknown_series": stream.unknown,
                    "clock_skew_ms": round(state.skew_ms, 3),
                    "clock_steps": stream.account.clock_steps,
                    "alarms": state.alarms,
                    "health": state.health,
                }
            )
        return found
