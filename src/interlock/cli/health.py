"""`interlock health`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli import health_probe
from interlock.cli.numbers import Finite

if TYPE_CHECKING:
    from interlock.backends import Calibration
    from interlock.monitor.store import MonitorStore


#: Repairs of a device that are printed one by one.
MOST_REPAIRS = 4


class _Group(click.Group):
    """`interlock health CIRCUIT ...` stands for `interlock health show CIRCUIT ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def command() -> None:
    """Say how fit devices are, where a circuit would run best, and what a deviation comes from.

    `interlock health CIRCUIT --backend NAME` is short for `interlock health show ...`.
    """


for _name in health_probe.__all__:
    command.add_command(getattr(health_probe, _name))


@command.command()
@click.argument("circuit", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--backend", "backends", multiple=True, required=True,
    help="Snapshot name or calibration file; may be given more than once.",
)  # fmt: skip
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(min=1),
    help="Compilations tried for each device.",
)  # fmt: skip
@click.option("--svg", type=click.Path(path_type=Path), help="Write the map of the best device.")
@click.option("--home", type=click.Path(), help="Folder whose record of calibrations to use.")
@click.option("--record", is_flag=True, help="Keep these calibrations for forecasts.")
@click.option(
    "--horizon-h",
    default=24.0,
    type=Finite(min=0, min_open=True),
    show_default=True,
    help="How far forecasts matter.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    circuit: Path | None,
    backends: tuple[str, ...],
    seeds: int,
    svg: Path | None,
    home: str | None,
    record: bool,
    horizon_h: float,
    as_json: bool,
) -> int:
    """Say how fit devices are, and where CIRCUIT would run best.

    Predictions are estimates from the calibration, not measurements. A snapshot counts as observed
    when it was taken; a file is judged by its date, as a job is by default. With 27 or more
    recorded calibrations of a device, T1 is forecast: the time until a qubit in use falls below the
    RED threshold, which also counts in the order.
    Exit code 8 when no device is fit.
    """
    from interlock.backends import Twin, TwinSpec

    devices = [Twin(TwinSpec(reported=read_calibration(name))) for name in backends]
    older = [_older_h(name, d.calibration) for name, d in zip(backends, devices, strict=True)]
    rows = [_device_row(d.calibration, age) for d, age in zip(devices, older, strict=True)]
    store = _store(home, [d.calibration for d in devices] if record else [])
    fit = any(row["grade"] != "RED" for row in rows)
    used: tuple[int, ...] = ()
    best = devices[0]
    if circuit is not None:
        from interlock.circuits.ingest import read_circuit
        from interlock.guard.health.layout import best_place, fits

        read = read_circuit(circuit)
        for row, device, age in zip(rows, devices, older, strict=True):
            wide = not fits(read, device.calibration)
            place = None if wide else best_place(read, device, seeds=seeds, older_h=age or 0.0)
            if place is None:
                row["why"] = (
                    f"needs {len(read.used_qubits)} qubits, has {device.calibration.num_qubits}"
                    if wide
                    else "a gate it needs has no usable calibration anywhere it would fit"
                )
            row["circuit"] = None if place is None else {
                "qubits": list(place.qubits),
                **place.prediction._asdict(),
                "grade": place.grade.name,
                "reasons": list(place.reasons),
                "depth": place.depth,
                "two_qubit_ops": place.two_qubit_ops,
            }  # fmt: skip
            qubits = list(place.qubits) if place else []
            row["outlook"] = _outlook(store, device.calibration, qubits, horizon_h)
        order = sorted(range(len(rows)), key=lambda i: -_score(rows[i]))
        rows, best = [rows[i] for i in order], devices[order[0]]
        chosen = rows[0]["circuit"]
        fit = _fit(rows[0])
        used = tuple(chosen["qubits"]) if chosen else ()
    else:
        for row, device in zip(rows, devices, strict=True):
            every = list(range(device.calibration.num_qubits))
            row["outlook"] = _outlook(store, device.calibration, every, horizon_h)
    if svg is not None:
        _write_map(svg, best.calibration, used)
    if as_json:
        click.echo(json.dumps({"devices": rows, "fit": fit}, indent=1))
    else:
        _print(rows)
    return 0 if fit else 8


def read_calibration(name: str) -> Calibration:
    """Return the calibration a snapshot name or a file of the generic JSON form stands for.

    Raises:
        InputError: no such snapshot, or a file that cannot be read.
    """
    from interlock.backends import Calibration, snapshot

    path = Path(name)
    if path.suffix != ".json" and not path.is_file():
        return snapshot(name)
    from interlock.errors import InputError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "the calibration file cannot be read", code="calibration-invalid",
            got=f"{name}: {error.strerror}", expected="a readable JSON file",
            fix="check the path",
        ) from error  # fmt: skip
    return Calibration.from_json(data)


def _older_h(name: str, calibration: Calibration) -> float | None:
    """Return hours since a file's calibration was observed; 0 for a snapshot, None if unknown."""
    import time

    from interlock.guard.health.grades import age_hours

    return age_hours(calibration, time.time()) if Path(name).is_file() else 0.0


def _device_row(calibration: Calibration, older_h: float | None) -> dict[str, Any]:
    from interlock.guard.health.calibration import CalibrationSettings
    from interlock.guard.health.grades import Grade
    from interlock.guard.health.layout import device_grades, overall

    grades = device_grades(calibration, older_h or 0.0)
    counts = {g.name: sum(v[0] is g for v in grades.values()) for g in Grade}
    level = overall(grades)
    limits = CalibrationSettings()
    age = None
    if older_h is None:
        level, age = max(level, Grade.AMBER), "AMBER: the calibration does not say how old it is"
    elif older_h >= limits.max_age_h or older_h < -1:
        level = Grade.RED
        age = f"RED: the calibration is {older_h:.1f} h old (at most {limits.max_age_h:g} h)"
    elif older_h >= limits.amber_age_h:
        level = max(level, Grade.AMBER)
        age = f"AMBER: the calibration is {older_h:.1f} h old (from {limits.amber_age_h:g} h)"
    reds = {name: why for name, (level, why) in grades.items() if level is Grade.RED}
    return {
        "device": calibration.device, "calibration": calibration.id,
        "qubits": calibration.num_qubits, "grade": level.name, "counts": counts,
        "age": age, "repairs": len(calibration.repairs), "source": calibration.source, "red": reds,
        "repaired": [
            f"{r.where}: {r.why}, got {r.got:g}, "
            + ("taken out" if r.used is None else f"used {r.used:g}")
            for r in calibration.repairs
        ],
    }  # fmt: skip


def _fit(row: dict[str, Any]) -> bool:
    """Whether the device's calibration is in force and the chosen place is not RED."""
    stale = (row["age"] or "").startswith("RED")
    return not stale and row["circuit"] is not None and row["circuit"]["grade"] != "RED"


def _store(home: str | None, record: list[Calibration]) -> MonitorStore:
    from interlock import config
    from interlock.guard.health.forecast import record_calibration
    from interlock.monitor.store import monitor_store

    store = monitor_store(config.home(home))
    for calibration in record:
        record_calibration(store, calibration)
    return store


def _outlook(
    store: MonitorStore, calibration: Calibration, qubits: list[int], horizon_h: float
) -> dict[str, Any] | None:
    """Return the worst qubit's outlook, or None without a history that is long enough."""
    from interlock.guard.health.forecast import outlooks
    from interlock.guard.health.grades import Thresholds

    found, _ = outlooks(store, calibration.device, qubits, t1_us=Thresholds().t1_us_red,
                        horizon_h=horizon_h, risk=0.2)  # fmt: skip
    if not found:
        return None
    name, worst = max(found.items(), key=lambda item: (item[1].p_cross, -item[1].low))
    return {
        "qubit": name, "p_cross": worst.p_cross, "hours_to_threshold": worst.hours,
        "method": worst.method, "low_t1_us": worst.low, "calibrations": worst.steps,
    }  # fmt: skip


def _score(row: dict[str, Any]) -> float:
    """Return the estimated success, less the chance that a qubit fails before the job ends.

    Devices that are not fit come after those that are.
    """
    place, outlook = row["circuit"], row["outlook"]
    if place is None:
        return -2.0
    score = float(place["success"]) * (1.0 - (outlook["p_cross"] if outlook else 0.0))
    return score if _fit(row) else score - 1.0


def _write_map(path: Path, calibration: Calibration, used: tuple[int, ...]) -> None:
    from interlock.errors import StorageError
    from interlock.guard.health.layout import device_grades
    from interlock.guard.health.pictures import device_map

    try:
        path.write_text(device_map(calibration, device_grades(calibration), used), "utf-8")
    except OSError as error:
        raise StorageError(
            "the device map cannot be written", code="health-map", got=f"{path}: {error.strerror}",
            expected="a path that can be written", fix="choose another path",
        ) from error  # fmt: skip


def _told(outlook: dict[str, Any] | None) -> str:
    """Return an outlook in a few words."""
    if outlook is None:
        return "too few calibrations"
    hours = outlook["hours_to_threshold"]
    when = "holds" if hours is None else f"{outlook['qubit']} falls in {hours:.0f} h"
    return f"{when}, risk {outlook['p_cross']:.0%} ({outlook['method']})"


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"GREEN": "green", "AMBER": "yellow", "RED": "red"}
    table = Table(box=None, pad_edge=False)
    with_circuit = "circuit" in rows[0]
    names = ["device", "health", "green/amber/red", "repaired", "calibration"]
    with_outlook = any(row["outlook"] for row in rows)
    if with_outlook:
        names.append("T1 forecast")
    for name in names + (["est. success", "best qubits", "2q gates"] if with_circuit else []):
        table.add_column(name)
    for row in rows:
        counts = "/".join(str(n) for n in row["counts"].values())
        colour = colours[row["grade"]]
        cells = [
            escape(row["device"]), f"[{colour}]{row['grade']}[/]", counts, str(row["repairs"]),
            escape(row["source"].removeprefix("ibm properties of ")),
        ]  # fmt: skip
        if with_outlook:
            cells.append(_told(row["outlook"]))
        if with_circuit:
            place = row["circuit"]
            cells += (
                ["does not fit", "", ""]
                if place is None
                else [
                    f"{place['success']:.3f}",
                    " ".join(map(str, place["qubits"])),
                    str(place["two_qubit_ops"]),
                ]
            )
        table.add_row(*cells)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for row in rows:
        told = [row["age"], row.get("why") and f"does not fit: {row['why']}"]
        if len(row["repaired"]) <= MOST_REPAIRS:
            told += [f"repaired {text}" for text in row["repaired"]]
        elif row["repaired"]:
            told.append(f"{row['repairs']} values repaired; --json lists them")
        for text in filter(None, told):
            console.print(f"  {row['device']}: {text}", markup=False, highlight=False)
    if with_circuit and rows[0]["circuit"]:
        for reason in rows[0]["circuit"]["reasons"][:8]:
            console.print(f"  {reason}", markup=False)
        console.print("Estimates from the calibration, not measurements.")
