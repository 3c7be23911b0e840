"""Running somebody's program with every quantum call guarded, and reading what it tells."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from interlock.errors import InputError, InterlockError, StorageError, UsageError
from interlock.guard import events
from interlock.guard.answers import silent
from interlock.guard.events import read_event
from interlock.guard.leftovers import RunFolder
from interlock.guard.record import Unfinished, recorded
from interlock.guard.signals import family
from interlock.types import Mode

__all__ = ["Program", "Tally", "follow", "recorded_so_far", "unmoved", "writable"]

POLL_S = 0.05
#: Characters kept of a line that does not end.
LONGEST = 1 << 20


@dataclass(slots=True)
class Tally:
    """Counts of a run, and what was saved by stopping jobs before the device.

    Attributes:
        outcomes: outcome -> number of jobs.
        within: jobs that ran within another, as when a guarded object runs in a guarded program.
            What they took and saved is counted, and not once more for the one around them.
        stopped: jobs that never reached the device.
        saved_shots: shots these would have taken.
        saved_usd: what these would have cost.
        shots: shots that did run.
        cost_usd: what they cost.
        seconds: total time of all jobs.
        execution_seconds: the part of it that the devices took.
        alarms: alarms raised, the last one of each kind.
        unguarded: submissions that went round the guard.
        receipts: receipt ids in order.
        loaded: whether the guard was loaded into the program at all.
        unreadable: event lines that nobody could read; the ledger has what they told of.
        unknown: event lines of jobs that the ledger does not have, or has with another outcome.
        unfinished: ids of jobs that began and have no end on record.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    within: int = 0
    stopped: int = 0
    saved_shots: int = 0
    saved_usd: float = 0.0
    shots: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    execution_seconds: float = 0.0
    alarms: dict[str, str] = field(default_factory=dict)
    unguarded: int = 0
    receipts: list[str] = field(default_factory=list)
    loaded: bool = False
    unreadable: int = 0
    unknown: int = 0
    unfinished: list[str] = field(default_factory=list)
    _lines: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _around: set[str] = field(default_factory=set)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one event."""
        if line["event"] == "unreadable":
            self.unreadable += 1
            return
        self.loaded = True
        if line["event"] == "loaded":
            return
        if line["event"] == "unguarded":
            self.unguarded += 1
            return
        if line["receipt"] in self._lines:
            return
        self._lines[line["receipt"]] = line
        self.outcomes[line["outcome"]] = self.outcomes.get(line["outcome"], 0) + 1
        self.receipts.append(line["receipt"])
        self.alarms |= {a.partition(":")[0]: a for a in line.get("alarms", ())}
        if line["within"]:
            self.within += 1
            self._around.add(line["within"])
        else:
            self.seconds += line["seconds"]
        if line["job"] in self._around:
            return
        self.execution_seconds += line["execution_seconds"]
        if line["executed"]:
            self.shots += line["shots"]
            self.cost_usd += line["cost_usd"]
        else:
            self.stopped += 1
            self.saved_shots += line["shots"]
            self.saved_usd += line["cost_usd"]

    def settled(self, home: Path, start: int) -> Tally:
        """Return the count held against the ledger: the program could have told anything.

        Args:
            home: folder of the ledger.
            start: entries it had before the program began.
        """
        held = Tally(unguarded=self.unguarded, loaded=self.loaded, unreadable=self.unreadable)
        watch, outcomes = Unfinished(), {}
        try:
            with recorded(home) as ledger:
                for entry in watch.passing(ledger.entries(start=start)):
                    outcomes[entry.id] = entry.header.get("outcome")
        except InputError:
            pass  # no ledger: nothing was recorded
        except InterlockError as error:
            sys.stderr.write(f"interlock: the ledger cannot be read: {error.message}\n")
            return self
        for receipt, line in self._lines.items():
            if outcomes.get(receipt) == line["outcome"]:
                held.add(line)
            else:
                held.unknown += 1
        held.unfinished = watch.jobs
        return held

    @property
    def jobs(self) -> int:
        """All jobs."""
        return sum(self.outcomes.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the tally as plain values."""
        return {
            "event": "summary",
            "jobs": self.jobs,
            "outcomes": self.outcomes,
            "within": self.within,
            "loaded": self.loaded,
            "unreadable": self.unreadable,
            "unknown": self.unknown,
            "unfinished": self.unfinished,
            "unguarded": self.unguarded,
            "alarms": list(self.alarms.values()),
            "shots": self.shots,
            "cost_usd": round(self.cost_usd, 6),
            "saved": {
                "jobs": self.stopped,
                "shots": self.saved_shots,
                "cost_usd": round(self.saved_usd, 6),
            },
            "seconds": round(self.seconds, 3),
            "execution_seconds": round(self.execution_seconds, 3),
        }


class Running(Protocol):
    """What `follow` needs of a process or a sandbox."""

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        ...


def recorded_so_far(home: Path) -> int:
    """Return how many entries the ledger of a home has; 0 where there is none yet."""
    try:
        with recorded(home) as ledger:
            return len(ledger)
    except InterlockError:
        return 0  # what is wrong with it, the guard will say


def writable(report: Path) -> None:
    """Refuse a place where no report can be written, before anything has run.

    Raises:
        StorageError: it is a folder, or lies where nothing can be written.
    """
    folder = report.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if report.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            "the report cannot be written; nothing was run",
            code="report-unwritable",
            got=f"{report}, {'a folder' if report.is_dir() else f'in {folder}'}",
            expected="a file in a folder that can be written",
            fix="choose another place with --report, or give --no-report",
        )


def unmoved(report: Path, place: Path) -> None:
    """Refuse a report whose folder leads elsewhere than before the program ran.

    Raises:
        StorageError: the program has put a link there.
    """
    now = report.absolute().parent.resolve()
    if now != place:
        raise StorageError(
            "the report's folder was changed by the program",
            code="report-unwritable",
            got=str(now),
            expected=str(place),
            fix="choose a place outside of the project with --report; the ledger has everything",
        )


def follow(events: Path, process: Running, mode: Mode) -> Iterator[dict[str, Any] | None]:
    """Yield events as they come, and None while there are none, until the process has ended.

    A job line of another mode than the run's is none: the program wrote it.
    """
    with events.open(encoding="utf-8", errors="replace") as stream:
        rest = ""
        while True:
            ended = process.poll() is not None
            chunk = stream.read()
            rest += chunk
            *whole, rest = rest.split("\n")
            for text in whole:
                line = read_event(text) or {"event": "unreadable"}
                yield line if line.get("mode", mode) == mode else {"event": "unreadable"}
            rest = rest[-LONGEST:]
            if ended and not chunk:
                return
            if not chunk:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                yield None


class Program:
    """A program that runs guarded.

    Args:
        command: the program and its arguments.
        home: folder of ledger, state and keys.
        policy: policy file, or None for the starter policy.
        fallback: `module:function` of the classical baseline, or None.
        pipeline: name under which its releases are counted.
        stdout: where its standard output goes, or None to leave it.

    Raises:
        UsageError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        home: Path,
        policy: str | None = None,
        fallback: str | None = None,
        pipeline: str | None = None,
        stdout: Any = None,
    ) -> None:
        self._folder = RunFolder()
        self._events = self._folder.path / "events.ndjson"
        self._events.touch(mode=0o600)
        site = str(Path(__file__).parent / "hooks" / "site")
        environment = dict(os.environ)
        paths = [site, *filter(None, [environment.get("PYTHONPATH")])]
        environment |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "INTERLOCK_RUN": "1",
            "INTERLOCK_HOME": str(home),
            events.EVENTS: str(self._events),
        }
        named = ((events.POLICY, policy), (events.FALLBACK, fallback), (events.PIPELINE, pipeline))
        for key, value in named:
            environment.pop(key, None)
            if value:
                environment[key] = value
        if policy:
            environment[events.POLICY] = str(Path(policy).absolute())
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running it is what was asked for
                list(command), env=environment, stdout=stdout, pass_fds=(self._folder.lock,)
            )
        except OSError as error:
            self._folder.close()
            raise UsageError(
                f"cannot start {command[0]!r}",
                code="run-cannot-start",
                got=f"{type(error).__name__}: {error}",
                expected="a program, for instance: interlock run -- python train.py",
                fix="check the name and the path",
            ) from error

    def lines(self, mode: Mode) -> Iterator[dict[str, Any] | None]:
        """Yield events as they come, and None while there are none, until the program has ended."""
        return follow(self._events, self._process, mode)

    def ask(self, number: int) -> None:
        """Pass a signal on to the program and what it has started, as a terminal does."""
        for pid in family(self._process.pid) if self._process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End the program, and what it has started, at once."""
        self.ask(signal.SIGKILL)

    def silent(self) -> list[int]:
        """Return the processes of the program that cannot take a signal now."""
        return [p for p in silent(self._folder.path) if p in family(self._process.pid)]

    def close(self) -> int:
        """Wait for the program, remove what it left, and return its exit code."""
        code = self._process.wait()
        self._folder.close()
        return code if code >= 0 else 128 - code


def python_command(command: Sequence[str]) -> list[str]:
    """Return the command with a bare `python` replaced by the interpreter that runs Interlock."""
    first, *rest = command
    return [sys.executable if first in ("python", "python3") else first, *rest]
