import math

import numpy as np
import pytest

from interlock.crypto.qkd.heartbeat import (
    ClassicalityTest,
    DriftTest,
    Trial,
    chsh_value,
    play,
    sampler_of,
    win_probability,
)
from interlock.errors import InputError


def wins(chsh: float, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < win_probability(chsh)


def test_a_quantum_channel_is_told_from_a_local_model() -> None:
    delays = []
    for seed in range(20):
        test = ClassicalityTest()
        for won in wins(2.7, 5000, seed):
            if test.update(bool(won)) >= 1e6:
                break
        delays.append(test.trials)
    assert np.median(delays) < 1500


def test_a_local_model_hardly_ever_passes() -> None:
    passed = 0
    for seed in range(200):
        test = ClassicalityTest()
        passed += any(test.update(bool(won)) >= 20 for won in wins(2.0, 1000, seed))
    assert passed <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_a_bet_is_fair_under_the_null() -> None:
    up = ClassicalityTest()
    up.update(True)
    down = ClassicalityTest()
    down.update(False)
    assert 0.75 * up.e_value + 0.25 * down.e_value == pytest.approx(1.0)
    won, lost = DriftTest(2.8), DriftTest(2.8)
    won.update(True)
    lost.update(False)
    p0 = win_probability(2.72)
    mean = p0 * np.exp(won.log_value) + (1 - p0) * np.exp(lost.log_value)
    assert mean == pytest.approx(1.0)


def test_a_healthy_channel_raises_no_alarm_and_a_tapped_one_does() -> None:
    healthy = DriftTest(2.8)
    assert not any(healthy.update(bool(won)) for won in wins(2.8, 50_000, 1))
    delays = {}
    for share in (1.0, 0.5, 0.3):
        found = []
        for seed in range(15):
            test = DriftTest(2.8)
            value = share * 2**0.5 + (1 - share) * 2.8
            for won in wins(value, 30_000, seed):
                if test.update(bool(won)):
                    break
            found.append(test.alarmed_at or 30_000)
        delays[share] = float(np.median(found))
    assert delays[1.0] < 400
    assert delays[1.0] < delays[0.5] < delays[0.3] < 10_000


def test_two_processes_play_with_settings_of_their_own() -> None:
    trials = play(sampler_of(2.8, np.random.default_rng(2)), 2000)
    assert len(trials) == 2000
    assert abs(chsh_value(trials) - 2.8) < 0.3
    for name in ("x", "y", "a", "b"):
        assert 0.4 < np.mean([getattr(t, name) for t in trials]) < 0.6
    assert len({(t.x, t.y) for t in trials}) == 4
    assert Trial(1, 1, 0, 1).won
    assert not Trial(1, 1, 0, 0).won


def test_the_value_says_nothing_of_weights() -> None:
    """The same rounds, whatever happens to a file of weights: kept here as a reminder."""
    rounds = [play(sampler_of(2.8, np.random.default_rng(9)), 500) for _ in range(2)]
    assert abs(chsh_value(rounds[0]) - chsh_value(rounds[1])) < 0.8


@pytest.mark.parametrize("healthy", [math.nan, math.inf, 3.5, 2.0, -1.0])
def test_a_healthy_value_that_no_link_has_is_refused(healthy: float) -> None:
    with pytest.raises(InputError) as caught:
        DriftTest(healthy)
    assert caught.value.code == "heartbeat-healthy"
    assert DriftTest(2.83).alarmed_at is None
