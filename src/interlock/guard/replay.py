"""Deciding again: every past decision recomputed from the ledger, any difference named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from interlock import plugins
from interlock.errors import InterlockError
from interlock.guard.pipeline import ABSENT, QUANTUM, STAGES, Asked, Trace, walk
from interlock.guard.policy import Policy
from interlock.guard.record import FORMAT, job_from, trace_payload
from interlock.guard.result import Result, Samples
from interlock.guard.validate.figures import figures
from interlock.ledger import Entry
from interlock.types import Evidence

__all__ = ["RecordedSource", "Replayed", "replay"]


class RecordedSource:
    """Gives the evidence a record holds, in place of controls that gather it."""

    def __init__(self, trace: Mapping[str, Any]) -> None:
        self._evidence: dict[tuple[str, str, str], Evidence] = {
            (stage["stage"], stage["branch"], control["control"]): control["evidence"]
            for stage in trace["stages"]
            for control in stage["controls"]
        }

    def __call__(self, asked: Asked) -> Mapping[str, Evidence]:
        """Return what was recorded for these controls."""
        keys = {b.id: (asked.stage, asked.branch, b.id) for b in asked.controls}
        return {
            name: self._evidence[key]
            for name, key in keys.items()
            if self._evidence.get(key, ABSENT) != ABSENT
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One decision, made again.

    Attributes:
        receipt: receipt id.
        index: position in the ledger.
        recorded: the outcome on record.
        recomputed: the outcome now, or None when it could not be decided.
        differences: what is not the same, one line each; empty when all is.
        intervals: what a statistical result replays as: its figures with their intervals.
    """

    receipt: str
    index: int
    recorded: str
    recomputed: str | None
    differences: tuple[str, ...]
    intervals: tuple[Mapping[str, Any], ...] = ()


def replay(entries: Iterable[Entry]) -> Iterator[Replayed]:
    """Decide again every job the entries hold.

    A session entry brings its policy with it, so nothing but the ledger is needed. Differences are
    named: another outcome, another finding, a control of another version or with another source,
    a policy that is not the one whose hash the job carries.
    """
    sessions: dict[str, tuple[Policy | None, list[str]]] = {}
    for entry in entries:
        if entry.event == "session":
            sessions[str(entry.header["session"])] = _session(entry.payload)
        elif entry.event in STAGES and "outcome" in entry.header:
            yield _again(entry, sessions)


def _session(payload: Mapping[str, Any] | None) -> tuple[Policy | None, list[str]]:
    if payload is None:
        return None, ["the session record was erased"]
    try:
        policy = Policy.from_document(payload["policy"]["document"], strict=False)
    except InterlockError as error:
        return None, [f"the recorded policy is no longer accepted: {error.message} ({error.got})"]
    notes = []
    if policy.sha256 != payload["policy"]["sha256"]:
        notes.append("the recorded policy does not have the recorded hash")
    for source in payload["plugins"]:
        try:
            now = plugins.source_of(source["group"], source["name"])
        except InterlockError as error:
            notes.append(f"{source['group']}:{source['name']}: {error.message}")
            continue
        if now.sha256 != source["sha256"]:
            notes.append(
                f"{source['group']}:{source['name']} has other code now"
                f" ({source['version']} then, {now.version} now)"
            )
    return policy, notes


def _again(entry: Entry, sessions: Mapping[str, tuple[Policy | None, list[str]]]) -> Replayed:
    recorded = str(entry.header["outcome"])
    payload = entry.payload

    intervals: tuple[Mapping[str, Any], ...] = ()

    def done(recomputed: str | None, *differences: str) -> Replayed:
        return Replayed(
            receipt=entry.id,
            index=entry.index,
            recorded=recorded,
            recomputed=recomputed,
            differences=differences,
            intervals=intervals,
        )

    if payload is None:
        return done(None, "the payload was erased; the proof that it existed remains")
    if payload.get("format") != FORMAT:
        return done(None, f"record format {payload.get('format')!r}, this version reads {FORMAT}")
    policy, notes = sessions.get(str(payload["session"]), (None, ["its session is not on record"]))
    if policy is None:
        return done(None, *notes)
    if policy.sha256 != payload["policy"]:
        notes = [*notes, "the job names another policy than its session"]
    try:
        job = job_from(payload["job"])
    except msgspec.ValidationError as error:
        return done(None, f"the recorded job cannot be read: {error}")
    trace = walk(job, policy, RecordedSource(payload["trace"]))
    # The code of a plugin may change without changing a decision; that alone is no difference.
    differences = _compare(payload["trace"], trace)
    intervals, wrong = _statistics(payload["trace"])
    differences += wrong
    return done(trace.outcome.value, *(differences and [*differences, *notes]))


def _statistics(recorded: Mapping[str, Any]) -> tuple[tuple[Mapping[str, Any], ...], list[str]]:
    """Return the recorded figures with their intervals, and those the counts do not bear out.

    A measurement cannot be repeated bit for bit; what can be checked is that every published figure
    and its interval follow from the counts on record.
    """
    found = {
        f"{s['stage']}.{c['control']}": c["evidence"]
        for s in recorded["stages"]
        if s["branch"] == QUANTUM
        for c in s["controls"]
    }
    interval = found.get("validate.interval", {})
    published = tuple(interval.get("figures") or ())
    items = found.get("execute.run", {}).get("items") or ()
    if not published or not all("sampling" in f for f in published):
        return published, []
    again: dict[tuple[int, str], Mapping[str, Any]] = {}
    for index, item in enumerate(items):
        result = _counted(item)
        if result is not None:
            made = figures(Result(items=(result,)), float(interval["confidence"])).named
            again |= {(index, str(f["name"])): f for f in made}
    wrong = [
        f"validate.interval: {f['name']} of circuit {f['circuit']} does not follow from the counts"
        for f in published
        if (key := (int(f["circuit"]), str(f["name"]))) in again
        and not _near([f["value"], *f["sampling"]], [again[key]["value"], *again[key]["sampling"]])
    ]
    return published, wrong


def _counted(item: Mapping[str, Any]) -> Samples | None:
    """Return the samples of a record that has all counts."""
    if item.get("kind") != "samples":
        return None
    registers = item["registers"]
    if not all("all" in row for r in registers.values() for row in r["counts"]):
        return None
    return Samples(
        registers={name: [row["all"] for row in r["counts"]] for name, r in registers.items()},
        widths={name: int(r["width"]) for name, r in registers.items()},
        shots=int(item["shots"]),
    )


def _near(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(abs(a - b) <= 1e-9 for a, b in zip(first, second, strict=True))


def _compare(recorded: Mapping[str, Any], trace: Trace) -> list[str]:
    now = msgspec.json.decode(msgspec.json.encode(trace_payload(trace)))
    differences = []
    if now["outcome"] != recorded["outcome"]:
        differences.append(f"outcome: {recorded['outcome']} then, {now['outcome']} now")
    then_by = {(s["stage"], s["branch"]): s for s in recorded["stages"]}
    now_by = {(s["stage"], s["branch"]): s for s in now["stages"]}
    for key in dict.fromkeys([*then_by, *now_by]):
        where = f"{key[0]} ({key[1]})"
        if key not in then_by or key not in now_by:
            differences.append(f"{where}: {'missing' if key not in now_by else 'new'} now")
            continue
        then_controls = {c["control"]: c for c in then_by[key]["controls"]}
        now_controls = {c["control"]: c for c in now_by[key]["controls"]}
        for name in dict.fromkeys([*then_controls, *now_controls]):
            a, b = then_controls.get(name), now_controls.get(name)
            if a is None or b is None:
                differences.append(f"{where} {name}: {'missing' if b is None else 'new'} now")
                continue
            differences += [
                f"{where} {name}: {part} was {a[part]!r}, is {b[part]!r}"
                for part in ("decision", "findings", "version")
                if a[part] != b[part]
            ]
    return differences
