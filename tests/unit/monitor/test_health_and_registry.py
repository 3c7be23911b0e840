import dataclasses
import json
import shutil

import numpy as np
import pytest

from interlock.errors import DeniedError, InputError, IntegrityError, UsageError
from interlock.ledger import Ledger
from interlock.monitor.access import AccessProfile, AuditEvent, PrivateRelease, Tighten, pseudonym
from interlock.monitor.detectors.alarms import AlarmBank
from interlock.monitor.forecast import forecast, recalibration_window
from interlock.monitor.health import InputDrift, UniformityMartingale, canary
from interlock.monitor.registry import Card, DetectorRegistry
from interlock.monitor.releases import LedgerRecord
from interlock.monitor.signed import DualKey
from interlock.monitor.simulator import TlsDevice, regime

KEY, OTHER = DualKey(b"a" * 32, b"b" * 32), DualKey(b"c" * 32, b"d" * 32)
CARD = Card(
    name="t1-drift", version=1, owner="device team", purpose="T1 of qpu-0",
    training_data="simulated", validation={"recall": 0.97}, created_s=0, max_age_s=100,
)  # fmt: skip
WEIGHTS = {"w": np.arange(6.0).reshape(2, 3)}


@pytest.fixture
def registry(tmp_path):
    made = DetectorRegistry(tmp_path / "detectors", KEY.public)
    made.release(CARD, WEIGHTS, KEY)
    return made


def test_signed_weights_load_and_roll_back(registry):
    card, weights = registry.load("t1-drift", now_s=50)
    assert card["owner"] == "device team"
    np.testing.assert_array_equal(weights["w"], WEIGHTS["w"])
    registry.release(dataclasses.replace(CARD, version=2), {"w": np.zeros(1)}, KEY)
    assert registry.load("t1-drift", now_s=50)[0]["version"] == 2
    assert registry.rollback("t1-drift", KEY, now_s=50) == 1
    assert registry.load("t1-drift", now_s=50)[0]["version"] == 1
    with pytest.raises(IntegrityError):
        registry.rollback("t1-drift", KEY, now_s=50)


def test_swapped_stale_unowned_and_foreign_detectors_do_not_load(registry, tmp_path):
    folder = tmp_path / "detectors" / "t1-drift"
    with pytest.raises(IntegrityError, match="does not load"):
        registry.load("t1-drift", now_s=101)
    for card in (
        dataclasses.replace(CARD, version=2, owner=" "),
        dataclasses.replace(CARD, version=2, validation={}),
        CARD,
    ):
        with pytest.raises(IntegrityError):
            registry.release(card, WEIGHTS, KEY)
    original = (folder / "1.npz").read_bytes()
    (folder / "1.npz").write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        registry.load("t1-drift", now_s=50)
    (folder / "1.npz").write_bytes(original)
    with pytest.raises(IntegrityError):
        registry.release(dataclasses.replace(CARD, version=3), WEIGHTS, OTHER)
    assert registry.load("t1-drift", now_s=50)[0]["version"] == 1
    document = json.loads((folder / "1.json").read_text())
    document["card"]["max_age_s"] = 10**9
    (folder / "1.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError):
        registry.load("t1-drift", now_s=101)
    with pytest.raises(UsageError):
        registry.load("../x", now_s=0)


def test_nobody_without_the_key_chooses_the_version(registry, tmp_path):
    folder = tmp_path / "detectors" / "t1-drift"
    registry.release(dataclasses.replace(CARD, version=2), {"w": np.zeros(1)}, KEY)
    signed = (folder / "current").read_text()
    document = json.loads(signed)
    document["pointer"]["current"] = 1
    for bad in (json.dumps([1]), json.dumps(document), "{", json.dumps({"pointer": {}})):
        (folder / "current").write_text(bad)
        with pytest.raises(IntegrityError):
            registry.load("t1-drift", now_s=50)
    (folder / "current").write_text(signed)
    with pytest.raises(IntegrityError):
        registry.rollback("t1-drift", OTHER, now_s=50)
    assert registry.load("t1-drift", now_s=50)[0]["version"] == 2


def test_a_version_stands_for_one_set_of_weights(registry, tmp_path):
    folder = tmp_path / "detectors" / "t1-drift"
    second = dataclasses.replace(CARD, version=2)
    registry.release(second, {"w": np.zeros(1)}, KEY)
    other = DetectorRegistry(tmp_path / "other", KEY.public)
    other.release(second, {"w": np.ones(1)}, KEY)
    kept = {n: (folder / n).read_bytes() for n in ("2.npz", "2.json")}
    for name in kept:
        (folder / name).write_bytes((tmp_path / "other" / "t1-drift" / name).read_bytes())
    with pytest.raises(IntegrityError) as caught:
        registry.load("t1-drift", now_s=50)
    assert "second version 2" in caught.value.got
    for name, raw in kept.items():
        (folder / name).write_bytes(raw)
    assert registry.rollback("t1-drift", KEY, now_s=50) == 1
    with pytest.raises(IntegrityError):
        registry.release(second, {"w": np.ones(1)}, KEY)
    registry.release(dataclasses.replace(CARD, version=3), WEIGHTS, KEY)
    assert registry.load("t1-drift", now_s=50)[0]["version"] == 3


def test_without_its_list_of_versions_no_number_is_free(registry, tmp_path):
    folder = tmp_path / "detectors" / "t1-drift"
    (folder / "current").unlink()
    for call in (
        lambda: registry.load("t1-drift", now_s=50),
        lambda: registry.release(CARD, {"w": np.ones(1)}, KEY),
        lambda: registry.rollback("t1-drift", KEY, now_s=50),
    ):
        with pytest.raises(IntegrityError) as caught:
            call()
        assert "gone" in caught.value.got
    assert (folder / "1.npz").exists()


def test_the_ledger_remembers_what_the_folder_forgets(tmp_path):
    with Ledger.open(tmp_path / "home") as ledger:
        made = DetectorRegistry(tmp_path / "d", KEY.public, LedgerRecord(ledger, KEY.public))
        folder = tmp_path / "d" / "t1-drift"
        made.release(CARD, WEIGHTS, KEY)
        first = (folder / "current").read_bytes()
        second = dataclasses.replace(CARD, version=2)
        made.release(second, {"w": np.zeros(1)}, KEY)
        assert made.load("t1-drift", now_s=50)[0]["version"] == 2
        newest = (folder / "current").read_bytes()
        (folder / "current").write_bytes(first)  # an older signed state put back
        for call in (
            lambda: made.load("t1-drift", now_s=50),
            lambda: made.release(dataclasses.replace(CARD, version=3), WEIGHTS, KEY),
        ):
            with pytest.raises(IntegrityError, match="does not load") as caught:
                call()
            assert "on record" in caught.value.got
        (folder / "current").write_bytes(newest)
        assert made.rollback("t1-drift", KEY, now_s=50) == 1
        assert made.load("t1-drift", now_s=50)[0]["version"] == 1
        shutil.rmtree(folder)  # everything gone: the key holder starts anew
        for version in (1, 2):
            with pytest.raises(IntegrityError):
                made.release(dataclasses.replace(CARD, version=version), WEIGHTS, KEY)
        with pytest.raises(IntegrityError):
            made.load("t1-drift", now_s=50)
    with Ledger.read(tmp_path / "home") as reader:
        assert [v for v, _ in LedgerRecord(reader, KEY.public).of("t1-drift")] == [1, 2, 1]
        assert LedgerRecord(reader, OTHER.public).of("t1-drift") == []


def test_a_card_from_the_future_does_not_load(registry):
    ahead = dataclasses.replace(CARD, version=2, created_s=1000)
    registry.release(ahead, WEIGHTS, KEY)
    assert registry.load("t1-drift", now_s=700)[0]["version"] == 2
    with pytest.raises(IntegrityError) as caught:
        registry.load("t1-drift", now_s=699)
    assert "future" in caught.value.got


def test_uniformity_martingale_keeps_still_and_speaks_up():
    rng = np.random.default_rng(0)
    peaks = [UniformityMartingale().update(rng.random(20_000)) for _ in range(40)]
    assert sum(p >= 1.0 for p in peaks) <= 8
    assert UniformityMartingale().update(rng.beta(0.8, 1.0, 20_000)) > 3


def test_a_slow_boil_is_seen_before_recall_falls():
    rng = np.random.default_rng(1)
    clean = regime("autocorrelated", 60_000, rng=rng)[:, None]
    boil = clean.copy()
    boil[20_000:, 0] += np.linspace(0, 8, 40_000)
    drift = InputDrift(clean[:10_000])
    first = next(
        start + hits[0]
        for start in range(10_000, 60_000, 1000)
        if (hits := drift.update(boil[start : start + 1000]))[0] >= 0
    )
    assert 20_000 < first < 32_000
    bank = AlarmBank(1, seed=0)
    bank.update(boil[:first])
    assert canary(bank, boil[first - 4000 : first]).found
    still = InputDrift(clean[:10_000])
    assert all(still.update(clean[s : s + 1000]) == [-1] for s in range(10_000, 60_000, 1000))


def test_a_daily_canary_is_found_and_leaves_no_trace():
    rows = regime("autocorrelated", 30_000, rng=3)[:, None]
    bank = AlarmBank(1, seed=0)
    bank.update(rows[:20_000])
    before = bank._state["ring"].copy()
    assert canary(bank, rows[20_000:28_000]).found
    np.testing.assert_array_equal(before, bank._state["ring"])


def test_forecast_says_use_the_mean_and_covers():
    t1 = TlsDevice(qubits=30).sample(120, rng=0)
    advice, inside, better = [], [], []
    for q in range(30):
        got = forecast(t1[:113, q], horizon=7)
        advice.append(got.advice)
        inside += list((t1[113:, q] >= got.low) & (t1[113:, q] <= got.high))
        better.append(got.error[got.method] / got.error["persistence"])
    assert advice.count("use the mean") >= 5
    assert 0.7 < np.mean(inside) < 0.9
    assert np.mean(better) < 0.95


def test_time_to_threshold_feeds_a_window():
    falling = (
        200 * np.exp(-0.03 * np.arange(60)) * np.exp(np.random.default_rng(0).normal(0, 0.02, 60))
    )
    got = forecast(falling, horizon=7, threshold=float(falling[-1] * 0.9))
    assert (np.diff(got.p_cross) >= 0).all()
    assert recalibration_window(got) == int((got.p_cross < 0.2).sum()) > 0
    late = forecast(falling, horizon=7, threshold=float(falling[-1] * 1.5))
    assert recalibration_window(late) == 0  # no step is safe
    assert recalibration_window(forecast(falling, horizon=7, threshold=1.0)) is None
    for bad in ([1.0] * 5, [-1.0] * 60, [np.nan] * 60):
        with pytest.raises(InputError):
            forecast(bad)


def ordinary(rng, hours=300):
    return [
        AuditEvent(
            t_s=3600.0 * h + rng.uniform(0, 3600), principal=pseudonym(b"k" * 32, f"u{u}"),
            role="engineer", action=str(rng.choice(["run job", "get result", "list jobs"])),
            target=f"backend-{rng.integers(4)}", allowed=bool(rng.random() > 0.02),
        )
        for h in range(hours)
        for u in rng.choice(20, 4, replace=False)
        for _ in range(rng.poisson(6) + 1)
    ]  # fmt: skip


def test_reconnaissance_among_ordinary_events():
    rng = np.random.default_rng(0)
    profile = AccessProfile().fit(ordinary(rng))
    quiet = ordinary(rng, 350)
    assert len(quiet) > 9000
    attackers = set()
    attack = []
    for k in range(20):
        who = pseudonym(b"k" * 32, f"evil{k}")
        attackers.add(who)
        attack += [
            AuditEvent(t_s=3600.0 * (12 + k) + j, principal=who, role="engineer",
                       action="describe quota", target=f"secret-{j}", allowed=j % 3 == 0)
            for j in range(25)
        ]  # fmt: skip
    verdicts = profile.judge(quiet + attack)
    flagged = {who for (who, _), (v, _) in verdicts.items() if v > Tighten.NONE}
    assert attackers <= flagged
    false = [v for (who, _), (v, _) in verdicts.items() if who not in attackers]
    assert np.mean([v > Tighten.NONE for v in false]) < 0.03
    assert not any(u in json.dumps(profile.roles) for u in {e.principal for e in quiet})
    stranger = [dataclasses.replace(attack[0], role="new")]
    assert next(iter(profile.judge(stranger).values()))[0] is Tighten.STEP_UP


def test_privacy_budget_denies_when_spent():
    release = PrivateRelease(epsilon=1.0, rng=0)
    values = [PrivateRelease(epsilon=1.0, rng=k).count(50, epsilon=1.0) for k in range(3000)]
    assert abs(np.mean(values) - 50) < 0.2
    # Variance of the discrete Laplace: 2 q / (1 - q)^2 with q = exp(-epsilon).
    q = np.exp(-1.0)
    assert np.var(values) == pytest.approx(2 * q / (1 - q) ** 2, rel=0.15)
    release.count(5, epsilon=0.9)
    for bad in (0.2, -1.0, float("nan")):
        with pytest.raises(DeniedError):
            release.count(5, epsilon=bad)
