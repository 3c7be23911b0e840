"""`interlock ci`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

_path = click.Path(path_type=Path)
_LEVELS = ["note", "low", "medium", "high", "critical", "never"]


@click.command(short_help="Scan, preflight, policy tests and statistical tests in one command.")
@click.argument("paths", nargs=-1, type=_path)
@click.option("--circuits", multiple=True, type=_path, help="Circuits; those in PATHS by default.")
@click.option("--backend", help="Device the circuits must fit, as for `interlock check`.")
@click.option("--policy", type=_path, help="Policy bundle or folder whose golden table must hold.")
@click.option("--tests", multiple=True, type=_path, help="Statistical tests, run with pytest.")
@click.option(
    "--require",
    multiple=True,
    type=click.Choice(["scan", "preflight", "policy", "tests"]),
    help="Steps that fail when they have nothing to do; scan always.",
)
@click.option(
    "--fail-on",
    type=click.Choice(_LEVELS),
    default="low",
    show_default=True,
    help="Least severity of a scan finding that fails; never is refused.",
)
@click.option("--strict", is_flag=True, help="Fail when anything could not be looked into.")
@click.option(
    "--shot-flake",
    type=float,
    default=0.01,
    show_default=True,
    help="Probability of any false failure of the statistical tests.",
)
@click.option("--junit", type=_path, help="Write JUnit XML here.")
@click.option("--sarif", type=_path, help="Write SARIF 2.1.0 here.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(paths: tuple[Path, ...], **options: Any) -> int:
    """Run everything a pull request should pass over PATHS (here by default).

    Exits 1 when a step fails. A step that has nothing to do says so.
    """
    from interlock.errors import UsageError
    from interlock.scan import ci, run

    if options["fail_on"] == "never":
        raise UsageError(
            "interlock ci is a gate: it cannot be told never to fail",
            code="ci-never",
            got="--fail-on never",
            expected="--fail-on " + ", ".join(_LEVELS[:-1]),
            fix="`interlock scan --fail-on never` only reports; in a workflow, let the step fail "
            "and set continue-on-error",
        )
    results, report = ci.run_ci(
        ci.CiOptions(
            paths=paths or (Path(),),
            circuits=options["circuits"],
            backend=options["backend"],
            policy=options["policy"],
            tests=options["tests"],
            require=("scan", *options["require"]),
            fail_on=options["fail_on"],
            strict=options["strict"],
            shot_flake=options["shot_flake"],
        )
    )
    text = ci.summary(results)
    if options["junit"]:
        run.save(options["junit"], ci.junit(results))
    if options["sarif"]:
        run.save(options["sarif"], ci.sarif(report))
    ci.step_summary(text)
    if options["as_json"]:
        rows = [
            {"step": r.name, "outcome": r.outcome.value, "detail": r.detail, "seconds": r.seconds,
             "failures": [[n, t] for n, t in r.cases if t is not None], "notes": r.notes}
            for r in results
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=1))
    else:
        click.echo(text, nl=False)
    return 1 if any(r.outcome is ci.Outcome.FAILED for r in results) else 0
