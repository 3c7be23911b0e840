"""`interlock policy init|check|show|schema`."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Make, check and show policies."""


@command.command()
@click.argument("path", type=click.Path(), default="policy.yaml")
def init(path: str) -> None:
    """Write the starter policy to PATH; an existing file is left alone."""
    from interlock.errors import UsageError

    text = resources.files("interlock.guard").joinpath("starter.yaml").read_text("utf-8")
    try:
        with Path(path).open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists already",
            code="policy-exists",
            got=path,
            expected="a path that is free",
            fix="choose another path, or remove the file first",
        ) from error
    click.echo(f"wrote {path}")


@command.command()
@click.argument("path", type=click.Path())
def check(path: str) -> None:
    """Check PATH and print the policy's identity."""
    from interlock.guard.policy import load_policy

    policy = load_policy(path)
    count = sum(len(c) for c in policy.bound.values())
    click.echo(f"{path}: policy {policy.name!r}, {count} controls, sha256 {policy.sha256}")


@command.command()
@click.argument("path", type=click.Path(), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(path: str | None, as_json: bool) -> None:
    """Show each control of a policy (the starter policy by default) with all its settings."""
    import msgspec

    from interlock.guard.policy import load_policy

    policy = load_policy(path)
    view = {
        stage: {b.id: msgspec.to_builtins(b.settings) for b in controls}
        for stage, controls in policy.bound.items()
    }
    if as_json:
        click.echo(json.dumps({"name": policy.name, "sha256": policy.sha256, "stages": view}))
        return
    click.echo(f"policy {policy.name}, sha256 {policy.sha256}")
    for stage, controls in view.items():
        for name, settings in controls.items():
            click.echo(f"{stage}.{name}")
            for key, value in settings.items():
                click.echo(f"  {key}: {json.dumps(value)}")


@command.command()
def schema() -> None:
    """Print the JSON Schema of policies, for editors and CI."""
    from interlock.guard.policy import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
