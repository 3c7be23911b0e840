import numpy as np
import pytest

from interlock.crypto.qkd.link import LinkSettings, simulate_bb84, simulate_e91, toeplitz_hash
from interlock.errors import UsageError


def test_an_honest_link_gives_simulated_bits() -> None:
    for simulate in (simulate_bb84, simulate_e91):
        result = simulate(LinkSettings(pulses=200_000), np.random.default_rng(1))
        assert result.label == "simulation"
        assert result.aborted == ""
        assert result.bits.size > 1000
        assert abs(float(result.bits.mean()) - 0.5) < 0.05
        assert abs(result.qber - 0.01) < 0.005
        assert result.qber < result.qber_bound


@pytest.mark.parametrize("seed", range(5))
def test_intercept_and_resend_aborts_with_a_quarter_of_errors(seed: int) -> None:
    result = simulate_bb84(LinkSettings(intercept=1.0, noise=0.0), np.random.default_rng(seed))
    assert abs(result.qber - 0.25) < 0.02
    assert result.aborted
    assert result.bits.size == 0


def test_e91_sees_the_eavesdropper_in_its_correlations() -> None:
    honest = simulate_e91(LinkSettings(noise=0.0), np.random.default_rng(3))
    spied = simulate_e91(LinkSettings(noise=0.0, intercept=1.0), np.random.default_rng(3))
    assert honest.chsh is not None
    assert spied.chsh is not None
    assert honest.chsh > 2.7
    assert spied.chsh < 2.0
    assert spied.aborted


def test_more_eavesdropping_leaves_fewer_bits() -> None:
    sizes = [
        simulate_bb84(
            LinkSettings(pulses=400_000, intercept=share), np.random.default_rng(7)
        ).bits.size
        for share in (0.0, 0.05, 0.1, 0.5)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert sizes[-1] == 0


@pytest.mark.parametrize("pulses", [0, 1, 10, 1000])
def test_too_few_pulses_give_nothing(pulses: int) -> None:
    result = simulate_bb84(LinkSettings(pulses=pulses), np.random.default_rng(0))
    assert result.bits.size == 0
    assert result.aborted


def test_the_fast_toeplitz_hash_is_the_matrix_product() -> None:
    rng = np.random.default_rng(4)
    for n, length in ((1, 1), (8, 3), (50, 20), (333, 100)):
        bits = rng.integers(0, 2, n, dtype=np.uint8)
        seed = rng.integers(0, 2, n + length - 1, dtype=np.uint8)
        matrix = np.array([[seed[n - 1 + i - j] for j in range(n)] for i in range(length)])
        assert (toeplitz_hash(bits, seed, length) == matrix.astype(int) @ bits % 2).all()
    with pytest.raises(UsageError):
        toeplitz_hash(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 2)
