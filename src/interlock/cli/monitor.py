"""`interlock monitor`: watch telemetry with a false-alarm budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.monitor_covert import covert_command
from interlock.cli.monitor_edge import edge
from interlock.cli.monitor_release import release
from interlock.cli.monitor_triage import triage_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interlock.errors import InterlockError
    from interlock.monitor.detectors.alarms import Alarm
    from interlock.monitor.ingest.otlp import LogEvent
    from interlock.monitor.watch import Note, Watcher

__all__ = ["command"]


_PATH = click.Path(path_type=Path)


class _Group(click.Group):
    """A group whose command `watch` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["watch", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def command() -> None:
    """Watch telemetry with a false-alarm budget: a file, a simulation, or listen for it.

    `interlock monitor FILE` is short for `interlock monitor watch FILE`.
    """


@command.command("watch")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="Watch a simulated device with planted faults.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0),
              help="Seed of the simulation.")  # fmt: skip
@click.option("--budget", default=10.0, show_default=True, help="False alarms a million rows.")
@click.option("--block", default=1, show_default=True, help="Rows a block; 1024 for fast streams.")
@click.option(
    "--period-ms",
    type=float,
    help="Sampling period of the file; the median step of t_ns, or 1, by default.",
)
@click.option("--origin", default="unknown", show_default=True,
              type=click.Choice(["unknown", "simulated", "lab-driver", "cloud-api"]),
              help="Where the file's samples come from.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report here.")
@click.option("--record", is_flag=True, help="Keep alarms and detector health in the home.")
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--device", default="", help="Device the recorded alarms concern.")
@click.option("--detector", help="Name of a released detector for the blocks; none is learnt then.")
@click.option("--detectors", type=_PATH, help="Folder of the released detectors.")
@click.option("--public", type=_PATH, help="Public keys of their owner, JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch_command(
    file: Path | None,
    simulate: bool,
    seed: int,
    budget: float,
    block: int,
    period_ms: float | None,
    origin: str,
    report: Path | None,
    record: bool,
    home: str | None,
    device: str,
    detector: str | None,
    detectors: Path | None,
    public: Path | None,
    as_json: bool,
) -> None:
    """Watch telemetry from FILE (Arrow, Parquet, CSV, NDJSON) or a simulated device."""
    import json
    import time

    from interlock.cli.monitor_live import clear, show_alarm, show_rows
    from interlock.cli.show import printable
    from interlock.monitor.detectors.alarms import AlarmSettings
    from interlock.monitor.frames import Origin
    from interlock.monitor.ingest.files import accounted, read_frames
    from interlock.monitor.ingest.recorded import check_new, digest_of
    from interlock.monitor.ingest.source import Account
    from interlock.monitor.store import Position
    from interlock.monitor.watch import simulated, watch

    if simulate == (file is not None):
        raise click.UsageError("give a FILE, or --simulate")
    if period_ms is not None and not 1e-6 <= period_ms <= 1e12:
        raise click.UsageError("--period-ms must be between 1e-6 and 1e12")
    account, after, kept = Account(), None, None
    if record:
        from interlock import config
        from interlock.crypto.files import private_dir
        from interlock.monitor.store import monitor_store

        kept = monitor_store(private_dir(config.home(home)))
        if file is not None and file.is_file():
            digest = digest_of(file)
            after = check_new(file, digest, kept)

    def ended(reached: Position, repeated: int) -> None:
        account.duplicates += repeated
        if kept is not None and file is not None:
            kept.add_recorded(digest, file.stem, reached, time.time())

    frames = accounted(
        read_frames(
            file,
            period_ns=None if period_ms is None else round(period_ms * 1e6),
            origin=Origin(origin),
            say=lambda line: click.echo(printable(line), err=True),
            after=after,
            on_end=ended,
        )
        if file is not None
        else simulated(seed=seed),
        account,
    )
    live = sys.stdout.isatty() and not as_json

    def show(watcher: Watcher, found: list[tuple[Alarm, Note]]) -> None:
        for alarm, note in found:
            if as_json:
                _say(True, _row(watcher, alarm, note))
            elif live:
                show_alarm(watcher, alarm, note)
        if live:
            show_rows(watcher)

    make = None
    if kept is not None:
        from functools import partial

        from interlock.monitor.live import Recorder

        make = partial(Recorder, store=kept, device=device, account=account)
    learnt = None
    if detector is not None:
        if detectors is None or public is None:
            raise click.UsageError("--detector needs --detectors and --public")
        from interlock.cli.detector import loaded
        from interlock.monitor.learn import scorer_for

        card, weights = loaded(detectors, detector, public, home)
        learnt, block = scorer_for(weights), int(weights["block"])
        if not as_json:
            click.echo(f"detector {card['name']} version {card['version']} of {card['owner']}")
    settings = AlarmSettings(budget_per_million=budget)
    seen = watch(frames, settings=settings, block=block, on_batch=show, make=make, learnt=learnt)
    if seen is None:
        raise click.UsageError("there were no rows to watch")
    if live:
        clear()
    if as_json:
        click.echo(json.dumps({
            "rows": seen.rows, "alarms": len(seen.alarms), "incidents": len(seen.incidents),
            "origin": seen.spec.origin.value, "budget_per_million": budget,
            "source": seen.spec.source, "missing": account.missing,
            "restarts": account.restarts, "duplicates": account.duplicates,
            "clock_steps": account.clock_steps, "unscored": seen.unscored, "began": seen.began,
        }))  # fmt: skip
    else:
        _table(seen)
        if seen.unscored:
            click.echo(f"NOT SCORED {seen.unscored} rows: too few for a block, or for the fused"
                       " kernel to learn from; give a smaller --block")  # fmt: skip
        if not seen.began:
            click.echo("NOT WATCHED for shifts: alarms begin after about 1,500 rows, with --block"
                       " after about 750 blocks")  # fmt: skip
        click.echo(f"{account.rows} rows read, {account.missing} missing"
                   f" ({account.restarts} long gaps), {account.duplicates} seen before"
                   f" and left out, {account.clock_steps} clock steps")  # fmt: skip
    if report is not None:
        _write_report(report, seen, budget)
        if not as_json:
            click.echo(f"report: {report}")


@command.command("listen")
@click.option(
    "--sources",
    required=True,
    type=click.Path(path_type=Path),
    help="File of the sources that may send, with their keys.",
)
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4318, show_default=True, help="Port of OTLP/HTTP, remote write.")
@click.option("--grpc-port", type=int, help="Also listen for OTLP/gRPC on this port.")
@click.option("--cert", "certs", multiple=True, help="Name of a certificate from `certs issue`.")
@click.option("--budget", default=10.0, show_default=True, help="False alarms a million rows.")
@click.option("--buffer-rows", default=1_000_000, show_default=True, help="Rows that may wait.")
@click.option("--rows", type=int, help="Stop after so many rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def listen_command(
    sources: Path,
    home: str | None,
    host: str,
    port: int,
    grpc_port: int | None,
    certs: tuple[str, ...],
    budget: float,
    buffer_rows: int,
    rows: int | None,
    as_json: bool,
) -> None:
    """Receive OTLP and Prometheus remote write from known sources and watch it until stopped."""
    import contextlib

    from interlock import config
    from interlock.cli.monitor_live import clear, show_rows
    from interlock.crypto.certs import KINDS
    from interlock.crypto.files import private_dir
    from interlock.crypto.tls import Files
    from interlock.ledger import Ledger
    from interlock.monitor.access import Tighten
    from interlock.monitor.access_record import AccessWatch, pseudonym_key
    from interlock.monitor.detectors.alarms import AlarmSettings
    from interlock.monitor.frames import StreamKind
    from interlock.monitor.ingest.listen import grpc_listener, http_listener
    from interlock.monitor.ingest.receiver import Receiver
    from interlock.monitor.ingest.sources import read_sources
    from interlock.monitor.live import LiveWatch
    from interlock.monitor.live_access import LiveAccess
    from interlock.monitor.store import monitor_store

    folder = private_dir(config.home(home))
    found = [
        Files(chain=folder / "certs" / f"{n}-{k}.pem", key=folder / "certs" / f"{n}-{k}.key")
        for n in certs
        for k in KINDS
    ]
    pairs = tuple(f for f in found if f.chain.exists())
    if certs and not pairs:
        raise click.UsageError(f"no certificate of that name in {folder / 'certs'}")
    known = read_sources(sources)
    receiver = Receiver(known, buffer_rows=buffer_rows, state=folder / "listen.json")
    live = LiveWatch(
        known, settings=AlarmSettings(budget_per_million=budget), store=monitor_store(folder)
    )
    moving = sys.stdout.isatty() and not as_json
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.close)
        sockets = stack.enter_context(contextlib.ExitStack())
        bound = sockets.enter_context(
            http_listener(receiver, host=host, port=port, certificates=pairs)
        )
        ports = {"http": bound}
        if grpc_port is not None:
            ports["grpc"] = sockets.enter_context(
                grpc_listener(receiver, host=host, port=grpc_port, certificates=pairs)
            )
        _say(as_json, {"listening": host, **ports, "sources": [s.source for s in known]})
        on_events = access = None
        if any(s.kind is StreamKind.AUDIT for s in known):
            ledger = stack.enter_context(Ledger.open(folder))
            access = LiveAccess(AccessWatch(folder, ledger), pseudonym_key(folder))

            def tell(who: str, hour: int, step: Tighten, field: str) -> None:
                if moving:
                    clear()
                _say(as_json, {"pseudonym": who, "hour": hour, "step": step.name.lower(),
                               "field": field})  # fmt: skip

            said: set[str] = set()

            def failed(error: InterlockError) -> None:
                if error.code not in said:  # once; the count comes at the end
                    said.add(error.code)
                    if moving:
                        clear()
                    click.echo(f"audit records are not judged: {error.code}: {error.message}; "
                               f"{error.fix}", err=True)  # fmt: skip

            def on_events(records: list[tuple[str, LogEvent]]) -> None:
                access.take(records, tell, failed)

        def show(found: Iterator[tuple[str, Alarm, Note]]) -> None:
            for source, alarm, note in found:
                if moving:
                    clear()
                _say(as_json, _row(live.watchers[source], alarm, note))

        with contextlib.suppress(KeyboardInterrupt):
            on_rows = show_rows if moving else None
            show(live.run(receiver, rows=rows, on_events=on_events, on_rows=on_rows))
        if moving:
            clear()
        sockets.close()  # what was taken until now is watched; nothing more comes
        show(live.finish(receiver, on_events=on_events))
    for row in live.accounts(receiver):
        _say(as_json, row)
    if access is not None:
        _say(as_json, {"audit_unread": access.unread, "audit_unjudged": access.unjudged})


command.add_command(covert_command)
command.add_command(edge)
command.add_command(triage_command)


@command.group("access")
def access_group() -> None:
    """Look for reconnaissance and misuse in audit logs; it can only ask for more, never grant."""


access_group.add_command(release)

_EVENTS = click.argument("events", type=click.Path(path_type=Path))
_HOME = click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")


@access_group.command("learn")
@_EVENTS
@_HOME
def learn_command(events: Path, home: str | None) -> None:
    """Learn the roles' profiles from ordinary EVENTS (NDJSON) and record their hash."""
    from interlock import config
    from interlock.ledger import Ledger
    from interlock.monitor.access_record import AccessWatch, pseudonym_key, read_events

    folder = config.home(home)
    with Ledger.open(folder) as ledger:
        rows = read_events(events, pseudonym_key(folder))
        profile = AccessWatch(folder, ledger).learn(rows)
    click.echo(f"{len(rows)} events, profiles of {len(profile.roles)} roles")


@access_group.command("judge")
@_EVENTS
@_HOME
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def judge_command(events: Path, home: str | None, as_json: bool) -> int:
    """Judge EVENTS by the recorded profiles; exit code 9 when someone needs a look."""
    from interlock import config
    from interlock.ledger import Ledger
    from interlock.ledger.existing import existing
    from interlock.monitor.access import Tighten
    from interlock.monitor.access_record import AccessWatch, pseudonym_key, read_events

    folder = existing(config.home(home))
    with Ledger.open(folder) as ledger:
        found = AccessWatch(folder, ledger).judge(read_events(events, pseudonym_key(folder)))
    flagged = {k: v for k, v in found.items() if v[0] is not Tighten.NONE}
    for (who, hour), (step, field) in flagged.items():
        _say(as_json, {"pseudonym": who, "hour": hour, "step": step.name.lower(), "field": field})
    _say(as_json, {"principal_hours": len(found), "flagged": len(flagged)})
    return 9 if flagged else 0


def _row(watcher: Watcher, alarm: Alarm, note: Note) -> dict[str, object]:
    return {
        "source": watcher.spec.source, "row": alarm.row, "kind": alarm.kind.value,
        "channel": watcher.name(alarm.channel), "evidence": round(alarm.evidence, 3),
        "shares": {n: round(v, 3) for n, v in note.shares},
    }  # fmt: skip


def _say(as_json: bool, row: dict[str, object]) -> None:
    import json

    from interlock.cli.show import printable

    text = json.dumps(row) if as_json else "  ".join(f"{k} {v}" for k, v in row.items())
    click.echo(printable(text))


def _table(seen: object) -> None:
    from interlock.cli.show import printable
    from interlock.monitor.watch import Watch

    assert isinstance(seen, Watch)
    names = seen.spec.channels
    click.echo(f"{printable(seen.spec.source)}: {seen.rows} rows, samples {seen.spec.origin.value}")
    notes = {id(a): n for a, n in zip(seen.alarms, seen.notes, strict=True)}
    for group in seen.incidents:
        first = group[0]
        name = names[first.channel] if first.channel >= 0 else "several"
        note = notes[id(first)]
        why = ", ".join(f"{n} {v:.0%}" for n, v in note.shares)
        why += f"  shape x{note.look:.1f}" if note.look and note.look > 1.2 else ""
        line = (f"  row {first.row:>9}  {first.kind.value:<6} {name:<14}"
                f" evidence {first.evidence:5.1f}  alarms {len(group)}  {why}")  # fmt: skip
        click.echo(printable(line))
    click.echo(f"{len(seen.incidents)} incidents from {len(seen.alarms)} alarms")


def _write_report(path: Path, seen: object, budget: float) -> None:
    from interlock.errors import StorageError
    from interlock.monitor.report import render
    from interlock.monitor.watch import Watch

    assert isinstance(seen, Watch)
    text = render(
        title=seen.spec.source,
        origin=seen.spec.origin.value,
        channels=seen.spec.channels,
        values=seen.values.astype("f8") + seen.reference,
        alarms=seen.alarms,
        e_process=seen.e_process,
        attributions=seen.attributions,
        budget_per_million=budget,
        first_row=seen.first_row,
        alarm_level=seen.alarm_level,
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            "the report cannot be written",
            code="monitor-report",
            got=str(error),
            expected="a writable path with room",
            fix="choose another --report path",
        ) from error
