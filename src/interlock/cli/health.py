"""`interlock health`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock.backends import Calibration, Twin


@click.command()
@click.argument("circuit", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--backend", "backends", multiple=True, required=True,
    help="Snapshot name or calibration file; may be given more than once.",
)  # fmt: skip
@click.option("--seeds", default=3, show_default=True, help="Compilations tried for each device.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the map of the best device.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    circuit: Path | None, backends: tuple[str, ...], seeds: int, svg: Path | None, as_json: bool
) -> int:
    """Say how fit devices are, and where CIRCUIT would run best.

    Predictions are estimates from the calibration, not measurements. A snapshot counts as
    observed when it was taken. Exit code 8 when no device is fit.
    """
    devices = [_device(name) for name in backends]
    rows = [_device_row(d.calibration) for d in devices]
    fit = any(row["grade"] != "RED" for row in rows)
    used: tuple[int, ...] = ()
    best = devices[0]
    if circuit is not None:
        from interlock.circuits.ingest import read_circuit
        from interlock.guard.health.layout import best_place, fits

        read = read_circuit(circuit)
        for row, device in zip(rows, devices, strict=True):
            place = (
                best_place(read, device, seeds=seeds) if fits(read, device.calibration) else None
            )
            row["circuit"] = None if place is None else {
                "qubits": list(place.qubits),
                **place.prediction._asdict(),
                "grade": place.grade.name,
                "reasons": list(place.reasons),
                "depth": place.depth,
                "two_qubit_ops": place.two_qubit_ops,
            }  # fmt: skip
        order = sorted(range(len(rows)), key=lambda i: -_score(rows[i]))
        rows, best = [rows[i] for i in order], devices[order[0]]
        chosen = rows[0]["circuit"]
        fit = chosen is not None and chosen["grade"] != "RED"
        used = tuple(chosen["qubits"]) if chosen else ()
    if svg is not None:
        _write_map(svg, best.calibration, used)
    if as_json:
        click.echo(json.dumps({"devices": rows, "fit": fit}, indent=1))
    else:
        _print(rows)
    return 0 if fit else 8


def _device(name: str) -> Twin:
    from interlock.backends import Calibration, Twin, TwinSpec, snapshot

    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        from interlock.errors import InputError

        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                "the calibration file cannot be read", code="calibration-invalid",
                got=f"{name}: {error.strerror}", expected="a readable JSON file",
                fix="check the path",
            ) from error  # fmt: skip
        return Twin(TwinSpec(reported=Calibration.from_json(data)))
    return Twin(TwinSpec(reported=snapshot(name)))


def _device_row(calibration: Calibration) -> dict[str, Any]:
    from interlock.guard.health.grades import Grade
    from interlock.guard.health.layout import device_grades

    grades = device_grades(calibration)
    counts = {g.name: sum(v[0] is g for v in grades.values()) for g in Grade}
    share = counts["RED"] / max(len(grades), 1)
    level = "RED" if share > 0.5 or not grades else "AMBER" if share > 0.0 else "GREEN"
    reds = {name: why for name, (level, why) in grades.items() if level is Grade.RED}
    return {
        "device": calibration.device, "calibration": calibration.id,
        "qubits": calibration.num_qubits, "grade": level, "counts": counts,
        "repairs": len(calibration.repairs), "source": calibration.source, "red": reds,
    }  # fmt: skip


def _score(row: dict[str, Any]) -> float:
    place = row["circuit"]
    return -1.0 if place is None else float(place["success"])


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


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    colours = {"GREEN": "green", "AMBER": "yellow", "RED": "red"}
    table = Table(box=None, pad_edge=False)
    with_circuit = "circuit" in rows[0]
    names = ["device", "health", "green/amber/red", "repaired", "calibration"]
    for name in names + (["est. success", "best qubits", "2q gates"] if with_circuit else []):
        table.add_column(name)
    for row in rows:
        counts = "/".join(str(n) for n in row["counts"].values())
        colour = colours[row["grade"]]
        cells = [
            row["device"], f"[{colour}]{row['grade']}[/]", counts, str(row["repairs"]),
            row["source"].removeprefix("ibm properties of "),
        ]  # fmt: skip
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
    if with_circuit and rows[0]["circuit"]:
        for reason in rows[0]["circuit"]["reasons"][:8]:
            console.print(f"  {reason}", markup=False)
        console.print("Estimates from the calibration, not measurements.")
