"""`interlock explain RECEIPT`."""

from __future__ import annotations

import json
from typing import Any

import click

from interlock import config
from interlock.cli.show import COLOURS, changed, printable


@click.command()
@click.argument("receipt")
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def command(receipt: str, home: str | None, as_json: bool) -> int:
    """Say why RECEIPT was released or refused: every stage, control, finding and link.

    Exit code 7 when the ledger was changed: the story may not be what was recorded then.
    """
    from interlock.guard.explain import explain
    from interlock.guard.record import recorded

    with recorded(config.home(home)) as ledger:
        story = explain(ledger, receipt)
        report = ledger.verify()
    if as_json:
        click.echo(json.dumps(story | {"ledger_ok": report.ok}, indent=2))
    else:
        _print(story)
    if changed(report):
        return 7
    return 1 if story["missing"] else 0


def _print(story: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    job = story["job"]
    style = COLOURS.get(story["outcome"], "")
    console.print(f"{story['outcome']}  receipt {story['receipt']}", style=style)
    who = job.get("principal", {})
    console.print(
        f"job {job.get('id')}, {job.get('mode')}, by {who.get('id')} ({who.get('kind')}) on"
        f" {job.get('backend')}, {job.get('submitted_at')}, seed {job.get('seed')}"
        f" (honoured: {_honoured(story)})",
    )
    for circuit in job.get("circuits", ()):
        console.print(
            f"circuit {circuit['sha256'][:16]}: {circuit['num_qubits']} qubits, depth"
            f" {circuit['depth']}, {circuit['size']} operations, {circuit['bindings']} parameter"
            f" set(s), {circuit['shots']} shots",
        )
    table = Table("stage", "control", "decision", "what it found", expand=True)
    for stage in story["stages"]:
        for control in stage["controls"]:
            what = "\n".join(_finding(f) for f in control["findings"]) or _short(control)
            name = stage["stage"] + (" (baseline)" if stage["branch"] == "baseline" else "")
            cells = (name, control["control"], control["decision"])
            lines = "\n".join(printable(line) for line in what.split("\n"))
            table.add_row(*(Text(printable(c)) for c in cells), Text(lines, overflow="fold"))
    console.print(table)
    session = story["session"]
    if session:
        versions = ", ".join(f"{k} {v}" for k, v in session["versions"].items())
        console.print(
            f"policy {session['policy']['name']} {session['policy']['sha256'][:16]}; {versions}",
        )
    place = story["ledger"]
    console.print(f"ledger entry {place['index']}, leaf {place['leaf_sha256']}")
    for link in story["missing"]:
        console.print(f"missing: {link}", style="red")


def _honoured(story: dict[str, Any]) -> str:
    for stage in story["stages"]:
        for control in stage["controls"]:
            if "seed_honoured" in control["evidence"]:
                return str(control["evidence"]["seed_honoured"])
    return "not run"


def _finding(finding: dict[str, Any]) -> str:
    lines = [f"{finding['rule']}: {finding['message']}"]
    labels = ("location", "got", "expected", "fix")
    lines += [f"  {label}: {finding[label]}" for label in labels if finding.get(label)]
    return "\n".join(lines)


def _short(control: dict[str, Any]) -> str:
    text = json.dumps(control["evidence"], separators=(", ", ": "))
    return text if len(text) <= 160 else text[:157] + "..."
