"""`interlock check`."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock.circuits.check import CheckedFile, Diagnostic
    from interlock.circuits.packs import Limits
    from interlock.circuits.target import Target


#: Files not looked at that are named; `--format json` has them all.
_NAMED = 10


def _finite(_context: object, _option: object, value: float | None) -> float | None:
    """Refuse a bound or price that no number compares with: NaN is never exceeded."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not a number of 0 or more")
    return value


@click.command(short_help="Say before the queue whether circuits will run, and what they cost.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backend", help="Device snapshot (manila, sherbrooke, ...) or calibration file.")
@click.option("--provider", help="Limits and prices: azure, braket, ibm, local.")
@click.option("--device", default="", help="Device of the provider, for its price: garnet, h2-1.")
@click.option(
    "--usd-per-second", type=float, callback=_finite, help="Price of a second on the device."
)
@click.option("--shots", type=int, default=1024, show_default=True, help="Shots of each circuit.")
@click.option("--max-depth", type=click.IntRange(1), help="Depth allowed.")
@click.option("--max-operations", type=click.IntRange(1), help="Operations allowed.")
@click.option(
    "--max-calibration-age-h",
    type=float,
    callback=_finite,
    help="Hours a calibration may be old.",
)
@click.option("--estimates", is_flag=True, help="The circuits are for an estimator.")
@click.option(
    "--format", "style", type=click.Choice(["text", "json", "sarif"]), default="text",
    show_default=True, help="How to write the report.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    paths: tuple[Path, ...],
    backend: str | None,
    provider: str | None,
    device: str,
    usd_per_second: float | None,
    shots: int,
    max_depth: int | None,
    max_operations: int | None,
    max_calibration_age_h: float | None,
    estimates: bool,
    style: str,
    as_json: bool,
) -> int:
    """Read circuits in a confined child and say every reason a job with them would be refused.

    PATHS are files (OpenQASM 2 and 3, QPY 13 or later, canonical JSON) or folders of them.
    In folders, files that are none of these by name or start, and links, are not looked at: they
    are named on standard error. Exits 1 when a circuit would be refused, and 2 when a folder
    holds none.
    """
    import msgspec

    from interlock.circuits.check import Bounds, check_file, files_of

    target = _target(backend)
    limits = _limits(provider, device, backend or "", usd_per_second)
    kind: Any = "estimate" if estimates else "sample"
    age = max_calibration_age_h
    bounds = Bounds(
        max_depth=max_depth,
        max_operations=max_operations,
        max_calibration_age_s=None if age is None else age * 3600,
        now=time.time(),
    )
    skipped: list[Path] = []
    files = [
        check_file(p, target, limits, shots=shots, kind=kind, bounds=bounds)
        for p in files_of(paths, skipped)
    ]
    if style == "sarif":
        from interlock.circuits.sarif import sarif

        click.echo(json.dumps(sarif(files), indent=2))
    elif as_json or style == "json":
        click.echo(
            json.dumps(
                {
                    "backend": target.name,
                    "shots": shots,
                    "skipped": [str(p) for p in skipped],
                    "files": [{**msgspec.to_builtins(f), "refused": f.refused} for f in files],
                },
                indent=2,
            )
        )
    else:
        for file in files:
            _show(file)
    if skipped:
        _show_skipped(skipped)
    return 1 if any(file.refused for file in files) else 0


def _show_skipped(skipped: list[Path]) -> None:
    """Say on standard error what was not looked at: a report without it would pass for a whole."""
    names = ", ".join(_plain(str(p)) for p in skipped[:_NAMED])
    more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    click.echo(
        f"not looked at: {len(skipped)} (no circuits by name or start, or links): {names}{more}",
        err=True,
    )


def _target(backend: str | None) -> Target:
    from interlock.circuits.target import Target, from_calibration

    if backend is None:
        return Target(name="any device")
    from interlock.backends import Calibration, snapshot

    path = Path(backend)
    if path.suffix == ".json":
        from interlock.circuits.ingest import load_bytes

        return from_calibration(Calibration.from_json(load_bytes(path, 64 * 1024 * 1024)))
    return from_calibration(snapshot(backend))


def _limits(
    provider: str | None, device: str, backend: str, usd_per_second: float | None
) -> Limits:
    import msgspec

    from interlock.circuits.packs import Limits, load_pack
    from interlock.errors import UsageError

    pack = load_pack(provider) if provider else None
    known = pack.devices if pack else {}
    if device and not (pack and (not known or any(part in device.lower() for part in known))):
        raise UsageError(
            f"there are no limits of a device {device!r}",
            code="check-pack",
            got=f"--device {device}" + (f" --provider {provider}" if provider else ""),
            expected="one of " + ", ".join(known) if known else "a --provider with it",
            fix="leave --device out, or choose one that is listed",
        )
    limits = pack.limits_of(device or backend) if pack else Limits()
    if usd_per_second is not None:
        limits = msgspec.structs.replace(limits, usd_per_second=usd_per_second)
    return limits


def _show(file: CheckedFile) -> None:
    verdict = click.style("refused", fg="red") if file.refused else click.style("ok", fg="green")
    facts = ""
    if file.num_qubits is not None:
        facts = f"  {file.num_qubits} qubits, depth {file.depth}, {file.two_qubit_ops} two-qubit"
    click.echo(f"{_plain(file.path)}: {verdict}{facts}{_money(file)}")
    for problem in file.problems:
        _show_problem(file, problem)


def _money(file: CheckedFile) -> str:
    guess = file.estimate
    if guess is None:
        return ""
    parts = []
    if guess.seconds is not None:
        parts.append(f"about {guess.seconds:.3g} s on the device")
    if guess.usd is not None:
        parts.append(f"about {guess.usd:.2f} USD")
    return "  (estimate: " + ", ".join(parts) + ")" if parts else ""


def _plain(text: str) -> str:
    """Return text that cannot steer a terminal, whatever the file held."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _show_problem(file: CheckedFile, problem: Diagnostic) -> None:
    colour = {"error": "red", "warning": "yellow"}.get(problem.severity, "cyan")
    label = click.style(f"{problem.severity}[{problem.rule}]", fg=colour)
    where = f"{_plain(file.path)}:{problem.line}:{problem.column}: " if problem.line else ""
    more = f" (and {problem.count - 1} more)" if problem.count > 1 else ""
    click.echo(f"  {where}{label} {_plain(problem.message)}{more}")
    for name, value in (
        ("at", problem.text),
        ("got", problem.got),
        ("expected", problem.expected),
        ("fix", problem.fix),
    ):
        if value:
            click.echo(f"      {name + ':':<9} {_plain(value)}")
