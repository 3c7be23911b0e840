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
import multiprocessing
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

__all__ = [
    "ClassicalityTest",
    "DriftTest",
    "Trial",
    "chsh_value",
    "play",
    "sampler_of",
    "win_probability",
]

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
    """

    def __init__(self, healthy: float, *, margin: float = 0.08, threshold: float = 1e5) -> None:
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


def _player(pipe: Connection, trials: int) -> None:
    """One player: draws its setting, tells the source, hears its answer, keeps a record."""
    record = []
    for _ in range(trials):
        setting = secrets.randbits(1)
        pipe.send(setting)
        record.append((setting, pipe.recv()))
    pipe.send(record)


def play(sample: Callable[[int, int], tuple[int, int]], trials: int) -> list[Trial]:
    """Play rounds between two processes that draw their own setting for each trial.

    The source here is a simulation in the calling process, so it sees both settings before it
    answers: nothing in this set-up rules out a classical cheat, and it is not meant to.
    """
    context = multiprocessing.get_context("fork")
    pipes, players = [], []
    for _ in range(2):
        mine, theirs = context.Pipe()
        player = context.Process(target=_player, args=(theirs, trials), daemon=True)
        player.start()
        pipes.append(mine)
        players.append(player)
    alice, bob = pipes
    for _ in range(trials):
        a, b = sample(alice.recv(), bob.recv())
        alice.send(a)
        bob.send(b)
    records = [pipe.recv() for pipe in pipes]
    for player in players:
        player.join()
    return [Trial(x, y, a, b) for (x, a), (y, b) in zip(*records, strict=True)]
