"""`interlock filter`: what the declared constraints say, and why they refuse an output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from interlock.cli.show import printable
from interlock.errors import InputError, PolicyError


@click.group()
def command() -> None:
    """Explain the output filter and try outputs against it."""


@command.command()
@click.argument("policy", type=click.Path(dir_okay=False))
@click.option("--output", type=click.Path(allow_dash=True), help="Decoded fields as JSON, to try.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(policy: str, output: str | None, *, as_json: bool) -> None:
    """Say in words what POLICY's filter lets through, and what it makes of one output."""
    import msgspec

    from interlock.guard.filter.explain import explain_rules, judge, other_controls
    from interlock.guard.policy import load_policy

    loaded = load_policy(policy)
    rules = explain_rules(loaded)
    report: dict[str, Any] = {"policy": loaded.name, "sha256": loaded.sha256, "rules": rules}
    report["not_tried"] = other_controls(loaded)
    if output is not None:
        report["verdict"] = judge(loaded, _fields(output))
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    if report.get("verdict", {"decision": "ALLOW"})["decision"] != "ALLOW":
        sys.exit(10)


@command.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--budget", type=click.FloatRange(0, 1), help="Violation rate you accept.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def gap(home: str | None, budget: float | None, *, as_json: bool) -> None:
    """Say how far the raw quantum output is from what was released, by pipeline."""
    import msgspec

    from interlock import config
    from interlock.guard.filter.alignment import alignment_gap
    from interlock.guard.record import recorded

    with recorded(config.home(home)) as ledger:
        gaps = alignment_gap(ledger.entries(), budget=budget)
    if as_json:
        click.echo(msgspec.json.encode(gaps).decode())
    else:
        for name, one in gaps.items():
            low, high = one.interval
            far = "none" if one.divergence_nats is None else f"{one.divergence_nats:.4f} nats"
            click.echo(
                f"{name}: {one.outputs} outputs, {one.rate:.2%} violating"
                f" [{low:.2%}, {high:.2%}], released {one.released}"
                f" of which violating {one.released_violating}, changed {one.changed},"
                f" divergence {far}, trend {one.trend:+.2%} (z {one.trend_z:+.1f})"
            )
            if one.over_budget:
                click.echo(f"  over the budget of {budget:.2%}")
    if not gaps:
        raise InputError(
            "no output was filtered",
            code="gap-empty",
            got="no filter record",
            expected="a home whose ledger holds jobs that reached the filter",
            fix="run a job first, or name the right --home",
        )
    if any(one.over_budget for one in gaps.values()):
        sys.exit(10)


def _fields(output: str) -> dict[str, Any]:
    import msgspec

    try:
        raw = sys.stdin.buffer.read() if output == "-" else Path(output).read_bytes()
        fields = msgspec.json.decode(raw)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            "the output to try cannot be read",
            code="filter-output",
            got=f"{type(error).__name__}: {error}",
            expected="a JSON object of decoded fields",
            fix="""write for instance {"energy": -1.1}""",
        ) from error
    if not isinstance(fields, dict):
        raise InputError(
            "the output to try is no object",
            code="filter-output",
            got=type(fields).__name__,
            expected="a JSON object of decoded fields",
            fix="""write for instance {"energy": -1.1}""",
        )
    return fields


def _print(report: dict[str, Any]) -> None:
    click.echo(f"policy {report['policy']} (sha256 {report['sha256'][:16]})")
    if report["not_tried"]:
        packs = ", ".join(report["not_tried"])
        click.echo(f"  also {packs}: not tried here, only on the guarded path")
    elif not report["rules"]:
        raise PolicyError(
            "the filter has no rules",
            code="filter-empty",
            got="no rules under filter.constraints",
            expected="at least one rule",
            fix="add rules; see docs/how-to/constrain-outputs.md",
        )
    for rule in report["rules"]:
        click.echo(f"  {rule['id']} v{rule['version']}: {rule['says']}; else {rule['on_fail']}")
        if rule["description"]:
            click.echo(f"      {rule['description']}")
    verdict = report.get("verdict")
    if verdict:
        alone = " by the constraints alone" if report["not_tried"] else ""
        click.echo(f"this output: {verdict['decision']}{alone}")
        for finding in verdict["findings"]:
            # Plugins and outputs wrote parts of these, and may try to steer the terminal.
            click.echo(printable(f"  {finding['rule']}: {finding['message']}"))
            click.echo(printable(f"      got {finding['got']}; expected {finding['expected']}"))
            if finding["fix"]:
                click.echo(printable(f"      {finding['fix']}"))
