import numpy as np
import pytest

from interlock.monitor.simulator import FAULTS, REGIMES, TlsDevice, daily_statistics, inject, regime
from interlock.monitor.simulator.regimes import one_over_f


def test_tls_device_reproduces_the_four_published_statistics():
    got = daily_statistics(TlsDevice(qubits=1000).sample(57, rng=3))
    assert got["sd_ln"] == pytest.approx(0.25, abs=0.02)
    assert got["sd_delta_ln"] == pytest.approx(0.305, abs=0.02)
    assert got["lag1"] == pytest.approx(0.23, abs=0.06)
    assert got["halvings"] == pytest.approx(0.021, abs=0.004)


def test_seeds_decide():
    device = TlsDevice(qubits=3)
    assert np.array_equal(device.sample(20, rng=1), device.sample(20, rng=1))
    assert not np.array_equal(device.sample(20, rng=1), device.sample(20, rng=2))
    for name in REGIMES:
        assert np.array_equal(regime(name, 100, rng=5), regime(name, 100, rng=5))


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_changes_its_rows_and_no_others(kind):
    clean = np.random.default_rng(0).standard_normal((6000, 4))
    data, fault = inject(clean, kind, 1000, channels=(0, 1), rng=1)
    inside = slice(fault.start, fault.stop)
    assert not np.array_equal(data[inside, :2], clean[inside, :2])
    assert np.array_equal(data[:, 2:], clean[:, 2:])
    assert np.array_equal(data[: fault.start], clean[: fault.start])
    assert np.array_equal(data[fault.stop :], clean[fault.stop :])


def test_one_over_f_has_more_power_at_low_frequency():
    spectrum = np.abs(np.fft.rfft(one_over_f(1 << 15, rng=0))) ** 2
    low, high = spectrum[4:40].mean(), spectrum[400:4000].mean()
    assert 20 < low / high < 2000
