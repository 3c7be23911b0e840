"""`interlock scan`."""

from __future__ import annotations

import datetime as dt
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.errors import InputError

if TYPE_CHECKING:
    from interlock.scan.finding import Report

_FORMATS = ["text", "json", "sarif", "gitlab", "junit"]
_LEVELS = ["note", "low", "medium", "high", "critical"]
_FAMILIES = ["secrets", "code", "models"]


class _Progress:
    """A line on a terminal's error stream, at most four times a second, after the first second."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._on = sys.stderr.isatty()

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        if self._on and now - self._start > 1 and now - self._last > 0.25:
            self._last = now
            text = f"\r{report.files} files, {report.bytes / 1e6:.0f} MB, "
            click.echo(f"{text}{len(report.findings)} findings ", nl=False, err=True)

    def done(self) -> None:
        """End the line."""
        if self._on and self._last != self._start:
            click.echo("", err=True)


@click.command(short_help="Look for secrets, unsafe code and unsafe model files.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--only", "families", multiple=True, type=click.Choice(_FAMILIES), help="Look only for these."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="How to write the report.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the report here.")
@click.option(
    "--fail-on",
    type=click.Choice([*_LEVELS, "never"]),
    default="low",
    show_default=True,
    help="Exit 1 when a finding is at least this severe.",
)
@click.option(
    "--least",
    type=click.Choice(_LEVELS),
    default="low",
    show_default=True,
    help="Report findings at least this severe.",
)
@click.option("--all", "everything", is_flag=True, help="Look into excluded folders too.")
@click.option("--strict", is_flag=True, help="Exit 4 when anything could not be looked into.")
@click.option("--strict-models", is_flag=True, help="Every file must be an allowed model.")
@click.option("--git-history", is_flag=True, help="Scan commits, not the files.")
@click.option("--allow", type=click.Path(path_type=Path, dir_okay=False), help="Allow-list to use.")
@click.option(
    "--baseline", type=click.Path(path_type=Path, dir_okay=False), help="Report what is new."
)
@click.option("--write-baseline", type=click.Path(path_type=Path), help="Record what is found now.")
@click.option("--redact", is_flag=True, help="Copy stdin to stdout without secrets.")
@click.option("--redact-env", is_flag=True, help="With --redact: values of variables too.")
@click.option("--patch", type=click.Path(path_type=Path), help="Write a patch without the secrets.")
@click.option("--strip-notebooks", is_flag=True, help="Take notebook outputs out, in place.")
@click.option("--revoke-hook", metavar="COMMAND", help="Run for each secret; JSON on stdin.")
@click.option("--triage-url", metavar="URL", help="Ask a model; it sees no secret.")
@click.option(
    "--triage-model", default="local", show_default=True, help="Name of the model to ask."
)
@click.option(
    "--triage-log",
    type=click.Path(path_type=Path),
    default=Path("interlock-triage.jsonl"),
    show_default=True,
    help="Record of what was asked.",
)
@click.option(
    "--advisories",
    type=click.Path(path_type=Path, exists=True),
    help="Check requirement files against this folder of OSV records.",
)
@click.option("--pip-audit", is_flag=True, help="Check requirement files with pip-audit.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules and stop.")
def command(paths: tuple[Path, ...], **options: Any) -> int:
    """Look for secrets, unsafe code and unsafe model files under PATHS; `-` is standard input."""
    from interlock.scan import run

    if options["list_rules"]:
        click.echo(run.rule_table(), nl=False)
        return 0
    if options["redact"]:
        return run.redact(sys.stdin.buffer, sys.stdout.buffer, environment=options["redact_env"])
    if options["strip_notebooks"]:
        stripped = 0
        for path, removed in run.strip(paths):
            click.echo(f"{path}: {removed} output(s) removed")
            stripped += bool(removed)
        if stripped:
            click.echo(
                "next: look at the stripped notebooks, `git add` them and commit again; outputs "
                "that were ever pushed stay in the history",
                err=True,
            )
        return 0
    run.check_lists(options["allow"], options["baseline"])
    progress = _Progress()
    report = run.scan(
        paths or (Path(),),
        families=options["families"] or tuple(_FAMILIES),
        everything=options["everything"],
        strict_models=options["strict_models"],
        git_history=options["git_history"],
        advisories=options["advisories"],
        pip_audit=options["pip_audit"],
        stdin=sys.stdin.buffer,
        progress=progress,
    )
    progress.done()
    today = dt.datetime.now(tz=dt.UTC).date()
    run.settle(report, options["allow"], options["baseline"], today=today)
    if options["triage_url"]:
        run.ask(report, options["triage_url"], options["triage_model"], options["triage_log"])
    style = "json" if options["as_json"] else options["style"]
    colour = style == "text" and options["output"] is None and sys.stdout.isatty()
    text = run.render(report, style, options["least"], colour=colour)
    if options["output"]:
        run.save(options["output"], text)
        click.echo(run.summary(report), err=True)
    else:
        click.echo(text, nl=False)
        if style == "gitlab":  # the format has no place for what was not looked into
            click.echo(run.remarks(report), nl=False, err=True)
    if options["write_baseline"]:
        count = run.baseline(report, options["write_baseline"])
        click.echo(f"{count} finding(s) recorded", err=True)
    for line in run.remedies(
        report, options["patch"], options["revoke_hook"], options["git_history"]
    ):
        click.echo(line, err=True)
    if options["strict"] and run.unseen(report):
        raise InputError(
            "part of what was given could not be looked into",
            code="scan-incomplete",
            got=run.unseen(report),
            expected="every file readable and whole, with --strict",
            fix="see the notes; mend or leave out those files",
        )
    if style == "text" and not options["write_baseline"]:
        click.echo(run.next_steps(report, options["fail_on"]), nl=False, err=True)
    return run.exit_code(report, options["fail_on"], wrote_baseline=bool(options["write_baseline"]))
