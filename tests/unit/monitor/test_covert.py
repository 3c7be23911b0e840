import numpy as np
import pytest

from interlock.errors import InputError
from interlock.monitor.covert import CHANNELS, CovertDetector, embed, legitimate

LENGTH = 1000


@pytest.fixture(scope="module")
def detector():
    rng = np.random.default_rng(0)
    return CovertDetector(np.array([legitimate(LENGTH, rng=rng) for _ in range(1800)]))


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_each_channel_is_found(detector, name):
    rng = np.random.default_rng(5)
    hits = [detector.test(embed(legitimate(LENGTH, rng=rng), name, rng=rng)) for _ in range(25)]
    assert sum(v.found for v in hits) >= 21
    assert all(v.bits_per_s > 0 for v in hits if v.found)


def test_a_few_marked_pulses_are_found_in_short_windows():
    rng = np.random.default_rng(3)
    short = CovertDetector(np.array([legitimate(200, rng=rng) for _ in range(1500)]))
    hits = [short.test(embed(legitimate(200, rng=rng), "lsb", rng=rng)) for _ in range(40)]
    assert sum(v.found for v in hits) >= 28


def test_honest_windows_are_seldom_called_found(detector):
    rng = np.random.default_rng(6)
    found = sum(detector.test(legitimate(LENGTH, rng=rng)).found for _ in range(300))
    assert found <= 12


def test_rates_below_the_policy_budget_do_not_alarm():
    rng = np.random.default_rng(0)
    honest = np.array([legitimate(200, rng=rng) for _ in range(600)])
    loose = CovertDetector(honest, budget_bits_per_s=1e9)
    verdict = loose.test(embed(legitimate(200, rng=rng), "iptc", rng=rng))
    assert verdict.found
    assert not verdict.alarm


def test_what_cannot_be_learnt_or_tested_is_refused(detector):
    with pytest.raises(InputError):
        CovertDetector(np.ones((10, 100)))
    backwards = np.full(LENGTH, 1000.0)
    backwards[7] = -1e12  # makes the mean, and so any rate, negative: below every budget
    for bad in (np.ones(3), np.full(LENGTH, np.nan), backwards, np.zeros(LENGTH)):
        with pytest.raises(InputError):
            detector.test(bad)


def test_constant_timing_is_found_not_crashed_on(detector):
    assert detector.test(np.full(LENGTH, 1000.0)).found
