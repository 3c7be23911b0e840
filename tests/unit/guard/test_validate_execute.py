import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import BackendError
from interlock.guard.control import Program, check_control
from interlock.guard.execute.isolation import IsolationControl, IsolationSettings
from interlock.guard.execute.run import FULL_COUNTS, RunControl, RunSettings, describe
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.validate.counts import CountsControl, CountsSettings
from interlock.guard.validate.figures import _widest, figures, wilson
from interlock.guard.validate.interval import IntervalControl, IntervalSettings
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask

TWO_BITS: Any = SimpleNamespace(num_clbits=2)


def sampled(shots: int = 10, **changes: Any) -> Program:
    return Program(circuit=TWO_BITS, native=None, shots=shots, **changes)


def samples(*rows: dict[str, int], width: int = 2) -> Samples:
    return Samples(registers={"c": list(rows)}, widths={"c": width}, shots=10)


GOOD = samples({"00": 4, "11": 6})


@pytest.mark.parametrize(
    ("item", "program", "rule"),
    [
        (GOOD, sampled(), None),
        (samples({"00": 4, "11": 5}), sampled(), "shots"),
        (samples({"00": 4, "11": 6}), sampled(11), "shots"),
        (samples({"00": 14, "11": -4}), sampled(), "count"),
        (samples({"00": True, "11": 9}), sampled(), "count"),
        (samples({"00": 4, "1": 6}), sampled(), "bits"),
        (samples({"00": 4, "12": 6}), sampled(), "bits"),
        (samples({"0": 4, "1": 6}, width=1), sampled(), "width"),
        (samples({"00": 4, "11": 6}), sampled(values=[[0.1], [0.2]]), "rows"),
        (Samples(registers={}, widths={}, shots=10), sampled(), "width"),
    ],
)
def test_counts_that_cannot_be_right_fall_back(tmp_path: Path, item, program, rule) -> None:  # type: ignore[no-untyped-def]
    request = a_request(tmp_path, programs=(program,), result=Result(items=(item,)))
    verdict = ask(CountsControl(), request, CountsSettings())
    assert [f.rule for f in verdict.findings] == ([f"validate.counts.{rule}"] if rule else [])
    assert verdict.decision is (Decision.FALLBACK if rule else Decision.ALLOW)


def estimated(value: float, error: float = 0.01, shape: tuple[int, ...] = (1,)) -> Result:
    return Result(items=(Estimates(values=[value], errors=[error], shape=shape),))


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        (estimated(1.5), None),
        (estimated(-1.5), None),
        (estimated(1.6), "bound"),
        (estimated(float("nan")), "finite"),
        (estimated(0.1, float("inf")), "finite"),
        (estimated(0.1, -0.1), "finite"),
        (estimated(0.1, shape=(2,)), "shape"),
        (Result(items=()), "items"),
    ],
)
def test_estimates_outside_physics_fall_back(tmp_path: Path, result, rule) -> None:  # type: ignore[no-untyped-def]
    program = Program(circuit=TWO_BITS, native=None, bounds=(1.5,), precision=0.01)
    request = a_request(tmp_path, programs=(program,), result=result)
    verdict = ask(CountsControl(), request, CountsSettings())
    assert [f.rule for f in verdict.findings] == ([f"validate.counts.{rule}"] if rule else [])


def test_every_figure_has_an_interval_and_a_wide_one_falls_back(tmp_path: Path) -> None:
    request = a_request(tmp_path, result=Result(items=(GOOD,)))
    verdict = ask(IntervalControl(), request, IntervalSettings())
    assert verdict.decision is Decision.ALLOW
    for figure in verdict.evidence["figures"]:
        assert 0 <= figure["low"] < figure["value"] < figure["high"] <= 1
    narrow = IntervalSettings(max_half_width=0.01)
    assert ask(IntervalControl(), request, narrow).decision is Decision.FALLBACK
    empty = a_request(tmp_path, result=Result(items=(samples({}),)))
    assert ask(IntervalControl(), empty, IntervalSettings()).decision is Decision.FALLBACK


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_of_a_proportion_holds_it_and_stays_in_the_unit(pair: tuple[int, int]) -> None:
    count, shots = pair
    low, high = wilson(count, shots, 1.645)
    assert 0 <= low <= count / shots <= high <= 1
    assert low < high


def test_a_level_below_the_policys_is_refused(tmp_path: Path) -> None:
    for level, minimum, decision in [
        ("none", "none", Decision.ALLOW),
        ("confined", "rlimits", Decision.ALLOW),
        ("rlimits", "confined", Decision.DENY),
        ("magic", "none", Decision.DENY),
    ]:
        request = a_request(tmp_path, isolation=level)
        settings = IsolationSettings(minimum=minimum)  # type: ignore[arg-type]
        assert ask(IsolationControl(), request, settings).decision is decision


def broken() -> Result:
    raise BackendError("queue closed", code="backend-offline")


def dying() -> Result:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("execute", "rule"),
    [(broken, "backend-offline"), (dying, "device-error"), (lambda: 1 / 0, "device-error")],
)
def test_a_device_that_fails_leads_to_the_baseline(tmp_path: Path, execute, rule) -> None:  # type: ignore[no-untyped-def]
    verdict = ask(RunControl(), a_request(tmp_path, execute=execute), RunSettings())
    assert verdict.decision is Decision.FALLBACK
    assert verdict.findings[0].rule == f"execute.run.{rule}"
    strict = RunSettings(on_failure="deny")
    denied = ask(RunControl(), a_request(tmp_path, execute=execute), strict)
    assert denied.decision is Decision.DENY


def test_a_device_that_hangs_times_out(tmp_path: Path) -> None:
    import threading

    never = threading.Event()
    request = a_request(tmp_path, execute=lambda: never.wait(20))
    verdict = ask(RunControl(), request, RunSettings(timeout_s=0.05))
    never.set()
    assert verdict.findings[0].rule == "execute.run.timeout"


def test_large_counts_are_kept_by_their_top_and_a_hash() -> None:
    many = {format(i, "012b"): i for i in range(FULL_COUNTS + 1)}
    kept = describe(Samples(registers={"c": [many]}, widths={"c": 12}, shots=1))
    counts = kept["registers"]["c"]["counts"][0]
    assert counts["distinct"] == FULL_COUNTS + 1
    assert len(counts["top"]) == 64
    assert len(counts["sha256"]) == 64


def test_they_keep_the_contract_of_a_control() -> None:
    fault = {"rule": "shots", "got": "9", "expected": "10", "where": "circuit 0"}
    check_control(CountsControl(), a_job(), CountsSettings(), {"faults": [fault]})
    check_control(IntervalControl(), a_job(), IntervalSettings(), {"half_width": None})
    check_control(IsolationControl(), a_job(), IsolationSettings(), {"level": "none"})
    failed = {"failed": {"kind": "timeout", "message": "no result in 1 s"}}
    check_control(RunControl(), a_job(), RunSettings(), json.loads(json.dumps(failed)))


@pytest.mark.parametrize("low", [[0.1, math.nan], [math.nan, 0.1], [-math.inf, 0.1]])
def test_an_interval_that_is_not_finite_is_seen_wherever_it_stands(low: list[float]) -> None:
    one = {"low": [0.0], "high": [1.0]}
    for tables in (
        [{"low": low, "high": [0.5, 0.5]}, one],
        [one, {"low": low, "high": [0.5, 0.5]}],
    ):
        assert _widest(tables) is None
    assert _widest([one, {"low": [0.2], "high": [0.4]}]) == 0.5
    assert _widest([]) == 0.0


def test_a_job_with_an_interval_that_is_not_finite_has_no_widest_one() -> None:
    fine = Estimates(values=[0.5], errors=[0.1], shape=(1,))
    beyond = Estimates(values=[1.0], errors=[1e308], shape=(1,))
    for items in ((fine, beyond), (beyond, fine)):
        assert figures(Result(items=items), 0.9).widest is None
