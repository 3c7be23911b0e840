"""`interlock check`: read files, run the rules, estimate, say where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from interlock.circuits.canonical import Circuit
from interlock.circuits.estimate import Estimate, busiest, estimate
from interlock.circuits.ingest import Limits as ReadLimits
from interlock.circuits.ingest import ingest
from interlock.circuits.packs import Limits
from interlock.circuits.preflight import RULES, Kind, Problem, inspect
from interlock.circuits.target import Target
from interlock.errors import InputError, UsageError

__all__ = ["Bounds", "CheckedFile", "Diagnostic", "check_circuit", "check_file", "files_of"]

SUFFIXES = (".qasm", ".qasm2", ".qasm3", ".qpy", ".circuit.json")
_CANONICAL = re.compile(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"num_qubits"\s*:')
_PLACE = re.compile(r"line (\d+), column (\d+): ")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller allows besides what the device and the provider do; None is no bound.

    Attributes:
        max_depth: depth; blocks count with their rounds.
        max_operations: operations, counted so too.
        max_calibration_age_s: oldest calibration of the device.
        now: seconds since the epoch, that the age is counted to.
    """

    max_depth: int | None = None
    max_operations: int | None = None
    max_calibration_age_s: float | None = None
    now: float = 0.0


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """A problem with its severity and its place in the file."""

    rule: str
    severity: str
    message: str
    got: str | None
    expected: str | None
    fix: str | None
    line: int | None = None
    column: int | None = None
    instruction: int | None = None
    text: str = ""
    count: int = 1


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one file."""

    path: str
    problems: tuple[Diagnostic, ...]
    sha256: str | None = None
    num_qubits: int | None = None
    depth: int | None = None
    size: int | None = None
    two_qubit_ops: int | None = None
    estimate: Estimate | None = None

    @property
    def refused(self) -> bool:
        """Whether the file has an error."""
        return any(p.severity == "error" for p in self.problems)


def files_of(paths: Iterable[Path], skipped: list[Path] | None = None) -> Iterator[Path]:
    """Yield the circuit files among the given paths, folders searched, links not followed.

    Args:
        paths: files, which are all taken, and folders.
        skipped: gets the files, and the links, that are in the folders and are not looked at.

    Raises:
        UsageError: `check-nothing`; a path is not there, or a folder holds no circuit.
    """
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise UsageError(
                    f"there is no file {str(path)!r}",
                    code="check-nothing",
                    got=str(path),
                    expected="a file or a folder",
                    fix="check the path",
                )
            yield path
            continue
        within = sorted(p for p in path.rglob("*") if p.is_symlink() or not p.is_dir())
        found = [p for p in within if _is_circuit(p)]
        if skipped is not None:
            skipped += [p for p in within if not _is_circuit(p)]
        if not found:
            raise UsageError(
                f"there is no circuit in {str(path)!r}",
                code="check-nothing",
                got=f"{len(within)} files and links, none a file with a known ending",
                expected=", ".join(SUFFIXES),
                fix="name the files themselves",
            )
        yield from found


def _is_circuit(path: Path) -> bool:
    name = path.name.lower()
    if path.is_symlink() or not path.is_file():
        return False
    return name.endswith(SUFFIXES) or (name.endswith(".json") and _starts_as_circuit(path))


def _starts_as_circuit(path: Path) -> bool:
    """Whether a file starts as the canonical form is written; any other JSON is not looked at."""
    try:
        with path.open("rb") as file:
            return _CANONICAL.match(file.read(200)) is not None
    except OSError:
        return False


def check_file(
    path: Path,
    target: Target,
    limits: Limits,
    *,
    shots: int,
    kind: Kind = "sample",
    read: ReadLimits | None = None,
    bounds: Bounds | None = None,
) -> CheckedFile:
    """Read one file and check it; a file that cannot be read has that as its problem."""
    try:
        circuit = ingest(path, limits=read).circuit
    except InputError as error:
        place = _PLACE.match(error.message)
        return CheckedFile(
            path=str(path),
            problems=(
                Diagnostic(
                    rule=error.code,
                    severity="error",
                    message=_PLACE.sub("", error.message),
                    got=error.got,
                    expected=error.expected,
                    fix=error.fix,
                    line=int(place[1]) if place else None,
                    column=int(place[2]) if place else None,
                ),
            ),
        )
    return check_circuit(
        circuit, target, limits, shots=shots, kind=kind, path=str(path), bounds=bounds
    )


def check_circuit(
    circuit: Circuit,
    target: Target,
    limits: Limits,
    *,
    shots: int,
    kind: Kind = "sample",
    path: str = "",
    bounds: Bounds | None = None,
) -> CheckedFile:
    """Check one circuit against a device, a provider's limits and the caller's bounds."""
    found = [_placed(p, circuit) for p in inspect(circuit, target, kind=kind)]
    guess = estimate(circuit, target, limits, shots=shots)
    found += _provider(circuit, limits, guess, shots)
    found += _bounded(circuit, target, bounds or Bounds())
    order = {"error": 0, "warning": 1, "note": 2}
    found.sort(key=lambda d: (order[d.severity], d.line or 0))
    return CheckedFile(
        path=path,
        problems=tuple(found),
        sha256=circuit.sha256,
        num_qubits=circuit.num_qubits,
        depth=circuit.depth,
        size=circuit.size,
        two_qubit_ops=circuit.two_qubit_ops,
        estimate=guess,
    )


def _bounded(circuit: Circuit, target: Target, bounds: Bounds) -> list[Diagnostic]:
    """Compare with what the caller allows."""
    age = None
    if bounds.max_calibration_age_s is not None and target.calibrated_at is not None:
        age = bounds.now - datetime.fromisoformat(target.calibrated_at).timestamp()
    rows = (
        ("depth", circuit.depth, bounds.max_depth, "layers", "transpile at a higher level"),
        ("size", circuit.size, bounds.max_operations, "operations", "shorten the circuit"),
        (
            "stale-calibration", age, bounds.max_calibration_age_s, "seconds",
            "fetch the calibration again, then transpile for it",
        ),
    )  # fmt: skip
    return [
        Diagnostic(
            rule=rule,
            severity="error",
            message="the calibration is too old"
            if rule == "stale-calibration"
            else "the circuit is larger than allowed",
            got=f"{value:.0f} {unit}",
            expected=f"at most {most:.0f}",
            fix=fix,
        )
        for rule, value, most, unit, fix in rows
        if value is not None and most is not None and value > most
    ]


def _placed(problem: Problem, circuit: Circuit) -> Diagnostic:
    line = column = None
    if problem.instruction is not None and problem.instruction < len(circuit.lines):
        line, column = circuit.lines[problem.instruction]
    return Diagnostic(
        rule=problem.rule,
        severity=RULES[problem.rule],
        message=problem.message,
        got=problem.got,
        expected=problem.expected,
        fix=problem.fix,
        line=line,
        column=column,
        instruction=problem.instruction,
        text=problem.text,
        count=problem.count,
    )


def _provider(circuit: Circuit, limits: Limits, guess: Estimate, shots: int) -> list[Diagnostic]:
    """Compare with the limits of the provider."""
    rows: tuple[tuple[str, float | None, float | None, str, str], ...] = (
        ("provider-qubits", circuit.num_qubits, limits.max_qubits, "qubits", "use fewer qubits"),
        ("provider-shots", shots, limits.max_shots, "shots", "use fewer shots, or several jobs"),
        (
            "provider-executions", guess.executions, limits.max_executions, "executions",
            "use fewer shots or parameter sets, or several jobs",
        ),
        (
            "provider-seconds", guess.seconds, limits.max_seconds, "seconds on the device",
            "use fewer shots, or split the job",
        ),
        (
            "provider-ops", busiest(circuit), limits.max_ops_per_qubit, "operations on one qubit",
            "shorten the circuit",
        ),
    )  # fmt: skip
    return [
        Diagnostic(
            rule=rule,
            severity="error",
            message="the provider takes no such job",
            got=f"{value:g} {unit}",
            expected=f"at most {limit:g}",
            fix=fix,
        )
        for rule, value, limit, unit, fix in rows
        if value is not None and limit is not None and value > limit
    ] + (
        [
            Diagnostic(
                rule="shots",
                severity="error",
                message="the number of shots makes no sense",
                got=str(shots),
                expected="1 or more",
                fix="pass --shots",
            )
        ]
        if shots < 1
        else []
    )
