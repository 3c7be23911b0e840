"""`interlock replay`: every decision again."""

from __future__ import annotations

import json

import click

from interlock import config


@click.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a job.")
def command(home: str | None, as_json: bool) -> int:
    """Decide every recorded job again from its evidence; exit 1 when anything differs."""
    import msgspec

    from interlock.guard.record import recorded
    from interlock.guard.replay import replay

    jobs = same = 0
    with recorded(config.home(home)) as ledger:
        for one in replay(ledger.entries()):
            jobs += 1
            same += not one.differences
            if as_json:
                click.echo(json.dumps(msgspec.to_builtins(one)))
            elif one.differences:
                click.echo(f"{one.receipt}: {one.recorded} on record, {one.recomputed} now")
                for difference in one.differences:
                    click.echo(f"  {difference}")
    if as_json:
        click.echo(json.dumps({"event": "summary", "jobs": jobs, "identical": same}))
    else:
        click.echo(f"{same} of {jobs} decisions are identical")
    if jobs == 0:
        click.echo("the ledger holds no job: nothing was replayed", err=True)
        return 1
    return 0 if same == jobs else 1
