"""`interlock doctor`."""

from __future__ import annotations

import json
import sys

import click

from interlock import config

_MARKS = {"ok": "green", "absent": "yellow", "bad": "red"}


@click.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--policy", type=click.Path(), help="Policy to check; the starter by default.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(home: str | None, policy: str | None, as_json: bool) -> int:
    """Look at extras, isolation, policy, keys and ledger; exit 1 when something must be mended."""
    import msgspec

    from interlock.guard.doctor import examine

    checks = list(examine(config.home(home), policy))
    bad = [c for c in checks if c.state == "bad"]
    if as_json:
        click.echo(json.dumps({"ok": not bad, "checks": msgspec.to_builtins(checks)}, indent=2))
        return 1 if bad else 0
    width = max(len(check.name) for check in checks) + 2
    for check in checks:
        mark = click.style(f"{check.state:7}", fg=_MARKS[check.state])
        click.echo(f"{mark}{check.name:{width}}{check.found}", color=sys.stdout.isatty())
        if check.fix:
            click.echo(f"{'':{width + 7}}-> {check.fix}")
    return 1 if bad else 0
