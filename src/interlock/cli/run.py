"""`interlock run -- PROGRAM`: every quantum call of an unchanged program, guarded."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock.gateway.enforced import EnforcedProgram
    from interlock.guard.launch import Tally

from interlock import config
from interlock.cli import silence
from interlock.cli.live import Foot, has_foot
from interlock.cli.show import COLOURS, job_line, unguarded_line
from interlock.errors import InterlockError
from interlock.types import Mode


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

    Exits as the program does, with 128 + N when signal N has ended it (130 for Ctrl-C, 137 for the
    second one); where that is 0, with 5 when the guard was not loaded into it and with 6 when the
    report could not be written. SIGINT, SIGTERM and SIGHUP are passed on to the program; the second
    one ends it at once. Summary and report follow all the same.
    """
    from interlock.guard.launch import (
        Program,
        Tally,
        python_command,
        recorded_so_far,
        unmoved,
        writable,
    )
    from interlock.guard.policy import load_policy
    from interlock.guard.signals import passing_on

    load_policy(policy)  # a wrong policy stops here, before anything runs
    if fallback is not None and not all(fallback.partition(":")):
        raise click.UsageError(f"--fallback is MODULE:FUNCTION, got {fallback!r}")
    if not no_report:
        writable(Path(report))
    place = Path(report).absolute().parent.resolve()
    folder = config.home(home)
    words = program[1:] if program[0] == "--" else program
    start = recorded_so_far(folder)
    # Out of a sandbox leads nothing but the gateway, whatever runs in it.
    tally = Tally(loaded=enforced)
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
    say = Output(as_json)
    with passing_on(running):
        try:
            with _printer(say, tally) as show:
                for line in running.lines(Mode.ENFORCED if enforced else Mode.ADVISORY):
                    if line is not None:
                        tally.add(line)
                    if line is None or line["event"] in ("job", "unguarded"):
                        show(line)
        finally:
            code = running.close()
    if not isinstance(running, Program) and running.killed:
        click.echo(f"interlock: the sandbox was ended: {running.killed}", err=True)
    if not tally.loaded:
        code = code or NOT_GUARDED
    tally = tally.settled(folder, start)
    _summary(say, tally, code, enforced)
    if not no_report and (tally.jobs or tally.unguarded):
        from interlock.guard.report import write_report

        try:
            unmoved(Path(report), place)
            write_report(Path(report), folder, tally.receipts, tally.as_dict(), " ".join(words))
        except InterlockError as error:
            click.echo(f"interlock: there is no report\n{error.diagnostics()}", err=True)
            code = code or error.exit_code
        else:
            say(f"report: {report}", aside=True)
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


class Output:
    """Prints what happens. When nobody can be told any more, the jobs and the report go on.

    Args:
        as_json: events go to standard output as JSON lines, remarks to standard error.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __call__(self, text: str, *, aside: bool = False) -> None:
        """Print a line; an `aside` is not for machines."""
        try:
            click.echo(text, err=self.as_json and aside)
        except OSError as error:
            silence()
            if not isinstance(error, BrokenPipeError):
                click.echo(f"interlock: standard output is lost ({error}); jobs go on", err=True)


@contextlib.contextmanager
def _printer(say: Output, tally: Tally) -> Iterator[Callable[[dict[str, Any] | None], None]]:
    """Give what prints job lines; on a terminal, over a live count at its foot."""
    form = json.dumps if say.as_json else _coloured
    if say.as_json or not has_foot(1):
        yield lambda line: None if line is None else say(form(line))
        return
    with Foot(1, "waiting for the first job") as foot:

        def show(line: dict[str, Any] | None) -> None:
            if line is None:
                foot.show()
                return
            say(form(line))
            counts = ", ".join(f"{n} {o}" for o, n in sorted(tally.outcomes.items()))
            foot.show(f"{tally.jobs} jobs: {counts}")

        yield show


def _coloured(line: dict[str, Any]) -> str:
    if os.environ.get("NO_COLOR"):
        return _text(line)
    # Where it is no terminal, click prints it without the colour.
    return click.style(_text(line), fg=COLOURS.get(line.get("outcome", "UNGUARDED")))


def _text(line: dict[str, Any]) -> str:
    return job_line(line) if line["event"] == "job" else unguarded_line(line)


def _summary(say: Output, tally: Any, code: int, enforced: bool) -> None:
    if say.as_json:
        say(json.dumps({**tally.as_dict(), "exit_code": code}))
        return
    if tally.unreadable:
        say(f"{tally.unreadable} event lines could not be read; the ledger has every job")
    if tally.unknown:
        say(f"{tally.unknown} event lines tell of jobs the ledger does not have; not counted")
    if not tally.loaded:
        say(
            "NOT GUARDED: the guard was not loaded into the program (python -I, -E, another"
            " environment, or no Python at all); what it submitted is unknown"
        )
        return
    if tally.unfinished:
        jobs = ", ".join(tally.unfinished[:3]) + (" ..." if len(tally.unfinished) > 3 else "")
        say(
            f"under way when the program ended: {len(tally.unfinished)} ({jobs}); nothing of that"
            " was released, and what was reserved stays counted"
        )
    if not tally.jobs and not tally.unguarded:
        say("no quantum job was submitted" if not tally.unfinished else "no quantum job ended")
        return
    counts = ", ".join(f"{n} {o}" for o, n in sorted(tally.outcomes.items()))
    advisory = "mode ADVISORY: user code could go round the guard"
    sandboxed = "mode ENFORCED: user code ran in a sandbox without the credentials"
    inner = f" ({tally.within} within another)" if tally.within else ""
    say(f"\n{tally.jobs} jobs{inner}: {counts}; {sandboxed if enforced else advisory}")
    added = tally.seconds - tally.execution_seconds
    say(
        f"ran {tally.shots} shots for ${tally.cost_usd:.2f}, {tally.execution_seconds:.1f} s on"
        f" devices; the guard added {added:.2f} s, {added / max(tally.jobs, 1) * 1e3:.1f} ms a job"
    )
    say(
        f"saved: {tally.stopped} jobs stopped before the device,"
        f" {tally.saved_shots} shots, ${tally.saved_usd:.2f}"
    )
    for alarm in tally.alarms.values():
        say(f"ALARM: {alarm}")
    if tally.unguarded:
        say(f"UNGUARDED: {tally.unguarded} submissions went round the guard")
