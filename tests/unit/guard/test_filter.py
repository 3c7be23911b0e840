import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import InputError
from interlock.guard.control import check_control
from interlock.guard.filter.constraints import (
    Constraint,
    ConstraintsControl,
    ConstraintsSettings,
    violations,
)
from interlock.guard.filter.fields import NOT_FINITE, default_fields, plain
from interlock.guard.result import Estimates, Result, Samples
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask

ENERGY = Constraint(id="energy", field="energy", min=-2.0, max=0.0)


@pytest.mark.parametrize(
    ("rule", "fields", "bad"),
    [
        (ENERGY, {"energy": -1.0}, False),
        (ENERGY, {"energy": 0.5}, True),
        (ENERGY, {"energy": [-1.0, 0.5]}, True),
        (ENERGY, {"energy": "low"}, True),
        (ENERGY, {"energy": True}, True),
        (ENERGY, {"energy": []}, True),
        (ENERGY, {"energy": {NOT_FINITE: "nan"}}, True),
        (ENERGY, {}, True),
        (Constraint(id="t", field="x", type="integer"), {"x": 3}, False),
        (Constraint(id="t", field="x", type="integer"), {"x": 3.5}, True),
        (Constraint(id="t", field="x", type="integer"), {"x": True}, True),
        (Constraint(id="t", field="x", type="boolean"), {"x": True}, False),
        (Constraint(id="t", field="x", type="text"), {"x": 1}, True),
        (Constraint(id="s", field="x", allowed=("a", "b")), {"x": "b"}, False),
        (Constraint(id="s", field="x", allowed=("a", "b")), {"x": "c"}, True),
        (Constraint(id="r", relation="low <= high"), {"low": 1, "high": 2}, False),
        (Constraint(id="r", relation="low <= high"), {"low": 3, "high": 2}, True),
        (Constraint(id="r", relation="low <= 5"), {"low": 3}, False),
        (Constraint(id="r", relation="low <= high"), {"low": 3}, True),
        (Constraint(id="r", relation="low != high"), {"low": "a", "high": 2}, True),
    ],
)
def test_a_constraint_fires_when_it_should_and_only_then(rule, fields, bad) -> None:  # type: ignore[no-untyped-def]
    assert bool(violations(rule, fields)) is bad


def test_the_nearest_allowed_value_is_named() -> None:
    (finding,) = violations(ENERGY, {"energy": 0.5})
    assert finding.fix == "the nearest allowed value is 0"


def test_a_constraint_that_checks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="checks nothing"):
        Constraint(id="empty", field="x")
    with pytest.raises(ValueError, match="is not `a <= b`"):
        Constraint(id="bad", relation="__import__('os')")


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**6), 10**6),
    st.text(max_size=3),
    st.booleans(),
    st.none(),
)


@given(st.one_of(numbers, st.lists(numbers, max_size=4)))
def test_nothing_outside_the_range_is_allowed(value: object) -> None:
    settings = ConstraintsSettings(rules=(ENERGY,))
    verdict = ConstraintsControl().decide(a_job(), settings, {"fields": {"energy": plain(value)}})
    if verdict.decision is Decision.ALLOW:
        values = value if isinstance(value, list) else [value]
        assert values
        for v in values:
            assert isinstance(v, int | float)
            assert not isinstance(v, bool)
            assert -2.0 <= v <= 0.0


@given(st.recursive(st.floats(), lambda x: st.lists(x, max_size=3), max_leaves=6))
def test_no_nan_passes_the_default_filter(value: object) -> None:
    verdict = ConstraintsControl().decide(
        a_job(), ConstraintsSettings(), {"fields": {"x": plain(value)}}
    )

    def finite(v: object) -> bool:
        return all(map(finite, v)) if isinstance(v, list) else math.isfinite(v)  # type: ignore[arg-type]

    assert (verdict.decision is Decision.ALLOW) == finite(value)


def test_arrays_become_plain_and_strange_things_are_refused() -> None:
    assert plain(np.array([1.0, np.inf])) == [1.0, {NOT_FINITE: "inf"}]
    with pytest.raises(InputError):
        plain(object())


def test_the_default_fields_of_samples_and_estimates() -> None:
    samples = Samples(registers={"c": [{"00": 3, "11": 7}]}, widths={"c": 2}, shots=10)
    estimates = Estimates(values=[0.5, -1.0], errors=[0.1, 0.1])
    fields = default_fields(Result(items=(samples, estimates)))
    assert fields == {
        "values": [0.5, -1.0], "errors": [0.1, 0.1], "top": ["11"], "p_top": [0.7],
    }  # fmt: skip


@pytest.mark.parametrize("returns", [None, 5, {"x": object()}, {"energy": math.nan}])
def test_a_decoder_that_misbehaves_lets_nothing_through(tmp_path: Path, returns: object) -> None:
    request = a_request(tmp_path, decode=lambda _: returns, result=Result(items=()))
    settings = ConstraintsSettings(rules=(ENERGY,))
    try:
        verdict = ask(ConstraintsControl(), request, settings)
    except InputError:
        return  # the pipeline turns a failed gathering into DENY
    assert verdict.decision is Decision.DENY


def test_it_keeps_the_contract_of_a_control() -> None:
    check_control(
        ConstraintsControl(), a_job(), ConstraintsSettings(rules=(ENERGY,)),
        {"fields": {"energy": 1.0}},
    )  # fmt: skip
