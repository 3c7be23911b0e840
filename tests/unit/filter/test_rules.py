"""Units, schemas, expressions, plugins, fixes: each fires, stays quiet, and fails closed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.errors import PolicyError
from interlock.guard.filter import plugin
from interlock.guard.filter.constraints import (
    Constraint,
    ConstraintsControl,
    ConstraintsSettings,
    FixedOutput,
    fixed_fields,
    violations,
)
from interlock.guard.filter.expression import ExpressionError, compile_expression
from interlock.guard.filter.units import UNITS, convert
from interlock.guard.result import Result
from interlock.types import Decision
from tests.unit.guard.doubles import a_request, ask

GAP = Constraint(id="gap", field="gap", min=0.0, max=10.0, unit="eV")
SHAPE = {
    "type": "object",
    "properties": {"id": {"type": "string", "pattern": "^[a-z]+$"}, "n": {"maximum": 3}},
    "required": ["id"],
}


@pytest.mark.parametrize(
    ("rule", "fields", "bad"),
    [
        (GAP, {"gap": {"value": 0.1, "unit": "hartree"}}, False),
        (GAP, {"gap": {"value": 1.0, "unit": "hartree"}}, True),
        (GAP, {"gap": {"value": 1.0, "unit": "nm"}}, True),
        (GAP, {"gap": 1.0}, True),
        (GAP, {"gap": {"value": "1", "unit": "eV"}}, True),
        (GAP, {"gap": {"value": True, "unit": "eV"}}, True),
        (GAP, {"gap": [{"value": 1.0, "unit": "eV"}, {"value": -1.0, "unit": "eV"}]}, True),
        (Constraint(id="s", schema=SHAPE), {"id": "abc", "n": 2}, False),
        (Constraint(id="s", schema=SHAPE), {"id": "ABC"}, True),
        (Constraint(id="s", schema=SHAPE), {"n": 2}, True),
        (Constraint(id="s", field="o", schema=SHAPE), {"o": {"id": "a", "n": 4}}, True),
        (Constraint(id="s", field="o", schema=SHAPE), {}, True),
        (Constraint(id="e", expression="sum(w) <= 1"), {"w": [0.5, 0.5]}, False),
        (Constraint(id="e", expression="sum(w) <= 1"), {"w": [0.5, 0.6]}, True),
        (Constraint(id="e", expression="sum(w) <= 1"), {"w": "no list"}, True),
        (Constraint(id="e", expression="x / y > 1"), {"x": 1, "y": 0}, True),
        (Constraint(id="e", expression="x"), {"x": 1}, True),
        (Constraint(id="e", expression="x * 1e308 * 10 > 1"), {"x": 5.0}, True),
        (Constraint(id="w", field="x", max=1.0, when="kind == 'limit'"), {"x": 2, "kind": "limit"},
         True),
        (Constraint(id="w", field="x", max=1.0, when="kind == 'limit'"), {"x": 2, "kind": "m"},
         False),
        (Constraint(id="w", field="x", max=1.0, when="kind == 'limit'"), {"x": 0}, True),
        (Constraint(id="a", field="x", allowed=(1, 2)), {"x": True}, True),
    ],
)  # fmt: skip
def test_a_rule_fires_when_it_should_and_only_then(rule: Any, fields: Any, bad: bool) -> None:
    assert bool(violations(rule, fields)) is bad


@pytest.mark.parametrize(
    ("rule", "fields", "nearest"),
    [
        (GAP, {"gap": {"value": 12.0, "unit": "eV"}}, "{'value': 10.0, 'unit': 'eV'}"),
        (Constraint(id="a", field="x", allowed=("buy", "sell")), {"x": "sel"}, "'sell'"),
        (Constraint(id="a", field="x", allowed=(1, 5)), {"x": 4}, "5"),
        (Constraint(id="i", field="x", type="integer"), {"x": 2.6}, "3"),
        (Constraint(id="r", relation="low <= high"), {"low": 3, "high": 2}, "2"),
        (Constraint(id="a", field="x", allowed=("buy",)), {"x": "zebra"}, None),
        (Constraint(id="r", relation="1 <= low"), {"low": 0}, "1"),
        (Constraint(id="i", field="x", type="integer", min=0.5, max=9.5), {"x": 0}, "1"),
        (Constraint(id="i", field="x", type="integer", min=0.5, max=9.5), {"x": 11}, "9"),
        (Constraint(id="i", field="x", type="integer", max=2), {"x": 2.6}, "2"),
        (Constraint(id="i", field="x", type="integer", min=0.4, max=0.6), {"x": 2}, None),
    ],
)
def test_the_nearest_allowed_value_is_named_where_there_is_one(
    rule: Any, fields: Any, nearest: str | None
) -> None:
    (finding,) = violations(rule, fields)
    assert finding.fix == (nearest and f"the nearest allowed value is {nearest}")


@pytest.mark.parametrize(
    ("expression", "fields", "got"),
    [
        ("sum(w) <= 1", {"w": [1, 2], "other": 1}, "w = [1, 2]"),
        ("all(x <= top for x in w)", {"w": [2], "top": 1, "x": 9}, "top = 1, w = [2]"),
        ("max(w) - max[0]", {"w": [5], "max": [2]}, "the expression = 3, w = [5], max = [2]"),
        ("1 > 2", {}, "False"),
    ],
)
def test_an_expression_that_is_not_true_names_the_values(
    expression: str, fields: Any, got: str
) -> None:
    (finding,) = violations(Constraint(id="e", expression=expression), fields)
    assert sorted(finding.got.split(", ")) == sorted(got.split(", "))


@pytest.mark.parametrize(
    "text",
    [
        "().__class__", "x.real", "__import__('os')", "open('f')", "lambda: 1", "2 ** 9 ** 9",
        "[x for x in y]", "(x := 1)", "f'{x}'", "sum(x for x in y for z in y)", "all(*x)",
        "round(x, ndigits=2)", "x if", "1j", "b'x'", "len" + "(x)" * 400, "x; y", "await x",
        "'a' @ 'b'", "x << 900", "{1: 2}", "'(' * 5000" + " " * 2000,
    ],
)  # fmt: skip
def test_nothing_outside_the_language_is_accepted(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)
    with pytest.raises(ValueError, match="constraint 'e'"):
        Constraint(id="e", expression=text)


def test_an_expression_cannot_run_away() -> None:
    nested = "all(all(all(a + b + c > -1 for a in x) for b in x) for c in x)"
    with pytest.raises(ExpressionError, match="steps"):
        compile_expression(nested)({"x": list(range(200))})
    for text in ("'ab' * 1000000000", "x + x"):
        with pytest.raises(ExpressionError):
            compile_expression(text)({"x": "a"})


def test_units_agree_with_codata() -> None:
    assert convert(1, "hartree", "eV") == pytest.approx(27.211386245988, rel=1e-11)
    assert convert(1, "hartree", "kcal/mol") == pytest.approx(627.5094740631, rel=1e-9)
    assert convert(1, "bohr", "angstrom") == pytest.approx(0.529177210903)
    for unit, (dimension, _) in UNITS.items():
        base = next(u for u, (d, f) in UNITS.items() if d == dimension and f == 1.0)
        assert convert(convert(3.0, unit, base), base, unit) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/schema.json"}, {"$ref": "file:///etc/passwd"},
        {"type": "nonsense"}, {"pattern": "(?=a)b"}, {"pattern": "(a"},
    ],
)  # fmt: skip
def test_a_schema_that_reaches_out_or_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Constraint(id="s", schema=schema)


@pytest.mark.timeout(10)
def test_a_pattern_that_would_backtrack_for_ever_is_linear() -> None:
    rule = Constraint(id="s", field="x", schema={"pattern": "^(a+)+$"})
    assert violations(rule, {"x": "a" * 20_000 + "!"})


@pytest.mark.parametrize(
    ("name", "value", "decision", "says"),
    [
        ("honest", 0.5, Decision.ALLOW, ""),
        ("honest", 2.0, Decision.HOLD, "x is large"),
        ("raises", 0.5, Decision.DENY, "worker-crashed"),
        ("hangs", 0.5, Decision.DENY, "worker-timeout"),
        ("spins", 0.5, Decision.DENY, "worker-"),
        ("eats_memory", 0.5, Decision.DENY, "MemoryError"),
        ("talks_nonsense", 0.5, Decision.DENY, "list of violations"),
        ("reads_files", 0.5, Decision.DENY, "worker-crashed"),
        ("exits", 0.5, Decision.DENY, "worker-died"),
        ("forks", 0.5, Decision.DENY, "worker-crashed"),
        ("starts_threads", 0.5, Decision.DENY, "worker-crashed"),
        ("answers_text", 0.5, Decision.DENY, "worker-died"),
        ("answers_no_utf8", 0.5, Decision.DENY, "list of violations"),
        ("answers_too_much", 0.5, Decision.DENY, "worker-output"),
        ("forges_its_answer", 0.5, Decision.DENY, "worker-died"),
        ("kills_its_parent", 0.5, Decision.DENY, "worker-crashed"),
        ("absent", 0.5, Decision.DENY, "is installed"),
    ],
)
def test_a_plugin_that_misbehaves_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, value: float, decision: Decision, says: str,
) -> None:  # fmt: skip
    target = None if name == "absent" else f"tests.unit.filter.hostile:{name}"
    monkeypatch.setattr(plugin, "_target", lambda _: target)
    rule = Constraint(id="p", plugin=name, timeout_s=1.0, memory_mb=64, on_fail="hold")
    request = a_request(tmp_path, decode=lambda _: {"x": value}, result=Result(items=()))
    verdict = ask(ConstraintsControl(), request, ConstraintsSettings(rules=(rule,)))
    assert verdict.decision is decision
    assert says in " ".join(f"{f.message} {f.got}" for f in verdict.findings)


def test_a_fix_replaces_the_raw_result(tmp_path: Path) -> None:
    rule = Constraint(id="c", field="w", min=0.0, max=1.0, on_fail="fix")
    raw = Result(items=(), native="raw")
    request = a_request(tmp_path, decode=lambda _: {"w": [0.5, 1.5, -2.0]}, result=raw)
    verdict = ask(ConstraintsControl(), request, ConstraintsSettings(rules=(rule,)))
    assert verdict.decision is Decision.ALLOW
    assert verdict.findings[0].message.startswith("fixed: ")
    assert isinstance(request.result.native, FixedOutput)
    assert request.result.native == {"w": [0.5, 1.0, 0.0]}
    assert request.result.extra["fixed"] is True


def test_a_fix_that_is_not_the_one_the_rules_ask_for_is_refused(tmp_path: Path) -> None:
    rule = Constraint(id="c", field="w", max=1.0, on_fail="fix")
    settings = ConstraintsSettings(rules=(rule,))
    with pytest.raises(ValueError, match="the fix in place"):
        ConstraintsControl().decide(
            a_request(tmp_path).job, settings, {"fields": {"w": 3.0}, "fixed": {"w": 2.0}}
        )


@pytest.mark.parametrize(
    "rules",
    [
        (Constraint(id="a", field="w", max=1.0, on_fail="fix"),
         Constraint(id="b", field="w", min=2.0, on_fail="fix")),
        (Constraint(id="a", field="w", type="text", on_fail="fix"),),
        (Constraint(id="a", expression="w < 0", on_fail="fix"),),
    ],
)  # fmt: skip
def test_what_cannot_be_fixed_blocks(tmp_path: Path, rules: Any) -> None:
    request = a_request(tmp_path, decode=lambda _: {"w": 1.5}, result=Result(items=()))
    verdict = ask(ConstraintsControl(), request, ConstraintsSettings(rules=rules))
    assert verdict.decision is Decision.DENY


def test_rules_compose_and_the_most_severe_decides(tmp_path: Path) -> None:
    rules = (
        Constraint(id="a", field="x", max=1.0, on_fail="hold"),
        Constraint(id="b", field="x", max=2.0, on_fail="fallback"),
        Constraint(id="c", field="x", max=3.0),
    )
    for value, expected in ((0, "ALLOW"), (1.5, "HOLD"), (2.5, "FALLBACK"), (3.5, "DENY")):
        request = a_request(tmp_path, decode=lambda _, v=value: {"x": v}, result=Result(items=()))
        verdict = ask(ConstraintsControl(), request, ConstraintsSettings(rules=rules))
        assert verdict.decision.name == expected


def test_a_rule_twice_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        ConstraintsSettings(rules=(GAP, GAP))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "x", "field": "y", "maximum": 3}, Constraint)
    with pytest.raises(ValueError, match="did you mean"):
        Constraint(id="u", field="x", unit="hartre")


def test_the_filter_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.cli import main
    from interlock.guard import policy as policies
    from interlock.guard.policy import Bound, Policy, Timeouts

    rule = Constraint(id="gap", field="gap", min=0, unit="eV", on_fail="fallback")
    bound = Bound(
        id="constraints",
        control=ConstraintsControl(),
        settings=ConstraintsSettings(rules=(rule,)),
    )
    policy = Policy(name="t", document={}, timeouts=Timeouts(), bound={"filter": (bound,)})
    with monkeypatch.context() as patch:
        patch.setattr(policies, "load_policy", lambda _: policy)
        output = tmp_path / "out.json"
        output.write_text('{"gap": {"value": -1, "unit": "eV"}}')
        with pytest.raises(SystemExit):
            main(["filter", "explain", "p.yaml", "--output", str(output)])
        printed = capsys.readouterr().out
        assert "gap v1: gap is at least 0 eV; else fallback" in printed
        assert "this output: FALLBACK" in printed
        output.write_text("nonsense")
        assert main(["filter", "explain", "p.yaml", "--output", str(output)]) == 4
    assert main(["filter", "explain", str(tmp_path / "none.yaml")]) == PolicyError.exit_code


@pytest.mark.parametrize("number", ["1", "1.0", "1e0", "100"])
def test_a_field_named_like_a_number_moves_no_bound(number: str) -> None:
    rule = Constraint(id="r", relation=f"p <= {number}", on_fail="fix")
    fields = {"p": 1000.0, number: 1e9}
    assert violations(rule, fields)
    assert fixed_fields((rule,), fields) == {"p": float(number), number: 1e9}
    back = Constraint(id="r", relation=f"{number} >= p", on_fail="fix")
    assert violations(back, fields)
    # The constant is not the one to move.
    assert fixed_fields((back,), fields) == {"p": float(number), number: 1e9}


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("x in [0, 1]", {"x": True}),
        ("[x] == [1]", {"x": True}),
        ("v[x] == 2", {"x": True, "v": [1, 2]}),
        ("x in [1, [0]]", {"x": [False]}),
    ],
)
def test_true_is_no_number_anywhere(expression: str, fields: Any) -> None:
    assert violations(Constraint(id="r", expression=expression), fields)


@pytest.mark.parametrize(
    "expression",
    [
        "all(x <= 2 * max(v) for x in v)", "all(x in v for x in v)", "all(v == v for x in v)",
        "all(len(v) > 0 and sum(v) >= 0 for x in v)",
    ],
)  # fmt: skip
def test_work_inside_functions_is_charged(expression: str) -> None:
    # 20,000 x 20,000: it must be refused by its budget, not end after minutes.
    found = violations(Constraint(id="r", expression=expression), {"v": [1.0] * 20_000})
    assert "more than 500000 steps" in found[0].got
    assert not violations(Constraint(id="r", expression=expression), {"v": [1.0] * 100})


@pytest.mark.parametrize(
    "rule",
    [
        Constraint(id="r", field="x", type="number", max=1), Constraint(id="r", relation="x <= 1"),
        Constraint(id="r", field="x", allowed=(1, 2)), Constraint(id="r", expression="x < 1"),
        Constraint(id="r", field="x", max=1.0, unit="eV"), Constraint(id="r", field="x", min=0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [10**400, -(10**400), {"value": 10**400, "unit": "eV"}])
def test_a_number_larger_than_any_float_is_a_violation(rule: Constraint, value: Any) -> None:
    assert violations(rule, {"x": value})


def test_the_nearest_value_is_told_with_every_digit() -> None:
    rule = Constraint(id="r", field="x", max=0.123456789)
    (found,) = violations(rule, {"x": 1.0})
    assert found.fix == "the nearest allowed value is 0.123456789"
    with pytest.raises(ValueError, match="no number"):
        Constraint(id="r", field="x", max=float("nan"))


def test_two_packages_that_claim_one_plugin_are_refused_and_the_source_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import Distribution, EntryPoint

    def point(folder: str, value: str) -> EntryPoint:
        info = tmp_path / folder / f"{folder}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder}\nVersion: 1.2\n")
        (tmp_path / folder / "own.py").write_text("def rule(data): return b'[]'\n")
        one = EntryPoint("own", value, plugin.GROUP)
        return one._for(Distribution.at(info))  # type: ignore[attr-defined, no-any-return]

    points = [point("first", "own:rule")]
    monkeypatch.setattr(plugin, "_points", lambda _: points)
    assert plugin._target("own") == "own:rule"
    source = plugin._source("own")
    assert (source["distribution"], source["version"]) == ("first", "1.2")
    assert len(source["sha256"]) == 64
    points.append(point("second", "other:rule"))
    assert plugin._target("own") is None
    answer = plugin.run_plugin(Constraint(id="p", plugin="own"), {})
    assert "not one plugin" in answer["error"]


def test_packs_that_are_not_tried_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.cli import main
    from interlock.guard import policy as policies
    from interlock.guard.filter.packs.finance import FinanceControl, FinanceSettings
    from interlock.guard.policy import Bound, Policy, Timeouts

    pack = Bound(id="finance", control=FinanceControl(), settings=FinanceSettings())
    policy = Policy(name="t", document={}, timeouts=Timeouts(), bound={"filter": (pack,)})
    monkeypatch.setattr(policies, "load_policy", lambda _: policy)
    output = tmp_path / "out.json"
    output.write_text('{"orders": "nonsense"}')
    main(["filter", "explain", "p.yaml", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "also finance: not tried here" in printed
    assert "this output: ALLOW by the constraints alone" in printed


def test_what_a_plugin_says_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.cli import main
    from interlock.guard import policy as policies
    from interlock.guard.policy import Bound, Policy, Timeouts

    says = {"violations": [{"message": "\x1b[2J fine", "got": "\r", "expected": ""}]}
    monkeypatch.setattr("interlock.guard.filter.explain.run_plugin", lambda *_: says)
    settings = ConstraintsSettings(rules=(Constraint(id="p", plugin="own"),))
    bound = Bound(id="constraints", control=ConstraintsControl(), settings=settings)
    policy = Policy(name="t", document={}, timeouts=Timeouts(), bound={"filter": (bound,)})
    monkeypatch.setattr(policies, "load_policy", lambda _: policy)
    output = tmp_path / "out.json"
    output.write_text('{"x": 1}')
    with pytest.raises(SystemExit):
        main(["filter", "explain", "p.yaml", "--output", str(output)])
    printed = capsys.readouterr().out
    assert "fine" in printed
    assert "\x1b" not in printed
    assert "\r" not in printed
