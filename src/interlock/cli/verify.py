"""`interlock verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from interlock.config import home as home_folder


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the ledger.")
@click.option("--keys", type=click.Path(path_type=Path), help="Public keys to trust (vkeys file).")
@click.option("--policy", type=click.Path(path_type=Path), help="Witness policy for the head.")
@click.option(
    "--tsa-roots",
    type=click.Path(path_type=Path),
    help="Root certificates, PEM: check the time-stamps of heads, too; none is a fault.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    home: Path | None,
    keys: Path | None,
    policy: Path | None,
    tsa_roots: Path | None,
    as_json: bool,
) -> int:
    """Check a ledger offline: every entry and every signed head.

    Needs no network and no private key. Exit code 0 when all fits, 7 when something was changed.
    """
    from interlock.cli.show import printable
    from interlock.ledger import audit
    from interlock.ledger.check import read_policy
    from interlock.ledger.identity import read_vkeys

    trusted = read_vkeys(keys) if keys else None
    report = audit(home_folder(home), trusted, read_policy(policy) if policy else None)
    if tsa_roots:
        from interlock.ledger.anchor import check_kept, roots_from

        check_kept(home_folder(home), roots_from(tsa_roots), report)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=1))
        return 0 if report.ok else 7
    covered = f"{report.signed_size} under a signed head ({report.checkpoints} heads)"
    click.echo(f"ledger  {report.origin}")
    click.echo(f"entries {report.size}, {covered}")
    click.echo(f"root    {report.root}")
    if report.unsigned:
        click.echo(f"UNSIGNED {report.unsigned} newest entries: under no signed head")
    if report.not_judged:
        click.echo(f"EARLIER {report.not_judged} heads: the keys given were not in force for them")
    for fault in report.faults:
        click.echo(printable(f"FAULT   {fault.kind}: {fault.where}"))
        click.echo(printable(f"          got:      {fault.got}"))
        click.echo(printable(f"          expected: {fault.expected}"))
    if report.more_faults:
        click.echo(f"        and {report.more_faults} more faults")
    for note in report.notes:
        click.echo(printable(f"note    {note}"))
    limit = f" in the {report.signed_size} signed entries" if report.unsigned else ""
    verdict = f"OK: no change found{limit}"
    click.echo(verdict if report.ok else "CHANGED: do not rely on this ledger")
    return 0 if report.ok else 7
