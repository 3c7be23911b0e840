"""The pictures of a run's report: predicted against observed, evidence over time, fallbacks, maps.

Each is an SVG with a text label and has a table beside it, so that nothing is told by colour or by
picture alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from interlock.backends.calibration import Calibration, age_text
from interlock.errors import InputError
from interlock.guard.health.grades import Grade
from interlock.guard.health.layout import device_grades
from interlock.guard.health.pictures import device_map, evidence_chart
from interlock.guard.validate.figures import wilson

__all__ = ["pictures"]

#: Subjects of a device that a table lists; the ledger has all.
MOST = 24
Job = tuple[str, Mapping[str, Any]]


def pictures(jobs: Sequence[Job], calibrations: Mapping[str, Any]) -> str:
    """Return the pictures as HTML.

    Args:
        jobs: outcome and evidence (`stage.control` -> evidence) of each job, in order.
        calibrations: id -> calibration as recorded.
    """
    return _observed(jobs) + _evidence(jobs) + _fallbacks(jobs) + _maps(jobs, calibrations)


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col>{escape(h)}" for h in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}' for c in row)}</tr>" for row in rows)
    return (
        f"<div class=wide><table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
        "</div>"
    )


def _figure(title: str, svg: str, text: str, table: str) -> str:
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")  # not needed within HTML
    if "aria-label" not in svg:
        svg = svg.replace("<svg ", f"<svg aria-label='{escape(text)}' ", 1)
    return (
        f"<h2>{escape(title)}</h2><figure><div class=wide>{svg}</div>"
        f"<figcaption>{escape(text)}</figcaption></figure>"
        f"<details><summary>As a table</summary>{table}</details>"
    )


def _observed(jobs: Sequence[Job]) -> str:
    """What the calibration lets the sentinels fail, against what they failed."""
    rows = []
    for number, (outcome, evidence) in enumerate(jobs, 1):
        heard = evidence.get("validate.sentinels", {}).get("rows") or []
        shots = sum(int(r["shots"]) for r in heard)
        if shots:
            failed = sum(int(r["failures"]) for r in heard)
            allowed = sum(float(r["allowed"]) * int(r["shots"]) for r in heard) / shots
            low, high = map(float, wilson(shots - failed, shots, 1.645))
            rows.append((number, outcome, 1 - allowed, 1 - failed / shots, low, high))
    if not rows:
        return (
            "<h2>Predicted against observed</h2><p>No job of this run carried sentinels, so nothing"
            " was observed beside the predictions. <code>SentinelSampler(sampler)</code> and"
            " <code>SentinelEstimator(estimator)</code> add them, under the controls"
            " <code>health.sentinels</code> and <code>validate.sentinels</code>.</p>"
        )
    size, edge = 360.0, 34.0
    floor = min(0.5, *(min(r[2], r[4]) for r in rows))
    floor = math.floor(floor * 10) / 10

    def at(value: float) -> float:
        return edge + (size - edge - 10) * (value - floor) / (1 - floor)

    def up(value: float) -> float:
        return size - at(value)

    grid = "".join(
        f"<text x='{at(v) - 8:.0f}' y='{size - 12:.0f}' font-size='11' fill='currentColor'>{v:.1f}"
        f"</text><text x='4' y='{up(v) + 4:.0f}' font-size='11' fill='currentColor'>{v:.1f}</text>"
        for v in (floor, (floor + 1) / 2, 1.0)
    )
    dots = "".join(
        f"<g class='{outcome}'><path d='M{at(x):.1f} {up(low):.1f}V{up(high):.1f}'"
        f" stroke='currentColor'/><circle cx='{at(x):.1f}' cy='{up(y):.1f}' r='4'"
        f" fill='currentColor'/><title>job {n}: predicted at least {x:.3f}, observed {y:.3f},"
        f" {outcome}</title></g>"
        for n, outcome, x, y, low, high in rows
    )
    below = sum(high < x for _, _, x, _, _, high in rows)
    label = (
        f"Sentinel success of {len(rows)} jobs: {below} below what the calibration promises by more"
        " than shot noise"
    )
    svg = (
        f"<svg role=img viewBox='0 0 {size:g} {size:g}' width='{size:g}' height='{size:g}'"
        f" aria-label='{escape(label)}'><path d='M{at(floor):.1f} {up(floor):.1f}L{at(1):.1f}"
        f" {up(1):.1f}' stroke='currentColor' stroke-opacity='.5' stroke-dasharray='5 4'/>"
        f"{grid}{dots}</svg>"
    )
    text = (
        f"{label}. Across: the success the calibration promises at the least. Up: the share of"
        " sentinel shots that came back right, with its 90 % interval. On the dashed line both are"
        " equal; below it the device does worse than it says."
    )
    table = _table(
        "Sentinels of each job", ("Job", "Outcome", "Predicted", "Observed", "90 % interval"),
        [(str(n), o, f"{x:.3f}", f"{y:.3f}", f"{a:.3f} to {b:.3f}") for n, o, x, y, a, b in rows],
    )  # fmt: skip
    return _figure("Predicted against observed", svg, text, table)


def _evidence(jobs: Sequence[Job]) -> str:
    """The e-process of each device over the run, with its threshold."""
    streams: dict[str, list[tuple[int, float, float]]] = {}
    peaks: dict[str, float] = {}
    for number, (_, evidence) in enumerate(jobs, 1):
        heard = evidence.get("validate.sentinels", {})
        found = heard if "log_evidence" in heard else evidence.get("health.sentinels", {})
        if "log_evidence" not in found or not found.get("jobs"):
            continue  # no sentinel has ever run there: no evidence is no sign of health
        stream, peak = str(found["stream"]), float(found["peak"])
        # A job has several sentinels; the evidence may have been highest between them.
        risen = peak > peaks.get(stream, 0.0)
        value = peak if risen else float(found["log_evidence"])
        peaks[stream] = max(peak, peaks.get(stream, 0.0))
        row = (number, value, float(found.get("alpha", 1e-3)))
        streams.setdefault(stream, []).append(row)
    made = ""
    for stream, rows in sorted(streams.items()):
        alpha = rows[-1][2]
        limit = math.log(1 / alpha)
        over = next((n for n, value, _ in rows if value >= limit), None)
        state = f"reached at job {over}" if over else "not reached"
        text = (
            f"Evidence that {stream} does worse than its calibration says, {len(rows)} jobs: the"
            f" threshold of {1 / alpha:g} was {state}. The chance of ever reaching it without"
            f" cause is {alpha:g}, however often anyone looks."
        )
        table = _table(
            f"Evidence about {stream}", ("Job", "Evidence (e to the power of)"),
            [(str(n), f"{value:.2f}") for n, value, _ in rows[-200:]],
        )  # fmt: skip
        svg = evidence_chart([v for _, v, _ in rows], alpha, title=text)
        made += _figure(f"Sentinel evidence: {stream}", svg, text, table)
    return made


def _fallbacks(jobs: Sequence[Job]) -> str:
    """Every job as a box, and which rules led to the baseline."""
    if not jobs:
        return ""
    rules: Counter[str] = Counter(
        str(evidence.get("fell_back", "unknown"))
        for outcome, evidence in jobs
        if outcome == "FALLBACK"
    )
    width, box = 900, 12
    each = width // (box + 2)
    lines = (len(jobs) - 1) // each + 1
    mark = {"FALLBACK": "F", "DENY": "D", "HOLD": "H", "RELEASE": ""}
    boxes = ""
    for index, (outcome, _) in enumerate(jobs[:2000]):
        x, y = index % each * (box + 2), index // each * (box + 4)
        boxes += (
            f"<g class='{escape(outcome)}'><rect x='{x}' y='{y}' width='{box}' height='{box}'"
            f" fill='currentColor'/><text x='{x + 3}' y='{y + 10}' font-size='9' fill='#fff'>"
            f"{mark.get(outcome, '')}</text><title>job {index + 1}: {escape(outcome)}</title></g>"
        )
    fell = sum(rules.values())
    label = f"{fell} of {len(jobs)} jobs were answered by the classical baseline"
    svg = (
        f"<svg role=img viewBox='0 0 {width} {min(lines, 48) * (box + 4)}' width='{width}'"
        f" aria-label='{label}'>{boxes}</svg>"
    )
    text = (
        f"{label} ({fell / len(jobs):.0%}). F: fallback, D: denied, H: held, no letter: released."
    )
    rows = [(rule, str(n), f"{n / len(jobs):.1%}") for rule, n in rules.most_common()]
    table = _table(
        "Rules that led to the baseline", ("Rule", "Jobs", "Share"), rows or [("none", "0", "0 %")]
    )
    return _figure("Fallbacks", svg, text, table)


def _maps(jobs: Sequence[Job], calibrations: Mapping[str, Any]) -> str:
    """Each calibration in force as a map, the qubits in use ringed."""
    used: dict[str, set[int]] = {}
    ages: dict[str, float] = {}
    for _, evidence in jobs:
        found = evidence.get("health.calibration", {})
        key = found.get("id")
        if key is None:
            continue
        names = [str(s["subject"]) for s in found.get("subjects", ())]
        used.setdefault(key, set()).update(int(n[1:]) for n in names if n[1:].isdigit())
        simulated = found.get("kind") == "snapshot"
        ages[key] = 0.0 if simulated else float(found.get("age_h") or 0.0)
    made = ""
    for key, qubits in used.items():
        if key not in calibrations:
            continue
        try:
            calibration = Calibration.from_json(calibrations[key])
        except InputError:
            continue
        grades = device_grades(calibration, max(0.0, ages[key]))
        counts = Counter(level.name for level, _ in grades.values())
        text = (
            f"{calibration.device}, {age_text(calibration.kind, ages[key])}, calibration id {key}: "
            + ", ".join(f"{counts.get(g.name, 0)} {g.name}" for g in Grade)
            + f" of {len(grades)} qubits and couplings. Ringed: the {len(qubits)} qubits in use."
            " AMBER carries !, RED x; estimates by the vendor, not measurements of this run."
        )
        rows = [
            (name, level.name, "; ".join(why), "in use" if _uses(name, qubits) else "")
            for name, (level, why) in sorted(
                grades.items(), key=lambda kv: (not _uses(kv[0], qubits), -kv[1][0], kv[0])
            )
            if level is not Grade.GREEN or _uses(name, qubits)
        ]
        more = f", {MOST} of {len(rows)}" if len(rows) > MOST else ""
        table = _table(
            f"Qubits and couplings in use or not GREEN{more}",
            ("Subject", "Grade", "Reasons", "Use"), rows[:MOST],
        )  # fmt: skip
        svg = device_map(calibration, grades, qubits)
        made += _figure(f"Device health: {calibration.device}", svg, text, table)
    return made


def _uses(subject: str, qubits: set[int]) -> bool:
    parts = subject.replace("q", "").split("-")
    return all(p.isdigit() and int(p) in qubits for p in parts)
