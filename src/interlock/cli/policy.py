"""`interlock policy`: make, check, test, compare, sign and show policies."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import click


@click.group()
def command() -> None:
    """Make, check and show policies."""


STARTERS = ("research-group", "regulated-company", "multi-tenant-provider")


@command.command()
@click.argument("path", type=click.Path(), default="policy.yaml")
@click.option("--starter", type=click.Choice(STARTERS), help="A whole bundle folder instead.")
def init(path: str, starter: str | None) -> None:
    """Write the starter policy to PATH, or a starter bundle's folder; nothing is overwritten."""
    from interlock.errors import UsageError

    root = resources.files("interlock.guard")
    source = root.joinpath("starters", starter) if starter else root.joinpath("starter.yaml")
    try:
        if starter:
            Path(path).mkdir(parents=True)
            for item in source.iterdir():
                (Path(path) / item.name).write_text(item.read_text("utf-8"), "utf-8")
        else:
            with Path(path).open("x", encoding="utf-8") as stream:
                stream.write(source.read_text("utf-8"))
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


@command.command()
@click.argument("folder", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, help="The bundle file.")
@click.option("--home", type=click.Path(), help="Folder whose keys sign.")
def bundle(folder: str, output: str, home: str | None) -> None:
    """Build FOLDER into one signed bundle. Its golden table must pass."""
    from interlock import config
    from interlock.crypto import files
    from interlock.crypto.keys import KeyStore
    from interlock.guard import bundle as bundles

    built = bundles.build(Path(folder))
    _fail_on([r for r in _tested(built) if not r.passed])
    where = files.private_dir(config.home(home))
    keys = KeyStore(where / "keys")
    data = bundles.sign(built, keys)
    target = Path(output)
    files.write_private(target, data, mode=0o644)
    bundles.trust(where, bundles.public_keys(keys))
    click.echo(f"wrote {output}: bundle sha256 {built.sha256}, policy {built.policy().sha256}")


@command.command()
@click.argument("keys", type=click.Path(), required=False)
@click.option("--home", type=click.Path(), help="Folder that shall trust the signer.")
def trust(keys: str | None, home: str | None) -> None:
    """Trust the signer in the file KEYS; without it, print this home's own public keys."""
    from interlock import config
    from interlock.crypto import files
    from interlock.crypto.keys import KeyStore
    from interlock.errors import InputError
    from interlock.guard import bundle as bundles

    where = files.private_dir(config.home(home))
    if keys is None:
        click.echo(json.dumps(bundles.public_keys(KeyStore(where / "keys")), indent=1))
        return
    try:
        public = json.loads(Path(keys).read_text("utf-8"))
        if set(public) != set(bundles.ALGORITHMS):
            raise ValueError(f"algorithms {sorted(public)}")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "this is no file of public keys",
            code="policy-keys",
            got=f"{type(error).__name__}: {error}",
            expected="what `interlock policy trust` prints where bundles are signed",
            fix="ask the signer for the file again",
        ) from error
    bundles.trust(where, public)
    click.echo(f"{where} trusts {public['ed25519']}")


def _open(path: str) -> Any:
    from interlock import config
    from interlock.guard.bundle import open_bundle

    return open_bundle(Path(path), config.home())


def _tested(opened: Any) -> list[Any]:
    from interlock.guard.tables import run_tests

    return run_tests(opened)


def _fail_on(failed: list[Any]) -> None:
    if not failed:
        return
    from interlock.errors import PolicyError

    raise PolicyError(
        f"{len(failed)} rows of the golden table fail",
        code="policy-tests-failed",
        got="; ".join(f"{r.name}: {r.got}" for r in failed[:5]),
        expected="every row as written",
        fix="mend the rules, or the row if the change is meant",
    )


@command.command()
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def test(path: str, as_json: bool) -> None:
    """Run the golden table of the bundle or folder PATH."""
    results = _tested(_open(path))
    if as_json:
        click.echo(
            json.dumps([{"name": r.name, "passed": r.passed, "got": r.got} for r in results])
        )
    else:
        for r in results:
            click.echo(f"{'ok  ' if r.passed else 'FAIL'} {r.name}: {r.got}")
        click.echo(f"{sum(r.passed for r in results)} of {len(results)} rows hold")
    _fail_on([r for r in results if not r.passed])


@command.command()
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def lint(path: str, as_json: bool) -> int:
    """Name what looks wrong in the bundle or folder PATH; exit code 1 when there is anything."""
    from interlock.guard.tables import lint as find

    found = find(_open(path))
    for line in [json.dumps(found)] if as_json else found:
        click.echo(line)
    if not found and not as_json:
        click.echo("nothing looks wrong")
    return 1 if found else 0


@command.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def diff(old: str, new: str, as_json: bool) -> int:
    """Show who gains and who loses what from OLD to NEW; exit code 1 when somebody gains."""
    import dataclasses

    from interlock.guard.access_diff import diff as compare

    changes = compare(_open(old), _open(new))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(c) for c in changes]))
    else:
        for c in changes:
            when = f" when {c.when}" if c.when else ""
            click.echo(f"{c.kind} {c.who + ': ' if c.who else ''}{c.what}{when} ({c.detail})")
        counts = [f"{sum(c.kind == kind for c in changes)} {kind}" for kind in ("gains", "loses")]
        click.echo(" and ".join(counts) + " of access")
    return 1 if any(c.kind == "gains" for c in changes) else 0
