import errno
import json
import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from interlock.crypto import files
from interlock.errors import StorageError
from interlock.guard.admit.budget import BudgetControl, BudgetSettings, Price
from interlock.guard.admit.kill_switch import AdmitKillSwitch, GovernKillSwitch
from interlock.guard.admit.principal import PrincipalControl, PrincipalSettings
from interlock.guard.control import Settings, check_control
from interlock.guard.state import Cap, State, Window, resume, stop
from interlock.types import CircuitFacts, Decision, Mode, Outcome, Principal
from tests.unit.guard.doubles import a_job, a_request, ask


def test_a_principal_the_policy_names_is_admitted_and_another_is_not(tmp_path: Path) -> None:
    control = PrincipalControl()
    settings = PrincipalSettings(allow=("alice", "svc-*"))
    for who, decision in [("alice", Decision.ALLOW), ("svc-1", Decision.ALLOW),
                          ("mallory", Decision.DENY), ("", Decision.DENY)]:  # fmt: skip
        request = a_request(tmp_path, job=a_job(principal=Principal(id=who)))
        assert ask(control, request, settings).decision is decision, who


def test_an_agent_for_nobody_is_denied(tmp_path: Path) -> None:
    agent = Principal(id="bot", kind="agent")
    verdict = ask(PrincipalControl(), a_request(tmp_path, job=a_job(principal=agent)),
                  PrincipalSettings())  # fmt: skip
    assert [f.rule for f in verdict.findings] == ["admit.principal.agent-for-nobody"]


@pytest.mark.parametrize("control", [AdmitKillSwitch(), GovernKillSwitch()])
def test_the_stop_denies_until_it_is_lifted(tmp_path: Path, control: AdmitKillSwitch) -> None:
    request = a_request(tmp_path)
    assert ask(control, request, Settings()).decision is Decision.ALLOW
    stop(tmp_path, "smoke in the lab")
    verdict = ask(control, request, Settings())
    assert verdict.decision is Decision.DENY
    assert verdict.findings[0].got == "smoke in the lab"
    (tmp_path / "STOP").write_bytes(b"\xff\xfe broken")
    assert ask(control, request, Settings()).decision is Decision.DENY
    assert resume(tmp_path)
    assert not resume(tmp_path)
    assert ask(control, request, Settings()).decision is Decision.ALLOW


def test_a_stop_path_that_is_a_folder_still_stops(tmp_path: Path) -> None:
    (tmp_path / "STOP").mkdir()
    assert ask(AdmitKillSwitch(), a_request(tmp_path), Settings()).decision is Decision.DENY


def big(shots: int, qubits: int = 2) -> CircuitFacts:
    return CircuitFacts(
        sha256="1" * 64, num_qubits=qubits, num_clbits=2, size=1, depth=1, two_qubit_ops=0,
        shots=shots,
    )  # fmt: skip


def test_limits_of_one_job(tmp_path: Path) -> None:
    settings = BudgetSettings(
        max_qubits=5, max_shots_per_job=1000, max_cost_usd_per_job=1.0,
        prices={"paid*": Price(per_shot_usd=0.01)},
    )  # fmt: skip
    cases = [
        (a_job(circuits=(big(1000),)), None),
        (a_job(circuits=(big(600), big(401))), "admit.budget.shots-per-job"),
        (a_job(circuits=(big(10, 6),)), "admit.budget.qubits-per-job"),
        (a_job(circuits=(big(101),), backend="paid-1"), "admit.budget.cost-usd-per-job"),
        (a_job(circuits=(big(100),), backend="paid-1"), None),
    ]
    for job, rule in cases:
        verdict = ask(BudgetControl(), a_request(tmp_path, job=job), settings)
        assert [f.rule for f in verdict.findings] == ([rule] if rule else [])


def test_an_estimate_counts_the_shots_its_precision_needs() -> None:
    facts = CircuitFacts(sha256="1", num_qubits=1, num_clbits=0, size=1, depth=1, two_qubit_ops=0,
                         bindings=3, precision=0.1)  # fmt: skip
    assert a_job(circuits=(facts,)).total_shots == 300


def test_the_day_is_spent_and_comes_back_after_24_hours(tmp_path: Path) -> None:
    settings = BudgetSettings(max_jobs_per_day=2)
    now = [1_000_000.0]
    request = a_request(tmp_path, now=lambda: now[0])
    decisions = [ask(BudgetControl(), request, settings).decision for _ in range(3)]
    assert decisions == [Decision.ALLOW, Decision.ALLOW, Decision.DENY]
    now[0] += 86_400 * (1 + 2 / 64)
    assert ask(BudgetControl(), request, settings).decision is Decision.ALLOW


def test_a_clock_set_back_frees_nothing(tmp_path: Path) -> None:
    settings = BudgetSettings(max_jobs_per_day=1)
    now = [1_000_000.0]
    request = a_request(tmp_path, now=lambda: now[0])
    assert ask(BudgetControl(), request, settings).decision is Decision.ALLOW
    now[0] -= 10 * 86_400
    assert ask(BudgetControl(), request, settings).decision is Decision.DENY


def test_a_job_that_never_ran_gives_its_shots_back(tmp_path: Path) -> None:
    settings = BudgetSettings(max_shots_per_day=1000)
    control = BudgetControl()
    for ran, second in [(False, Decision.ALLOW), (True, Decision.DENY)]:
        home = tmp_path / str(ran)
        request = a_request(home, job=a_job(circuits=(big(1000),)))
        assert ask(control, request, settings).decision is Decision.ALLOW
        if ran:
            request.shared["executed"] = True
        control.settle(request, settings, Outcome.DENY)
        again = a_request(home, job=a_job(id="job-2", circuits=(big(1000),)))
        assert ask(control, again, settings).decision is second


def _take(home: str, wins: "multiprocessing.Queue[int]") -> None:
    state = State(Path(home))
    caps = (Cap("jobs", 1.0, 25.0),)
    wins.put(sum(state.reserve(Window("s", 3600.0), caps, 5000.0).taken for _ in range(20)))


def test_processes_together_never_take_more_than_there_is(tmp_path: Path) -> None:
    State(tmp_path)
    context = multiprocessing.get_context("spawn")
    wins: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_take, args=(str(tmp_path), wins)) for _ in range(4)]
    for p in processes:
        p.start()
    total = sum(wins.get(timeout=60) for _ in processes)
    for p in processes:
        p.join()
    assert total == 25


def test_a_broken_state_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database at all, not even close" * 50)
    with pytest.raises(StorageError) as caught:
        State(tmp_path)
    assert caught.value.code == "storage-corrupt"


def test_a_locked_state_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr("interlock.guard.state.BUSY_S", 0.1)
    state = State(tmp_path)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError) as caught:
        state.reserve(Window("s", 3600.0), (Cap("jobs", 1.0, 25.0),), 0.0)
    other.close()
    assert caught.value.code == "storage-locked"


@pytest.mark.parametrize(
    ("control", "settings", "evidence"),
    [
        (PrincipalControl(), PrincipalSettings(allow=("bob",)), {"principal": "alice"}),
        (AdmitKillSwitch(), Settings(), {"stopped": "why"}),
        (GovernKillSwitch(), Settings(), {"stopped": None}),
        (BudgetControl(), BudgetSettings(max_shots_per_job=1),
         {"qubits": 1, "shots": 2, "cost_usd": 0.0, "usage": []}),
    ],
)  # fmt: skip
def test_they_keep_the_contract_of_a_control(control, settings, evidence) -> None:  # type: ignore[no-untyped-def]
    check_control(control, a_job(), settings, json.loads(json.dumps(evidence)))


def test_qpu_seconds_are_limited_and_a_backend_without_an_entry_is_denied(tmp_path: Path) -> None:
    prices = {"aer_*": Price(), "*_paid": Price(per_shot_s=0.01, per_task_s=1.0)}
    settings = BudgetSettings(max_qpu_s_per_job=3.0, max_qpu_s_per_day=5.0, prices=prices)
    for backend, shots, rules in [
        ("aer_x", 10_000, []),
        ("x_paid", 201, ["admit.budget.qpu-s-per-job"]),  # 1 + 2.01 s
        ("x_paid", 200, []),
        ("x_paid", 200, ["admit.budget.qpu-s-per-day"]),  # 3 s are used
        ("unlisted", 1, ["admit.budget.qpu-s-unknown"]),
    ]:
        request = a_request(tmp_path, job=a_job(circuits=(big(shots),), backend=backend))
        verdict = ask(BudgetControl(), request, settings)
        assert [f.rule for f in verdict.findings] == rules, (backend, shots)


def test_what_jobs_under_way_hold_is_reserved_until_they_end(tmp_path: Path) -> None:
    control, settings = BudgetControl(), BudgetSettings(max_shots_per_day=1000)
    request = a_request(tmp_path, job=a_job(circuits=(big(100),), mode=Mode.ENFORCED))
    ask(control, request, settings)
    scope = f"budget/{request.job.principal.tenant}/{request.job.principal.id}"

    def held() -> dict[str, float]:
        return request.state.totals(scope, 86_400.0, request.now())[scope]

    assert (held()["shots"], held()["shots reserved"], held()["jobs reserved"]) == (100, 100, 1)
    request.shared["executed"] = True
    control.settle(request, settings, Outcome.RELEASE)
    assert (held()["shots"], held()["shots reserved"], held()["jobs reserved"]) == (100, 0, 0)
    for mode in Mode:
        other = a_request(tmp_path, job=a_job(circuits=(big(100),), mode=mode))
        ask(control, other, settings)
        assert held()["shots reserved"] == (100 if mode is Mode.ENFORCED else 0)
        control.settle(other, settings, Outcome.DENY)  # it never ran
    assert (held()["shots"], held()["jobs"], held()["shots reserved"]) == (100, 3, 0)


def test_totals_are_of_a_scope_and_what_is_beneath_it(tmp_path: Path) -> None:
    state = State(tmp_path)
    for scope in ("budget/a", "budget/a/x", "budget/ab/x", "budget/a%/x", "budget"):
        state.reserve(Window(scope, 60.0), (Cap("jobs", 1.0),), 100.0)
    assert set(state.totals("budget/a", 60, 100.0)) == {"budget/a", "budget/a/x"}
    assert state.totals("budget/a%", 60, 100.0) == {"budget/a%/x": {"jobs": 1.0}}
    assert state.totals("budget/a", 60, 300.0) == {}


def test_a_full_disk_stops_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    stop(tmp_path, "smoke in the lab")
    assert State(tmp_path).stopped() == "no reason given"


def test_an_input_output_error_on_a_full_disk_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(files.os, "statvfs", lambda _: Full())
    state = State(tmp_path)

    def failing() -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(state._connections, "_connect", failing)
    state._connections.let_go()
    with pytest.raises(StorageError) as caught:
        state.reserve(Window("s", 60.0), (), 0.0)
    assert caught.value.code == "storage-full"
