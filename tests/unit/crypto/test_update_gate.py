"""The smaller form of `benchmarks/weights_poison.py`."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlock.crypto.weights.updates import UpdateGate, UpdateStatistics, update_statistics


@pytest.fixture(scope="module")
def bench() -> Any:
    path = Path(__file__).parents[3] / "benchmarks" / "weights_poison.py"
    spec = importlib.util.spec_from_file_location("weights_poison", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["weights_poison"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("kind", "share"), [("noise burst", 0.5), ("label flip", 1.0)])
def test_a_coarse_fault_is_stopped_and_reverted(bench: Any, kind: str, share: float) -> None:
    for seed in range(4):
        gated = bench.train(kind, share, seed, gated=True)
        assert gated["stopped"] == 1.0
        assert gated["false"] < 0.05
        assert gated["accuracy"] > 0.95


def test_honest_training_is_hardly_reverted(bench: Any) -> None:
    runs = [bench.train(None, 0.0, seed, gated=True) for seed in range(6)]
    assert np.mean([run["false"] for run in runs]) < 0.01


def test_a_small_backdoor_is_in_the_blind_zone(bench: Any) -> None:
    """What the docs say the gate does not see."""
    runs = [bench.train("backdoor", 0.02, seed, gated=True) for seed in range(6)]
    assert np.mean([run["stopped"] for run in runs]) < 0.2


def test_weights_that_are_not_numbers_are_stopped_at_once() -> None:
    before, after = {"w": np.zeros(3)}, {"w": np.array([0.0, np.nan, 1.0])}
    statistics, update = update_statistics(before, after, None, 0.1)
    verdict = UpdateGate().judge(statistics)
    assert (verdict.accept, verdict.reason) == (False, "not-finite")
    assert np.isfinite(update).all()
    statistics, _ = update_statistics(before, before, None, float("inf"))
    assert not UpdateGate().judge(statistics).accept


def test_a_stopped_update_does_not_shift_the_comparison() -> None:
    gate = UpdateGate()

    def usual(n: int) -> UpdateStatistics:
        return UpdateStatistics(
            log_norm=-1 + 0.01 * (n % 3), log_peak=1.0, cosine=0.5, loss=0.3, finite=True
        )

    for n in range(20):
        assert gate.judge(usual(n)).accept
    loud = UpdateStatistics(log_norm=4.0, log_peak=1.0, cosine=0.5, loss=0.3, finite=True)
    for _ in range(100):
        assert not gate.judge(loud).accept
    assert gate.judge(usual(1)).accept
