"""Rounds of simulated pairs, played between two processes."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from interlock.crypto.qkd import heartbeat
from interlock.crypto.qkd.heartbeat import DriftTest, Trial, chsh_value, rounds
from interlock.crypto.qkd.pairs import AerPairs
from interlock.errors import BackendError, InputError, IntegrityError

pytest.importorskip("qiskit_aer")


def trials(source: Callable[[int, int], tuple[int, int]], count: int) -> list[Trial]:
    settings = np.random.default_rng(4).integers(0, 2, (count, 2))
    return [Trial(int(x), int(y), *source(int(x), int(y))) for x, y in settings]


@pytest.mark.parametrize(("intercept", "expected"), [(0.0, 2.80), (0.5, 2.10), (1.0, 2**0.5)])
def test_pairs_have_the_value_that_theory_gives(intercept: float, expected: float) -> None:
    played = trials(AerPairs(intercept=intercept, seed=3), 12_000)
    assert chsh_value(played) == pytest.approx(expected, abs=0.12)  # four standard deviations
    for name in ("a", "b"):
        assert np.mean([getattr(t, name) for t in played]) == pytest.approx(0.5, abs=0.03)


def test_interception_of_aer_pairs_is_found_and_a_healthy_link_is_left_alone() -> None:
    tapped, healthy = DriftTest(2.8), DriftTest(2.8)
    for trial in trials(AerPairs(intercept=1.0, seed=1), 2000):
        tapped.update(trial.won)
    for trial in trials(AerPairs(seed=1), 10_000):
        healthy.update(trial.won)
    assert tapped.alarmed_at is not None
    assert healthy.alarmed_at is None


def test_two_processes_play_with_aer() -> None:
    played = list(rounds(AerPairs(seed=5), 600))
    assert len({(t.x, t.y) for t in played}) == 4
    assert chsh_value(played) > 2


def test_the_players_end_when_nobody_listens_any_more() -> None:
    game = rounds(AerPairs(seed=5), 10**9)
    next(game)
    frame = game.gi_frame
    players = frame.f_locals["players"]
    game.close()
    assert [player._process.poll() is not None for player in players] == [True, True]


def test_a_player_that_ends_or_lies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "sys.stdout.write('0' * 99); sys.stdout.flush(); "
    liar = f"import sys; {told}sys.stdin.read()"
    deaf = f"import os, sys; os.close(0); {told}"
    for script, kind in (("pass", BackendError), (deaf, BackendError), (liar, IntegrityError)):
        start = heartbeat.subprocess.Popen
        monkeypatch.setattr(
            heartbeat.subprocess,
            "Popen",
            lambda _words, _script=script, _start=start, **k: _start(
                [sys.executable, "-c", _script], **k
            ),
        )
        with pytest.raises(kind) as caught:
            list(rounds(lambda _x, _y: (1, 1), 5))
        assert caught.value.code == "heartbeat-player"
        monkeypatch.undo()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    for values in ({"noise": share}, {"intercept": share}):
        with pytest.raises(InputError) as caught:
            AerPairs(**values)
        assert caught.value.code == "heartbeat-share"
