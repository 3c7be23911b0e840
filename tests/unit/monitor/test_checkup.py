"""The detector's own checks: quiet when it is well, and a reason for each way it is not."""

import numpy as np
import pytest

from interlock.monitor.checkup import Checkup
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.health import Health, canary, ks_p, psi
from interlock.monitor.live import Recorder
from interlock.monitor.pipeline import AssetMonitor, second_look
from interlock.monitor.simulator import inject, regime
from interlock.monitor.store import KEEP_STRIPS, AlarmRow, MonitorStore, SourceState, Strip


def fed(rows, step=1000, checkup=None, monitor=None):
    monitor = monitor or AssetMonitor(rows.shape[1])
    checkup = checkup or Checkup(monitor)
    for k in range(0, len(rows), step):
        part = rows[k : k + step].astype("f4")
        checkup.update(part, monitor.update(part, keep_trace=True), now_s=float(k))
    return checkup


@pytest.mark.parametrize("name", ["iid", "heavy-tailed", "autocorrelated"])
def test_a_detector_in_control_is_well(name):
    rows = regime(name, 40_000, rng=3)[:, None]
    checkup = fed(rows)
    assert checkup.health(now_s=39_000.0) == (Health.GOOD, ())
    assert checkup.checks["canary delay rows"] >= 0


def test_silence_drift_and_wrong_p_values_degrade_it():
    quiet = np.random.default_rng(0).standard_normal((16_000, 1))
    checkup = fed(quiet)
    assert checkup.health(now_s=20_000.0) == (Health.DEGRADED, ("no rows come",))
    slow = quiet[:16_000] + np.linspace(0, 6, 16_000)[:, None]
    moved = fed(np.concatenate([quiet, slow]))
    assert "inputs have moved away from the reference" in moved.health(now_s=32_000.0)[1]

    class Broken(AssetMonitor):
        """A detector whose p-values lean, and that finds nothing."""

        def update(self, rows, *, keep_trace=False):
            super().update(rows, keep_trace=True)
            self.bank.p_values = self.bank.p_values**1.5
            return []

    broken = fed(quiet, monitor=Broken(1))
    assert "p-values are not uniform" in broken.health(now_s=16_000.0)[1]


def test_a_growing_spread_is_told_while_faults_are_still_found():
    rows = regime("autocorrelated", 40_000, rng=0)
    rows[15_000:] *= np.linspace(1.0, 2.2, 25_000)
    monitor = AssetMonitor(1)
    checkup, told = Checkup(monitor), None
    for k in range(0, 40_000, 1000):
        fed(rows[k : k + 1000, None], checkup=checkup, monitor=monitor)
        if checkup.health(now_s=0.0)[1]:
            told = k + 1000
            break
    assert told is not None
    assert 15_000 < told < 40_000
    recent = rows[told - 4096 : told, None]
    assert canary(monitor.bank, recent).found


def test_a_detector_that_misses_the_canary_is_degraded(monkeypatch):
    from interlock.monitor import checkup as module
    from interlock.monitor.health import CanaryResult

    missed = CanaryResult(kind="shift", found=False, delay_rows=-1)
    monkeypatch.setattr(module, "canary", lambda *_: missed)
    checkup = fed(np.random.default_rng(0).standard_normal((16_000, 1)))
    assert checkup.health(now_s=15_000.0)[1] == ("the planted fault was not found",)


def test_psi_and_ks_see_shape_and_shift():
    rng = np.random.default_rng(0)
    base = rng.standard_normal(4000)
    assert psi(base, rng.standard_normal(4000)) < 0.02
    assert ks_p(base, rng.standard_normal(4000)) > 0.001
    for moved in (base + 0.7, base * 2.0, np.abs(base)):
        assert psi(base, moved) > 0.1
        assert ks_p(base, moved) < 1e-6


def test_the_second_look_sees_spikes_and_passes_quiet_rows():
    rng = np.random.default_rng(1)
    rows = np.stack([regime("slow-drift", 6000, rng=rng) for _ in range(4)], axis=1)
    assert second_look(rows.astype("f4")) < 1.2
    spiked, _ = inject(rows, "spike", 5990, size=3.0, rng=rng)
    assert second_look(spiked.astype("f4")) > 1.5
    assert second_look(rows[:200].astype("f4")) is None
    holes = rows.copy()
    holes[:, 1] = np.nan
    holes[50:90, 0] = np.nan
    assert np.isfinite(second_look(holes.astype("f4")))


SPEC = StreamSpec(
    source="fridge", kind=StreamKind.TEMPERATURE, channels=("a", "b"), period_ns=1_000_000,
    origin=Origin.SIMULATED,
)  # fmt: skip


def test_a_recorder_keeps_alarms_strips_and_health(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30_000, 2))
    rows[25_000:, 1] += 3
    store = MonitorStore(tmp_path)
    recorder = Recorder(SPEC, store=store, device="manila", clock=lambda: 5.0)
    for k in range(0, len(rows), 500):
        recorder.update(Frame.of(SPEC, rows[k : k + 500], first_seq=k, start_ns=k * 1_000_000))
    assert recorder.finish() == []
    assert recorder.seen().rows == 30_000
    (state,) = store.sources("manila")
    assert (state.source, state.rows, state.origin) == ("fridge", 30_000, "simulated")
    assert store.sources("other") == []
    alarms = store.alarms("fridge")
    assert state.alarms == len(alarms) >= 1
    assert any(25_000 <= a.row < 25_200 and a.channel == "b" for a in alarms)
    strips = store.strips("fridge")
    assert [s.row for s in strips] == list(range(0, 64 * len(strips), 64))
    assert all(lo <= hi for s in strips for lo, hi in zip(s.low, s.high, strict=True))
    assert max(s.e_log10 for s in strips) > 5


def test_the_store_is_bounded_and_keeps_history_apart(tmp_path):
    store = MonitorStore(tmp_path)
    state = SourceState(source="s", device="d", kind="queue", origin="simulated", channels=("a",))
    strip = Strip(row=0, at_s=0.0, low=(0.0,), high=(None,), e_log10=0.0)
    alarm = AlarmRow(source="s", row=1, kind="gap", channel="a", evidence=1.0, shares={},
                     look=None, at_s=0.0)  # fmt: skip
    for _ in range(6):
        store.write(state, [alarm] * 500, [strip] * 300)
    assert len(store.strips("s")) == KEEP_STRIPS
    assert len(store.alarms("s", limit=10_000)) == 2000
    for k in range(5):
        store.add_history("d", float(k), {"q0": 1.0 + k, "q1": 2.0})
    assert store.history("d", limit=2)["q0"] == [(3.0, 4.0), (4.0, 5.0)]
    assert store.history("other") == {}
