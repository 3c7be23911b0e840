import numpy as np
import pytest

from interlock.guard.stats.entropy import SpikeTracker, meyer_wallach, miller_madow


def test_shannon_cannot_tell_decoherence_and_entanglement_can() -> None:
    width = 3
    plus = np.full(8, 8**-0.5)
    ghz = np.zeros(8)
    ghz[[0, 7]] = 2**-0.5
    uniform = {format(i, "03b"): 1000 for i in range(8)}
    assert miller_madow(uniform, width) == pytest.approx(1.0)
    assert meyer_wallach(plus) == pytest.approx(0.0, abs=1e-12)
    assert meyer_wallach(ghz) == pytest.approx(1.0)


def test_the_correction_removes_most_of_the_bias() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(32))
    true = float(-(p * np.log2(p)).sum() / 5)
    plug, fixed = [], []
    for _ in range(200):
        counts = rng.multinomial(256, p)
        q = counts[counts > 0] / 256
        plug.append(float(-(q * np.log2(q)).sum() / 5))
        fixed.append(miller_madow({format(i, "05b"): int(n) for i, n in enumerate(counts)}, 5))
    assert abs(np.mean(fixed) - true) < 0.3 * abs(np.mean(plug) - true)


def test_a_jump_is_a_spike_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    tracker = SpikeTracker(k=4.0)
    values = [tracker.update(0.4 + 0.01 * rng.standard_normal()) for _ in range(300)]
    assert np.mean(np.array(values) > 0) < 0.02
    again = SpikeTracker(k=4.0)
    again.state = tracker.state
    assert again.update(0.8) == tracker.update(0.8) > 5


def test_nothing_measured_has_no_entropy() -> None:
    with pytest.raises(ValueError, match="at least one shot"):
        miller_madow({}, 3)
    assert miller_madow({"0": 5}, 1) == 0.0
