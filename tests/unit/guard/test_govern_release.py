from pathlib import Path

from interlock.guard.control import Program, check_control
from interlock.guard.govern.rate import RateControl, RateSettings
from interlock.guard.release.baseline import BaselineControl
from interlock.guard.release.lineage import LineageControl, LineageSettings
from interlock.guard.result import Estimates, Result
from interlock.types import Decision, Outcome
from tests.unit.guard.doubles import a_job, a_request, ask


def a_result(value: float) -> Result:
    return Result(items=(Estimates(values=[value], errors=[0.0], shape=(1,)),))


def test_releases_are_counted_and_the_excess_is_denied(tmp_path: Path) -> None:
    settings = RateSettings(max_releases=2, window_s=60)
    control = RateControl()
    decisions = [
        ask(control, a_request(tmp_path, result=a_result(1.0)), settings).decision for _ in range(3)
    ]
    assert decisions == [Decision.ALLOW, Decision.ALLOW, Decision.DENY]


def test_the_volume_of_the_output_is_limited(tmp_path: Path) -> None:
    settings = RateSettings(max_volume=10, volume_field="values", on_excess="hold")
    control = RateControl()
    decisions = [
        ask(control, a_request(tmp_path, result=a_result(v)), settings).decision
        for v in (6.0, -5.0, 4.0, 0.5)
    ]
    assert decisions == [Decision.ALLOW, Decision.HOLD, Decision.ALLOW, Decision.HOLD]


def test_a_volume_that_cannot_be_read_is_denied(tmp_path: Path) -> None:
    settings = RateSettings(max_volume=10, volume_field="size")
    for decode in (lambda _: {}, lambda _: {"size": "big"}, lambda _: {"size": float("nan")},
                   lambda _: {"size": True}):  # fmt: skip
        request = a_request(tmp_path, result=a_result(1.0), decode=decode)
        assert ask(RateControl(), request, settings).decision is Decision.DENY


def test_a_job_that_was_not_released_gives_its_release_back(tmp_path: Path) -> None:
    settings = RateSettings(max_releases=1)
    control = RateControl()
    for outcome, second in [(Outcome.DENY, Decision.ALLOW), (Outcome.RELEASE, Decision.DENY)]:
        home = tmp_path / outcome.value
        first = a_request(home, result=a_result(1.0))
        assert ask(control, first, settings).decision is Decision.ALLOW
        control.settle(first, settings, outcome)
        again = a_request(home, result=a_result(1.0))
        assert ask(control, again, settings).decision is second


def test_the_baseline_counts_instead_of_the_quantum_answer_not_beside_it(tmp_path: Path) -> None:
    settings = RateSettings(max_releases=1)
    request = a_request(tmp_path, result=a_result(1.0))
    assert ask(RateControl(), request, settings).decision is Decision.ALLOW
    request.branch = "baseline"
    assert ask(RateControl(), request, settings).decision is Decision.ALLOW


def test_a_baseline_is_needed_only_on_its_branch(tmp_path: Path) -> None:
    control = BaselineControl()
    program = Program(circuit=None, native=None)
    request = a_request(tmp_path, programs=(program,))
    assert ask(control, request, None).decision is Decision.ALLOW
    request.branch = "baseline"
    verdict = ask(control, request, None)
    assert verdict.decision is Decision.DENY
    assert verdict.findings[0].rule == "release.baseline.none"
    request.baseline = lambda: a_result(0.25)
    assert ask(control, request, None).decision is Decision.ALLOW
    assert request.result == a_result(0.25)
    request.baseline = lambda: a_result(float("nan"))
    assert ask(control, request, None).decision is Decision.DENY


def test_a_baseline_that_does_not_repeat_itself_is_denied(tmp_path: Path) -> None:
    program = Program(circuit=None, native=None)
    answers = iter([0.25, 0.250000001])
    request = a_request(
        tmp_path, branch="baseline", programs=(program,), baseline=lambda: a_result(next(answers))
    )
    verdict = ask(BaselineControl(), request, None)
    assert verdict.decision is Decision.DENY
    assert [f.rule for f in verdict.findings] == ["release.baseline.not-repeatable"]


def test_nothing_is_released_that_could_not_be_explained(tmp_path: Path) -> None:
    request = a_request(tmp_path, result=a_result(1.0))
    request.shared |= {"session": "s", "policy": "p"}
    assert ask(LineageControl(), request, LineageSettings()).decision is Decision.ALLOW
    strict = LineageSettings(require=("calibration",))
    assert ask(LineageControl(), request, strict).decision is Decision.DENY
    request.result = None
    assert ask(LineageControl(), request, LineageSettings()).decision is Decision.DENY


def test_they_keep_the_contract_of_a_control() -> None:
    usage = [{"unit": "releases", "used": 1.0, "amount": 1.0}]
    check_control(RateControl(), a_job(), RateSettings(max_releases=1),
                  {"volume": 0.0, "usage": usage})  # fmt: skip
    check_control(BaselineControl(), a_job(), None, {"needed": True, "available": False})
    check_control(LineageControl(), a_job(), LineageSettings(), {"links": {}, "session": None})
