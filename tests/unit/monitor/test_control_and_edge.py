import numpy as np
import pytest

from interlock.errors import InputError, IntegrityError
from interlock.monitor.calibration import (
    DriftingDevice,
    Integrator,
    LearnedPolicy,
    Shield,
    learn_policy,
    record,
    tune,
)
from interlock.monitor.calibration.controllers import episode, losses
from interlock.monitor.calibration.device import as_environment
from interlock.monitor.calibration.shield import Event
from interlock.monitor.edge import EdgeDetector, export_bundle
from interlock.monitor.registry import Card, DetectorRegistry
from interlock.monitor.signed import DualKey

KEY = DualKey(b"a" * 32, b"b" * 32)


class Forgetful:
    def reset(self):
        pass


class Hostile(Forgetful):
    """A controller that always asks for too much."""

    def propose(self, reading):
        return np.where(np.arange(len(reading)) % 2 == 0, np.inf, -1e9)


class Stuck(Forgetful):
    def propose(self, reading):
        return np.full(len(reading), np.nan)


MAKERS = {
    "hostile": Hostile,
    "stuck": Stuck,
    "wild": lambda: Integrator(5.0),
    "integrator": lambda: Integrator(0.05),
    "policy": LearnedPolicy,
    "policy of a fast drift": lambda: LearnedPolicy(0.12, 0.0076, 0.972),
    "policy that runs away": lambda: LearnedPolicy(1.0, 1.0, 0.9999),
}
BIASES = {
    **{str(v): (lambda _k, v=v: v) for v in (0.0, 0.3, 50.0, 1e300, np.nan, np.inf, -np.inf)},
    "ramp": lambda k: k / 200,
    "slow ramp": lambda k: k / 5000,
    "turning": lambda k: 0.5 if k // 30 % 2 else -0.5,
    "coming and going": lambda k: np.nan if k % 3 else 1e6,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_the_shield_is_never_passed(make, bias):
    shield = Shield(DriftingDevice(seed=1), make())
    limits = shield.limits
    for k in range(600):
        before = shield.control.copy()
        event = shield.step(bias=bias(k))
        assert np.isfinite(shield.control).all()
        assert (np.abs(shield.control - shield.good) <= limits.max_from_good + 1e-9).all()
        if event in (Event.STEP, Event.BOUNDED):
            assert (np.abs(shield.control - before) <= limits.max_step + 1e-12).all()


def test_a_witness_that_reads_nothing_rolls_back_and_recalibrates(monkeypatch):
    device = DriftingDevice(seed=3)
    monkeypatch.setattr(device, "witness", lambda _control: float("nan"))
    shield = Shield(device, Integrator(0.05))
    for _ in range(60):
        shield.step()
    assert {e for _, e in shield.events} >= {Event.ROLLBACK, Event.RECALIBRATED}


@pytest.mark.parametrize("make", [lambda: Integrator(0.05), LearnedPolicy])
def test_a_ramp_spoof_rolls_back_freezes_and_recalibrates(make):
    device = DriftingDevice(seed=2)
    shield = Shield(device, make())
    worst = 0.0
    for k in range(3000):
        shield.step(bias=max(0.0, (k - 500) / 1000))
        worst = max(worst, device.error(shield.control))
    kinds = [e for _, e in shield.events]
    assert Event.ROLLBACK in kinds
    assert kinds.count(Event.RECALIBRATED) >= kinds.count(Event.ROLLBACK) - 1
    assert worst < 0.06
    free, device, bare = np.zeros(16), DriftingDevice(seed=2), make()
    for k in range(3000):
        device.advance()
        free = free + bare.propose(device.sense(free, bias=max(0.0, (k - 500) / 1000)))
    assert device.error(free) > 0.5


def test_a_recalibration_has_the_policy_forget_what_it_was_told():
    def after_the_attack(policy):
        device = DriftingDevice(seed=4)
        shield = Shield(device, policy)
        for k in range(1500):
            shield.step(bias=1.0 if k < 500 else 0.0)
        return [e for k, e in shield.events if k > 530]

    class Resentful(LearnedPolicy):
        def reset(self):
            pass

    assert Event.RECALIBRATED in after_the_attack(Resentful())
    assert Event.ROLLBACK not in after_the_attack(LearnedPolicy())


def test_feedback_beats_no_control():
    def error(controller):
        return episode(controller, DriftingDevice(seed=0), steps=1500)

    assert error(Integrator(0.05)) < error(Integrator(0.0))


DRIFTS = [{"momentum": 0.98}, {"momentum": 0.999}, {"momentum": 0.0}]


def devices(seeds, drift):
    return [DriftingDevice(seed=s, **drift) for s in seeds]


def test_a_recording_stands_for_the_device():
    policy = LearnedPolicy(0.1, 0.005, 0.97)
    told = losses(np.array([[0.1, 0.005, 0.97]]), record(devices([5], DRIFTS[0]), steps=300))[0]
    lived = episode(policy, DriftingDevice(seed=5, **DRIFTS[0]), steps=300)
    assert lived == pytest.approx(2e-3 + 0.5 * told, rel=1e-9)


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
def test_the_learned_policy_beats_the_tuned_integrator_or_ties_without_inertia(drift):
    train = record(devices(range(10_000, 10_008), drift), steps=1000)
    base, policy = tune(train), learn_policy(train, rounds=8)
    assert policy == learn_policy(train, rounds=8)
    found = np.array(
        [[base.gain, 0.0, 0.0], [policy.gain, policy.trend_gain, policy.memory]],
    )
    theirs, ours = losses(found, record(devices(range(20_000, 20_008), drift), steps=1000))
    if drift["momentum"]:
        assert ours < 0.9 * theirs
    else:
        assert ours == pytest.approx(theirs, rel=0.01)


def test_the_integrator_is_tuned_to_the_best_gain():
    train = record(devices(range(10_000, 10_003), DRIFTS[0]), steps=500)
    base = tune(train).gain
    gains = base * np.array([1.0, 0.5, 0.95, 0.99, 1.01, 1.05, 2.0])
    found = losses(np.stack([gains, 0 * gains, 0 * gains], axis=1), train)
    assert np.argmin(found) == 0


def test_a_policy_that_does_not_hold_the_device_is_the_worst_and_silent():
    train = record(devices([1], DRIFTS[0]), steps=2000)
    found = losses(np.array([[5.0, 1.0, 0.99], [0.1, 0.0, 0.0]]), train)
    assert found[0] == np.inf
    assert np.isfinite(found[1])


def test_a_signed_policy_comes_back_and_a_changed_one_does_not(tmp_path):
    policy = LearnedPolicy(0.1, -0.005, 0.97)
    registry = DetectorRegistry(tmp_path, KEY.public)
    card = Card(
        name="calibration",
        version=1,
        owner="lab",
        purpose="drift of 16 parameters",
        training_data="simulated",
        validation={"gain": 1e-5},
        created_s=1000,
        max_age_s=100,
    )
    registry.release(card, policy.weights(), KEY)
    _, weights = registry.load("calibration", now_s=1000)
    assert LearnedPolicy.from_weights(weights) == policy
    file = tmp_path / "calibration" / "1.npz"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))
    with pytest.raises(IntegrityError):
        registry.load("calibration", now_s=1000)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"kernel": np.zeros(3)},
        {"policy": np.zeros(2)},
        {"policy": np.zeros((3, 1))},
        {"policy": np.array(["a", "b", "c"])},
        {"policy": np.array([0.1, np.nan, 0.9])},
        {"policy": np.array([0.1, 0.01, 1.0])},
        {"policy": np.array([-0.1, 0.01, 0.9])},
        {"policy": np.array([0.1, 1e9, 0.9])},
    ],
)
def test_weights_that_are_no_policy_are_refused(weights):
    with pytest.raises(IntegrityError) as caught:
        LearnedPolicy.from_weights(weights)
    assert caught.value.code == "monitor-policy"


def test_the_environment_keeps_the_gymnasium_contract():
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    check_env(as_environment(seed=3, horizon=50), skip_render_check=True)
    episodes = [[env.reset()[0].tolist() for _ in range(2)] for env in map(as_environment, (3, 3))]
    assert episodes[0] == episodes[1]
    assert episodes[0][0] != episodes[0][1]


@pytest.fixture
def bundle(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((3, 8))
    rows = rng.standard_normal((4000, 3)) @ mix + 0.1 * rng.standard_normal((4000, 8))
    export_bundle(tmp_path / "edge", rows, KEY, version=2, created_s=1000, max_age_s=100)
    return tmp_path / "edge", rows


def test_the_edge_scores_as_numpy_does_and_sends_no_sample(bundle):
    folder, rows = bundle
    detector = EdgeDetector(folder, KEY.public, now_s=1000)
    quiet = detector.score(rows[:1000].astype("f4"))
    assert quiet.over <= 3
    broken = rows[:1000].copy()
    broken[500:, 2] *= -1
    assert detector.score(broken.astype("f4")).over > 300
    moved = rows - np.median(rows, axis=0)
    z = moved / (1.4826 * np.median(np.abs(moved), axis=0))
    vectors = np.linalg.eigh(np.cov(z.clip(-8, 8), rowvar=False))[1][:, ::-1][:, :3]
    expected = ((z - z @ vectors @ vectors.T) ** 2).sum(1)[:1000].max()
    assert quiet.peak == pytest.approx(expected, rel=1e-3)
    assert set(type(quiet).__dataclass_fields__) == {"rows", "over", "peak"}
    hostile = rows[:10].astype("f4")
    hostile[3, 3] = np.nan
    assert detector.score(hostile).over >= 1


def test_the_edge_sees_small_steps_of_large_numbers_and_a_wild_sample_blinds_it_not(tmp_path):
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((4000, 2)) + np.array([5e9, 0.0])
    rows[7, 1], rows[9, 1], rows[11, 1], rows[13, 1] = 9.9e37, np.inf, np.nan, 1e12
    export_bundle(tmp_path / "e", rows, KEY, version=1, created_s=0)
    detector = EdgeDetector(tmp_path / "e", KEY.public, now_s=0)
    quiet = rng.standard_normal((1000, 2)) + np.array([5e9, 0.0])
    assert detector.score(quiet).over <= 3
    for channel in (0, 1):
        shifted = quiet.copy()
        shifted[:, channel] += 20.0
        assert detector.score(shifted).over > 900


@pytest.mark.parametrize("broken", [np.nan, np.inf, 9.9e37])
def test_no_bundle_is_made_of_a_dead_channel_or_too_few_rows(tmp_path, broken):
    rows = np.random.default_rng(2).standard_normal((1000, 3))
    rows[400:, 1] = broken
    for some in (rows, rows[:100]):
        with pytest.raises(InputError) as caught:
            export_bundle(tmp_path / "e", some, KEY, version=1, created_s=0)
        assert caught.value.code == "monitor-fit"
    assert not (tmp_path / "e").exists()


def test_a_changed_bundle_does_not_load(bundle):
    folder, _ = bundle
    with pytest.raises(IntegrityError):
        EdgeDetector(folder, DualKey(b"x" * 32, b"y" * 32).public, now_s=1000)
    raw = bytearray((folder / "detector.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "detector.onnx").write_bytes(bytes(raw))
    with pytest.raises(IntegrityError) as caught:
        EdgeDetector(folder, KEY.public, now_s=1000)
    assert caught.value.code == "monitor-edge-bundle"


def test_a_stale_old_or_future_bundle_does_not_load(bundle):
    folder, _ = bundle
    assert EdgeDetector(folder, KEY.public, now_s=1100, least_version=2).version == 2
    for now_s, least in ((1101, 1), (699, 1), (1000, 3)):
        with pytest.raises(IntegrityError) as caught:
            EdgeDetector(folder, KEY.public, now_s=now_s, least_version=least)
        assert caught.value.code == "monitor-edge-bundle"
