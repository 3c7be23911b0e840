"""`interlock demo`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import click

from interlock.errors import UsageError


@click.command()
@click.option("--home", type=click.Path(), help="Folder the demo makes for its ledger and keys.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a scene.")
def command(home: str | None, as_json: bool) -> int:
    """Show what the guard does, in six scenes, without account or network.

    The device is simulated, from a shipped calibration of a real one. The controls and the ledger
    are the real ones. Exit 1 when a scene does not end as it must.
    """
    folder = Path(home) if home else Path(tempfile.mkdtemp(prefix="interlock-demo-"))
    if home and (folder.is_file() or (folder.exists() and any(folder.iterdir()))):
        raise UsageError(
            "the demo needs a folder of its own",
            code="demo-home",
            got=f"{folder}, which is there already",
            expected="a folder that does not exist, or is empty",
            fix="name another folder, or leave --home out",
        )
    try:
        good = _shown(folder / "home", as_json)
    except BaseException:
        if not home:  # interrupted, or nobody reads on: where it is will not be said
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not as_json:
        click.echo(f"The demo's ledger and keys are in {folder}; delete it when done.")
    return 0 if good else 1


def _shown(home: Path, as_json: bool) -> bool:
    """Print the scenes and return whether each ended as it must."""
    import msgspec

    from interlock.guard.demo import scenes

    good = True
    for number, scene in enumerate(scenes(home), 1):
        good = good and scene.as_expected
        if as_json:
            click.echo(json.dumps({"scene": number, **msgspec.to_builtins(scene)}))
            continue
        mark = "" if scene.as_expected else "  (NOT as it must be)"
        title = click.style(f"{number}. {scene.title}{mark}", bold=True)
        click.echo(title, color=sys.stdout.isatty())
        click.echo(f"   what:  {scene.happened}")
        click.echo(f"   why:   {scene.why}")
        click.echo(f"   look:  {scene.look}\n")
    return good
