"""`interlock replay`: every decision again."""

from __future__ import annotations

import json

import click

from interlock import config


@click.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a job.")
def command(home: str | None, as_json: bool) -> int:
    """Decide every recorded job again from its evidence; exit 1 when anything differs.

    Exit code 7 when the ledger was changed: what was decided again is not what was recorded then.
    """
    import msgspec

    from interlock.cli.show import changed
    from interlock.guard.record import Unfinished, recorded
    from interlock.guard.replay import replay

    jobs = same = 0
    watch = Unfinished()
    with recorded(config.home(home)) as ledger:
        for one in replay(watch.passing(ledger.entries())):
            jobs += 1
            same += not one.differences
            if as_json:
                click.echo(json.dumps(msgspec.to_builtins(one)))
            elif one.differences:
                click.echo(f"{one.receipt}: {one.recorded} on record, {one.recomputed} now")
                for difference in one.differences:
                    click.echo(f"  {difference}")
        tampered = changed(ledger.verify())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "event": "summary", "jobs": jobs, "identical": same, "changed": tampered,
                    "unfinished": watch.jobs,
                }
            )
        )  # fmt: skip
    else:
        click.echo(f"{same} of {jobs} decisions are identical")
        for job in watch.jobs:
            click.echo(f"job {job} began and has no end on record: under way, or its program died")
    if tampered:
        return 7
    if jobs == 0:
        click.echo("the ledger holds no job: nothing was replayed", err=True)
        return 1
    return 0 if same == jobs else 1
