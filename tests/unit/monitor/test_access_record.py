"""Profiles and privacy budgets on record; standings that only tighten."""

import itertools
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.cli import main
from interlock.errors import DeniedError, InputError, IntegrityError
from interlock.guard.admit.behaviour import BehaviourControl
from interlock.guard.control import check_control
from interlock.ledger import Ledger
from interlock.monitor.access import Tighten, pseudonym
from interlock.monitor.access_record import AccessWatch, LedgeredRelease, pseudonym_key, read_events
from interlock.monitor.store import MonitorStore
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def rows(seed=0, hours=60):
    rng = np.random.default_rng(seed)
    return [
        {"t_s": 3600.0 * (8 + h) + float(rng.uniform(0, 3000)), "principal": f"user{u}",
         "role": "engineer", "action": str(rng.choice(["submit job", "get result"])),
         "target": f"backend-{rng.integers(4)}", "allowed": True}
        for h in range(hours) for u in range(3) for _ in range(int(rng.integers(2, 6)))
    ]  # fmt: skip


def misuse(who="user1", hour=200):
    return [
        {"t_s": 3600.0 * hour + k, "principal": who, "role": "engineer", "action": "describe quota",
         "target": f"secret-{k}", "allowed": False} for k in range(30)
    ]  # fmt: skip


def log(path, events):
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def test_learn_judge_and_the_guarded_path(home, tmp_path, capsys):
    ordinary = log(tmp_path / "ordinary.ndjson", rows())
    assert main(["monitor", "access", "learn", str(ordinary), "--home", str(home)]) == 0
    assert "user1" not in (home / "access-profile.json").read_text()
    bad = log(tmp_path / "bad.ndjson", misuse())
    assert main(["monitor", "access", "judge", str(bad), "--home", str(home), "--json"]) == 9
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    who = pseudonym(pseudonym_key(home), "user1")
    assert said[0]["pseudonym"] == who
    assert said[0]["step"] == "hold"
    control, rules = BehaviourControl(), BehaviourControl.Settings()

    def decided(name, now):
        principal = msgspec.structs.replace(a_job().principal, id=name)
        request = a_request(home, job=a_job(principal=principal), now=lambda: now)
        verdict = ask(control, request, rules)
        check_control(control, a_job(), rules, control.gather(request, rules))
        return verdict

    during = 3600.0 * 200 + 100
    assert decided("user1", during).decision is Decision.DENY
    assert decided("user1", during).findings[0].rule == "admit.behaviour.hold"
    assert decided("user2", during).decision is Decision.ALLOW
    assert decided("user1", during + 7200).decision is Decision.ALLOW


def test_counts_leave_by_the_command_and_out_of_the_budget_only(home, tmp_path, capsys):
    events = log(tmp_path / "x.ndjson", rows())
    with Ledger.open(home) as ledger:
        ledger.append("start", {}, {}).wait()
    command = [
        "monitor", "access", "release", str(events), "--name", rows()[0]["role"],
        "--name", "nobody",
        "--budget", "b", "--total", "10", "--json", "--home", str(home), "--epsilon",
    ]  # fmt: skip
    assert main([*command, "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    people = len({r["principal"] for r in rows() if r["role"] == rows()[0]["role"]})
    assert abs(found["counts"][rows()[0]["role"]] - people) <= 10  # e**-50
    assert found["counts"]["nobody"] <= 10
    assert (found["spent"], found["total"]) == (10.0, 10.0)
    for epsilon in ("1", "-1", "nan", "0", "1e-300"):
        assert main([*command, epsilon]) != 0
    assert main([*command[:-1], "--home", str(tmp_path / "none"), "--epsilon", "1"]) == 4
    capsys.readouterr()
    with Ledger.open(home) as ledger:
        assert "user1" not in str([e.header for e in ledger.entries()])


def test_a_profile_that_is_not_on_record_judges_nobody(home, tmp_path):
    key = pseudonym_key(home)
    events = read_events(log(tmp_path / "x.ndjson", rows()), key)
    with Ledger.open(home) as ledger:
        watch = AccessWatch(home, ledger)
        with pytest.raises(IntegrityError):
            watch.judge(events)
        profile = watch.learn(events)
        assert watch.load().to_json() == profile.to_json()
        path = home / "access-profile.json"
        good = path.read_text()
        path.write_text(good.replace('"rate": 0.01', '"rate": 0.00'))
        with pytest.raises(IntegrityError) as caught:
            watch.judge(events)
        assert caught.value.code == "monitor-access-profile"
        path.write_text(good)
        watch.learn(events, false_positive=0.05)
        path.write_text(good)  # the profile before: it is no longer the one in force
        with pytest.raises(IntegrityError):
            watch.judge(events)
        assert ledger.verify().ok


STEP = st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.integers(0, 2))


def test_a_standing_is_never_weakened(tmp_path):
    store, runs = MonitorStore(tmp_path), itertools.count()

    @settings(max_examples=25, deadline=None)
    @given(st.lists(STEP, max_size=12))
    def check(steps):
        run, strongest = next(runs), {}
        for who, until, step in steps:
            store.add_standings([(f"{run}{who}", float(until), step, "x")])
            strongest[who, until] = max(strongest.get((who, until), 0), step)
        for now in (0.0, 1.5, 3.5):
            for who in "ab":
                in_force = [s for (w, u), s in strongest.items() if w == who and u > now]
                assert store.standing(f"{run}{who}", now)[0] == max(in_force, default=0)

    check()


def test_no_answer_of_the_control_is_weaker_than_without_it():
    control = BehaviourControl()
    for step in Tighten:
        evidence = {"pseudonym": "x", "step": int(step), "field": "events"}
        decision = control.decide(a_job(), control.Settings(), evidence).decision
        assert (decision is Decision.ALLOW) == (step is Tighten.NONE)


def test_the_budget_in_the_ledger_outlasts_restarts_and_is_never_overspent(home):
    with Ledger.open(home) as ledger:
        release = LedgeredRelease(home, ledger, name="b", epsilon=1.0, rng=0)
        got = release.counts([("jobs", 100), ("users", 7)], epsilon=0.25)
        assert set(got) == {"jobs", "users"}
        assert release.spent == pytest.approx(0.5)
    with Ledger.open(home) as ledger:
        release = LedgeredRelease(home, ledger, name="b", epsilon=1.0, rng=0)
        assert release.spent == pytest.approx(0.5)
        for rest in (0.6, -1.0, float("nan"), float("inf")):
            with pytest.raises(DeniedError):
                release.counts([("jobs", 1)], epsilon=rest)
        assert release.spent == pytest.approx(0.5)
        release.counts([("jobs", 1)], epsilon=0.5)
        with pytest.raises(DeniedError):
            release.counts([("jobs", 1)], epsilon=1e-6)
        other = LedgeredRelease(home, ledger, name="other", epsilon=1.0, rng=0)
        assert other.spent == 0.0
        assert ledger.verify().ok


def test_the_total_of_a_budget_cannot_be_raised(home):
    with Ledger.open(home) as ledger:
        LedgeredRelease(home, ledger, name="b", epsilon=0.5, rng=0).counts([("x", 1)], epsilon=0.4)
        raised = LedgeredRelease(home, ledger, name="b", epsilon=100.0, rng=0)
        assert raised.total == pytest.approx(0.5)
        with pytest.raises(DeniedError):
            raised.counts([("x", 1)], epsilon=0.2)
        for total in (float("nan"), float("inf"), 0.0, -1.0):
            with pytest.raises(InputError):
                LedgeredRelease(home, ledger, name="c", epsilon=total).counts(
                    [("x", 1)], epsilon=0.1
                )


ENDLESS = json.dumps({
    "t_s": -1e300, "principal": "p", "role": "r", "action": "a", "target": "t", "allowed": True,
})  # fmt: skip


@pytest.mark.parametrize("line", ["{", "[]", '{"t_s": 1}', '{"t_s": "x"}', "null", ENDLESS])
def test_a_log_that_is_none_is_refused(tmp_path, line):
    (tmp_path / "x").write_text(line + "\n")
    with pytest.raises(InputError) as caught:
        read_events(tmp_path / "x", b"k" * 32)
    assert caught.value.code == "monitor-audit-log"
