"""`interlock run -- PROGRAM`: every quantum call of an unchanged program, guarded."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock.gateway.enforced import EnforcedProgram

from interlock import config
from interlock.cli.show import COLOURS, job_line, unguarded_line


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--policy", type=click.Path(), help="Policy file; the starter policy by default.")
@click.option("--fallback", metavar="MODULE:FUNCTION", help="The classical baseline.")
@click.option("--pipeline", default="default", help="Name under which releases are counted.")
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option(
    "--report",
    type=click.Path(),
    default="interlock-report.html",
    help="Where the HTML report goes.",
)
@click.option("--no-report", is_flag=True, help="Write no HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on standard output.")
@click.option(
    "--enforced", is_flag=True, help="In a sandbox that holds no credentials (mode ENFORCED)."
)
@click.option("--max-memory-mb", type=click.IntRange(min=64), help="Of the sandbox; 3/4 of all.")
@click.option("--max-cpus", type=click.FloatRange(min=0.05), help="Of the sandbox; all by default.")
@click.option("--max-processes", type=click.IntRange(min=8), help="And threads; 1024 by default.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    policy: str | None,
    fallback: str | None,
    pipeline: str,
    home: str | None,
    report: str,
    no_report: bool,
    as_json: bool,
    enforced: bool,
    max_memory_mb: int | None,
    max_cpus: float | None,
    max_processes: int | None,
    program: tuple[str, ...],
) -> int:
    """Run PROGRAM with every quantum call guarded.

    Mode ADVISORY, in this process's reach; with --enforced, mode ENFORCED: the program runs in a
    sandbox and a gateway outside holds the credentials.

    Give the program after two dashes: interlock run -- python train.py

    Exits as the program does, and with 5 when the guard was not loaded into it.
    """
    from interlock.guard.launch import Program, Tally, python_command
    from interlock.guard.policy import load_policy

    load_policy(policy)  # a wrong policy stops here, before anything runs
    folder = config.home(home)
    words = program[1:] if program[0] == "--" else program
    tally = Tally()
    running: Program | EnforcedProgram
    caps = {"memory_mb": max_memory_mb, "cpus": max_cpus, "processes": max_processes}
    if any(caps.values()) and not enforced:
        raise click.UsageError("--max-memory-mb, --max-cpus and --max-processes need --enforced")
    if enforced:
        running = _enforced(words, folder, policy, fallback, pipeline, as_json, caps)
    else:
        running = Program(
            python_command(words),
            home=folder,
            policy=policy,
            fallback=fallback,
            pipeline=pipeline,
            stdout=sys.stderr if as_json else None,
        )
    # Ctrl-C reaches the program too; it ends by itself, then the summary is printed.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _printer(as_json, tally) as show:
            for line in running.lines():
                if line is not None:
                    tally.add(line)
                if line is None or line["event"] in ("job", "unguarded"):
                    show(line)
    finally:
        code = running.close()
        signal.signal(signal.SIGINT, before)
    if not isinstance(running, Program) and running.killed:
        click.echo(f"interlock: the sandbox was ended: {running.killed}", err=True)
    if not tally.loaded:
        code = code or NOT_GUARDED
    _summary(tally, as_json, code, enforced)
    if not no_report and (tally.jobs or tally.unguarded):
        from interlock.guard.report import write_report

        write_report(Path(report), folder, tally.receipts, tally.as_dict(), " ".join(words))
        _say(as_json, f"report: {report}")
    return code


def _enforced(
    words: tuple[str, ...],
    home: Path,
    policy: str | None,
    fallback: str | None,
    pipeline: str,
    as_json: bool,
    caps: dict[str, Any],
) -> EnforcedProgram:
    from interlock.gateway.caps import Caps
    from interlock.gateway.enforced import EnforcedProgram
    from interlock.guard.launch import python_command

    if fallback:
        raise click.UsageError("--fallback runs user code outside the sandbox; not with --enforced")
    return EnforcedProgram(
        python_command(words),
        home=home,
        policy=policy,
        pipeline=pipeline,
        stdout=sys.stderr if as_json else None,
        caps=Caps(**{name: value for name, value in caps.items() if value}),
    )


#: Exit code of a program that was not guarded and would have ended well: that of a setup error.
NOT_GUARDED = 5


class _printer:  # noqa: N801 - used as a function
    """Prints job lines; on a terminal, a live count below them."""

    def __init__(self, as_json: bool, tally: Any) -> None:
        self.as_json = as_json
        self.tally = tally
        self.progress: Any = None

    def __enter__(self) -> Any:
        if self.as_json:
            return lambda line: self._plain(line, json.dumps)
        if not sys.stdout.isatty():
            return lambda line: self._plain(line, _text)
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True
        )
        task = self.progress.add_task("waiting for the first job", total=None)
        self.progress.start()

        def show(line: dict[str, Any] | None) -> None:
            if line is None:
                return
            style = COLOURS.get(line.get("outcome", "UNGUARDED"), "")
            self.progress.console.print(_text(line), style=style, highlight=False, markup=False)
            counts = ", ".join(f"{n} {o}" for o, n in sorted(self.tally.outcomes.items()))
            self.progress.update(task, description=f"{self.tally.jobs} jobs: {counts}")

        return show

    @staticmethod
    def _plain(line: dict[str, Any] | None, form: Callable[[dict[str, Any]], str]) -> None:
        if line is not None:
            click.echo(form(line))

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()


def _text(line: dict[str, Any]) -> str:
    return job_line(line) if line["event"] == "job" else unguarded_line(line)


def _say(as_json: bool, text: str) -> None:
    click.echo(text, err=as_json)


def _summary(tally: Any, as_json: bool, code: int, enforced: bool) -> None:
    if as_json:
        click.echo(json.dumps({**tally.as_dict(), "exit_code": code}))
        return
    if tally.unreadable:
        click.echo(f"{tally.unreadable} event lines could not be read; the ledger has every job")
    if not tally.loaded:
        click.echo(
            "NOT GUARDED: the guard was not loaded into the program (python -I, -E, another"
            " environment, or no Python at all); what it submitted is unknown"
        )
        return
    if not tally.jobs and not tally.unguarded:
        click.echo("no quantum job was submitted")
        return
    counts = ", ".join(f"{n} {o}" for o, n in sorted(tally.outcomes.items()))
    advisory = "mode ADVISORY: user code could go round the guard"
    sandboxed = "mode ENFORCED: user code ran in a sandbox without the credentials"
    click.echo(f"\n{tally.jobs} jobs: {counts}; {sandboxed if enforced else advisory}")
    added = tally.seconds - tally.execution_seconds
    click.echo(
        f"ran {tally.shots} shots for ${tally.cost_usd:.2f}, {tally.execution_seconds:.1f} s on"
        f" devices; the guard added {added:.2f} s, {added / max(tally.jobs, 1) * 1e3:.1f} ms a job"
    )
    click.echo(
        f"saved: {tally.stopped} jobs stopped before the device,"
        f" {tally.saved_shots} shots, ${tally.saved_usd:.2f}"
    )
    for alarm in tally.alarms.values():
        click.echo(f"ALARM: {alarm}")
    if tally.unguarded:
        click.echo(f"UNGUARDED: {tally.unguarded} submissions went round the guard")
