"""The entanglement heartbeat: a test of a channel and its devices by the CHSH game.

What it shows: that a source and a channel still give correlations no local model gives, and that
they have not become worse. What it does not show: anything about weights or other data (weight
tampering leaves the value unchanged), nor that nobody cheats: on one device there is no space-like
separation, and a classical simulator plays a winning game. Integrity of data is a signature.

The game: two settings are drawn for each trial, the players win when `a xor b == x and y`. A local
model wins at most 3/4; a CHSH value S wins (4 + S) / 8. Two sequential tests, valid at every time:

* `ClassicalityTest`: a mixture of betting martingales against "win probability <= 3/4" (Ville's
  inequality; Zhang, Glancy, Knill 1108.2468; Elkouss, Wehner 1510.07233).
* `DriftTest`: a mixture of e-CUSUMs against "win probability still >= p0" (Shin, Ramdas, Rinaldo):
  with threshold A the mean number of trials to a false alarm is at least A.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interlock.errors import BackendError, InputError, IntegrityError

__all__ = [
    "ClassicalityTest",
    "DriftTest",
    "Trial",
    "chsh_value",
    "play",
    "rounds",
    "sampler_of",
    "win_probability",
]

#: Tsirelson's bound 2 sqrt 2, as people write it.
_HIGHEST = 2.83
_BETS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6)


@dataclass(frozen=True, slots=True)
class Trial:
    """One round: settings and answers, each 0 or 1."""

    x: int
    y: int
    a: int
    b: int

    @property
    def won(self) -> bool:
        """Whether the round was won."""
        return (self.a ^ self.b) == (self.x & self.y)


def win_probability(chsh: float) -> float:
    """Return the chance to win of a device with this CHSH value.

    Example:
        >>> win_probability(2.0)
        0.75
    """
    return (4 + chsh) / 8


def chsh_value(trials: list[Trial]) -> float:
    """Return the CHSH value estimated from trials, 8 w - 4."""
    return 8 * sum(t.won for t in trials) / max(len(trials), 1) - 4


class ClassicalityTest:
    """Evidence that no local model made the rounds; `e_value` >= 1/alpha rejects at level alpha."""

    def __init__(self) -> None:
        self._logs = np.zeros(len(_BETS))
        self._up = np.log1p(np.array(_BETS) * 0.25 / 0.75)
        self._down = np.log1p(-np.array(_BETS))
        self.trials = 0

    def update(self, won: bool) -> float:
        """Take one round; return the e-value."""
        self._logs += self._up if won else self._down
        self.trials += 1
        return self.e_value

    @property
    def e_value(self) -> float:
        """The mixture of the bets' wealth."""
        return float(np.mean(np.exp(np.minimum(self._logs, 700.0))))


class DriftTest:
    """Alarm when the win probability falls below that of `healthy - margin`.

    Args:
        healthy: CHSH value of the healthy device.
        margin: loss of CHSH value that is still called healthy.
        threshold: alarm at this value; mean trials to a false alarm are at least as many.

    Raises:
        InputError: a healthy value that no entangled pair has.
    """

    def __init__(self, healthy: float, *, margin: float = 0.08, threshold: float = 1e5) -> None:
        if not 2 < healthy <= _HIGHEST:  # not-a-number fails both
            raise InputError(
                "no link has this CHSH value when it is healthy",
                code="heartbeat-healthy",
                got=str(healthy),
                expected="more than 2 (local models) and at most 2.83 (2 sqrt 2, rounded up)",
                fix="measure the healthy link; pass for instance --healthy 2.8",
            )
        p0 = win_probability(healthy - margin)
        bets = np.array(_BETS) / p0
        self._win = np.log1p(-bets * (1 - p0))
        self._lose = np.log1p(bets * p0)
        self._logs = np.full(len(_BETS), -math.inf)
        self._limit = math.log(threshold)
        self.trials = 0
        self.alarmed_at: int | None = None

    def update(self, won: bool) -> bool:
        """Take one round; return whether there is an alarm."""
        self._logs = np.maximum(self._logs, 0.0) + (self._win if won else self._lose)
        self.trials += 1
        if self.alarmed_at is None and self.log_value >= self._limit:
            self.alarmed_at = self.trials
        return self.alarmed_at is not None

    @property
    def log_value(self) -> float:
        """Natural logarithm of the mixture."""
        peak = float(np.max(self._logs))
        if peak == -math.inf:
            return peak
        return peak + math.log(float(np.mean(np.exp(self._logs - peak))))


def sampler_of(
    chsh: float, rng: np.random.Generator, *, intercept: float = 0.0
) -> Callable[[int, int], tuple[int, int]]:
    """Return a source of answers with a CHSH value, part of whose pairs are intercepted.

    An intercepted and resent pair has a CHSH value of sqrt(2): half of the quantum bound.
    """
    spoilt = min(chsh / 2, math.sqrt(2))

    def sample(x: int, y: int) -> tuple[int, int]:
        value = spoilt if rng.random() < intercept else chsh
        a = int(rng.integers(0, 2))
        won = rng.random() < win_probability(value)
        return a, a ^ (x & y) ^ (0 if won else 1)

    return sample


class _Player:
    """The calling process's end of one player."""

    def __init__(self) -> None:
        # Programs of their own, not forks: the caller may have threads.
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "interlock.crypto.qkd.player"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
        )
        self.record = bytearray()

    def setting(self) -> int:
        """Wait for the setting of the next round."""
        return self._read(1)[0] - ord("0")

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = b""
        while len(data) < count:
            chunk = self._process.stdout.read(count - len(data))
            if not chunk:
                raise self._ended()
            data += chunk
        return data

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError as error:
            raise self._ended() from error

    def _ended(self) -> BackendError:
        return BackendError(
            "a player of the heartbeat has ended",
            code="heartbeat-player",
            got=f"exit code {self._process.wait()}",
            expected="a setting for each round",
            fix="look at what it wrote to the error output, then start again",
        )

    def answer(self, setting: int, answer: int) -> None:
        """Give it its answer."""
        self._write(b"%d" % answer)
        self.record.append(2 * setting + answer)

    def finish(self) -> None:
        """Stop it and hold its own record against what it was told.

        Raises:
            IntegrityError: it remembers other rounds.
        """
        self.setting()  # drawn for a round that is not played
        self._write(b".")
        if self._read(len(self.record)) != self.record:
            raise IntegrityError(
                "a player remembers other rounds than were played",
                code="heartbeat-player",
                got="a record that differs",
                expected=f"the {len(self.record)} rounds of this game",
                fix="do not use the rounds; find out what stands between the processes",
            )

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def rounds(sample: Callable[[int, int], tuple[int, int]], trials: int) -> Iterator[Trial]:
    """Play rounds between two processes that draw their own setting for each trial.

    The source here is in the calling process, so it sees both settings before it answers: nothing
    in this set-up rules out a classical cheat, and it is not meant to.

    Raises:
        BackendError: a player has ended.
        IntegrityError: a player remembers other rounds than were played.
    """
    alice, bob = players = (_Player(), _Player())
    try:
        for _ in range(trials):
            x, y = alice.setting(), bob.setting()
            a, b = sample(x, y)
            alice.answer(x, a)
            bob.answer(y, b)
            yield Trial(x, y, a, b)
        for player in players:
            player.finish()
    finally:
        for player in players:
            player.end()


def play(sample: Callable[[int, int], tuple[int, int]], trials: int) -> list[Trial]:
    """Return all of `rounds`."""
    return list(rounds(sample, trials))
