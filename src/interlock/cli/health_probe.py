"""The subcommands of `interlock health` that run something or change something."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from interlock.backends import Calibration

__all__ = ["alarms", "attribute", "clear", "learn", "seeds"]

SAMPLER = click.option(
    "--sampler", metavar="MODULE:NAME",
    help="A Qiskit sampler of your own to run on; without one, a simulation of the calibration.",
)  # fmt: skip
SEED = click.option("--seed", type=int, help="Of twirls, circuits and simulation; else fresh ones.")
HOME = click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
COUNT = click.IntRange(min=1)
LEVEL = click.FloatRange(0, 1, min_open=True, max_open=True)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def _running(sampler: str | None) -> Iterator[None]:
    """Name a failure of the user's own sampler as one."""
    from interlock.errors import InterlockError, UsageError

    try:
        yield
    except InterlockError:
        raise
    except Exception as error:
        if sampler is None:
            raise
        raise UsageError(
            "the sampler failed", code="health-sampler",
            got=f"{sampler}: {type(error).__name__}: {error!s:.300}",
            expected="a Qiskit sampler that runs circuits of the named backend",
            fix="run a circuit on it by itself first",
        ) from error  # fmt: skip


def _device(name: str, sampler: str | None, seed: int | None) -> tuple[Any, Calibration, Any]:
    """Return what runs, the calibration in force, and a backend to compile for."""
    import time

    import numpy as np

    from interlock.backends import Twin, TwinSampler, TwinSpec, calibration_of
    from interlock.cli.health import read_calibration
    from interlock.errors import UsageError

    if sampler is None:
        twin = Twin(TwinSpec(reported=read_calibration(name)))
        seeds = np.random.default_rng(seed)

        class Fresh(TwinSampler):
            """New random numbers for each job, the same for the same seed."""

            def run(self, pubs: Any, *, shots: int | None = None) -> Any:
                self._seed = int(seeds.integers(2**31))
                return super().run(pubs, shots=shots)

        return Fresh(twin), twin.calibration, twin
    from importlib import import_module

    module, _, attribute = sampler.partition(":")
    sys.path.insert(0, "")
    try:
        made = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            "the sampler cannot be imported", code="health-sampler", got=f"{sampler}: {error}",
            expected="module:name of a Qiskit sampler",
            fix="check the name; the module must be importable from this folder",
        ) from error  # fmt: skip
    finally:
        sys.path.remove("")
    calibration = calibration_of(made, now=time.time()) if name == "own" else read_calibration(name)
    if calibration is None or not calibration.num_qubits:
        raise UsageError(
            "the sampler's device offers no calibration", code="health-sampler", got=sampler,
            expected="a calibration to compare with",
            fix="name a snapshot or a calibration file with --backend",
        )  # fmt: skip
    return made, calibration, Twin(TwinSpec(reported=calibration))


@click.command()
@click.argument("circuit", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--backend", required=True, help="Snapshot name, calibration file, or `own` with --sampler."
)
@SAMPLER
@click.option(
    "--shots", default=4000, show_default=True, type=COUNT, help="Shots of each of the three arms."
)
@click.option(
    "--batches", default=8, show_default=True, type=COUNT, help="Jobs the shots are spread over."
)
@click.option("--effect", default=0.05, show_default=True, help="Smallest deviation that matters.")
@SEED
@JSON
def attribute(
    circuit: Path, backend: str, sampler: str | None, shots: int, batches: int, effect: float,
    seed: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Say what CIRCUIT's deviation comes from: shot noise, coherent error, bias, drift or noise.

    Runs it plain, with twirled gates, and with inverted bits, and says what these shots cannot
    tell. Without --sampler it runs on a simulation of the calibration itself: that shows what the
    shots could tell, not how the device is. Exit code 1 when a cause was found.
    """
    import msgspec
    from qiskit import transpile

    from interlock.circuits.ingest import read_circuit
    from interlock.circuits.qiskit_adapter import to_qiskit
    from interlock.errors import InputError
    from interlock.guard.health.probe import probe

    if not 0 < effect < 1:
        raise InputError(
            "the effect is a total variation", code="probe-batches", got=f"{effect:g}",
            expected="between 0 and 1", fix="leave it at 0.05",
        )  # fmt: skip
    runner, calibration, target = _device(backend, sampler, seed)
    native = transpile(
        to_qiskit(read_circuit(circuit)), target, optimization_level=1, seed_transpiler=1
    )
    with _running(sampler):
        found = probe(
            runner, native, calibration, shots=shots, batches=batches, effect=effect, rng=seed
        )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found) | {"statement": found.statement}))
    else:
        click.echo(f"{found.cause}: {found.statement}")
        click.echo("cause      p         seen from (80 % chance)")
        for name, test in found.tests.items():
            mark = "  <- found" if test.found else ""
            click.echo(f"{name:10} {test.p:<9.2g} {test.detectable:.3f}{mark}")
        if sampler is None:
            click.echo("On a simulation of the calibration: no statement about the device.")
    return 0 if found.cause in ("shot-noise", "cannot-tell") else 1


@click.command()
@click.option(
    "--backend", required=True, help="Snapshot name, calibration file, or `own` with --sampler."
)
@SAMPLER
@click.option(
    "--circuits", default=60, show_default=True, type=COUNT, help="Circuits with known answers."
)
@click.option("--shots", default=1000, show_default=True, type=COUNT, help="Shots of each.")
@SEED
@HOME
@JSON
def learn(
    backend: str, sampler: str | None, circuits: int, shots: int, seed: int | None,
    home: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Run circuits with known answers, so that intervals fit this device.

    `validate.interval` then uses the device's own record instead of the shipped one.
    """
    from interlock import config
    from interlock.guard.health import known

    runner, calibration, target = _device(backend, sampler, seed)
    with _running(sampler):
        added = known.learn(
            runner, calibration, target, config.home(home), circuits=circuits, shots=shots, rng=seed
        )
    _, basis = known.bounds_for(config.home(home), calibration.device, 0.9)
    if as_json:
        click.echo(json.dumps({"device": calibration.device, "added": added, "basis": basis}))
    else:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(added.items()))
        click.echo(f"{calibration.device}: {sum(added.values())} scores added ({counts})")
        click.echo(f"intervals of this device now rest on: {basis}")
    return 0


@click.command()
@click.option(
    "--backend", required=True, help="Snapshot name, calibration file, or `own` with --sampler."
)
@SAMPLER
@click.option(
    "--shots", default=2000, show_default=True, type=COUNT, help="Shots of each of three runs."
)
@HOME
@JSON
def seeds(
    backend: str, sampler: str | None, shots: int, home: str | None, as_json: bool
) -> int:  # fmt: skip
    """Find out whether a device honours its seed, and record it in the ledger.

    Runs one circuit twice with one seed and once with another. Exit code 1 unless it does.
    """
    from interlock import config
    from interlock.guard.health.seeds import seed_honesty, seeded
    from interlock.guard.jobs import local_principal
    from interlock.ledger import Ledger

    runner, calibration, target = _device(backend, sampler, None)
    with _running(sampler):
        found = seed_honesty(seeded(target if sampler is None else runner, target, shots))
    with Ledger.open(config.home(home)) as ledger:
        header = {"device": calibration.device, "probe": "seed", "verdict": found["verdict"]}
        payload = {**found, "by": local_principal().id, "calibration": calibration.id}
        receipt = ledger.append("probe", header, payload).wait(30.0).id
    if as_json:
        click.echo(json.dumps({**header, **found, "receipt": receipt}))
    else:
        words = {
            "honoured": "the same seed gives the same counts, another seed others",
            "ignored": "the same seed gave different counts: the device does not use it",
            "constant": "the counts are the same whatever the seed",
            "unknown": "equal counts would be no surprise: take more shots",
        }
        click.echo(f"{calibration.device}: {found['verdict']}: {words[found['verdict']]}")
        click.echo(f"recorded: {receipt}")
    return 0 if found["verdict"] == "honoured" else 1


@click.command()
@HOME
@click.option(
    "--alpha", default=1e-3, show_default=True, type=LEVEL, help="False-alarm level of the policy."
)
@JSON
def alarms(home: str | None, alpha: float, as_json: bool) -> int:
    """List the devices the sentinels know, and which of them have an alarm; exit 1 when any has."""
    from interlock import config
    from interlock.guard.health.evidence_store import EvidenceStore

    folder = config.home(home)
    store = EvidenceStore(folder)
    rows = []
    for stream in store.streams() if store.path.exists() else ():
        state = store.read(stream)
        rows.append(
            {"stream": stream, "alarm": state.alarms(alpha), "jobs": state.jobs,
             "shots": state.shots, "failures": state.failures, "log_evidence": state.log_value,
             "peak": state.peak}
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"streams": rows}))
    elif not rows:
        click.echo("no sentinels have run here")
    for row in () if as_json else rows:
        mark = "ALARM" if row["alarm"] else "quiet"
        click.echo(
            f"{mark}  {row['stream']}  {row['failures']} of {row['shots']} sentinel shots failed, "
            f"highest evidence e^{row['peak']:.1f}"
        )
    return 1 if any(row["alarm"] for row in rows) else 0


@click.command()
@click.argument("stream")
@click.option("--reason", required=True, help="What was done about the device.")
@HOME
@JSON
def clear(stream: str, reason: str, home: str | None, as_json: bool) -> int:
    """Begin STREAM's evidence anew, after its device was mended; the ledger says who and why.

    The person is the operating system's user. STREAM is as `interlock health alarms` names it.
    """
    from interlock import config
    from interlock.errors import InputError
    from interlock.guard.health.evidence_store import EvidenceStore
    from interlock.guard.jobs import local_principal
    from interlock.ledger import Ledger

    folder = config.home(home)
    store = EvidenceStore(folder)
    known = store.streams() if store.path.exists() else ()
    if stream not in known or not reason.strip():
        raise InputError(
            "there is no such evidence to clear, or no reason to",
            code="sentinel-stream",
            got=f"stream {stream!r}, reason {reason!r}",
            expected=f"one of {', '.join(known) or '(none)'}, and a reason in words",
            fix="see `interlock health alarms`",
        )
    before = store.read(stream)
    by = local_principal().id
    # The record comes first: an alarm that is gone without one could not be explained.
    with Ledger.open(folder) as ledger:
        entry = ledger.append(
            "alarm-cleared",
            {"stream": stream, "by": by},
            {"reason": reason, "jobs": before.jobs, "shots": before.shots,
             "failures": before.failures, "peak": before.peak},
        ).wait(30.0)  # fmt: skip
    store.clear(stream)
    if as_json:
        click.echo(json.dumps({"stream": stream, "by": by, "receipt": entry.id}))
    else:
        click.echo(f"{stream}: the evidence begins anew; recorded as {entry.id} by {by}")
    return 0
