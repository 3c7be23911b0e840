"""The HTML report of a run: one file, no scripts, no network, readable by keyboard and ear."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from interlock.backends.calibration import age_text
from interlock.errors import StorageError
from interlock.guard.record import recorded
from interlock.guard.report_pictures import pictures
from interlock.ledger import Entry, Reader

__all__ = ["render", "write_report"]

#: Bars a distribution shows; the rest is summed up.
BARS = 8

_STYLE = """
:root{color-scheme:light dark;--line:#8886;--release:#1a7f37;--fallback:#9a6700;--deny:#cf222e;
--hold:#0969da;--bar:#4493f8}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
th,td{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
code{font-size:.9em;overflow-wrap:anywhere}
.o{font-weight:700}.RELEASE{color:var(--release)}.FALLBACK{color:var(--fallback)}
.DENY{color:var(--deny)}.HOLD{color:var(--hold)}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.2rem .6rem}
summary{cursor:pointer;padding:.3rem 0}
summary:focus-visible,a:focus-visible{outline:3px solid var(--bar);outline-offset:2px}
svg{max-width:100%;height:auto}figure{margin:.5rem 0}.wide{overflow-x:auto}
@media (prefers-color-scheme:dark){:root{--release:#3fb950;--fallback:#d29922;--deny:#ff7b72;
--hold:#79c0ff}}
"""


def write_report(
    path: Path, home: Path, receipts: Sequence[str], summary: Mapping[str, Any], title: str
) -> None:
    """Write the report of some receipts; the file appears whole or not at all.

    Raises:
        StorageError: it cannot be written.
        InputError: a receipt is not in the ledger.
    """
    with recorded(home) as ledger:
        entries = [ledger.find(receipt) for receipt in receipts]
        text = render(entries, summary, title, _calibrations(ledger, entries))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            "the report cannot be written",
            code="report-unwritable",
            got=f"{type(error).__name__}: {error}",
            expected=f"a writable file {path}",
            fix="choose another place with --report; the ledger has everything",
        ) from error


def _calibrations(ledger: Reader, entries: Sequence[Entry]) -> dict[str, str]:
    """Return the calibrations the jobs were decided on, as recorded."""
    wanted = {_evidence(e).get("health.calibration", {}).get("id") for e in entries if e.payload}
    found: dict[str, str] = {}
    for entry in ledger.entries("calibration") if wanted - {None} else ():
        key = str(entry.header["calibration"])
        if key in wanted and entry.payload is not None:
            found[key] = str(entry.payload["calibration"])
    return found


def render(
    entries: Iterable[Entry],
    summary: Mapping[str, Any],
    title: str,
    calibrations: Mapping[str, str] = {},
) -> str:
    """Return the report as HTML.

    Args:
        entries: the final ledger entries of the jobs, in order.
        summary: what `Tally.as_dict` returns.
        title: what ran.
        calibrations: id -> calibration in the generic JSON form, for the device maps.
    """
    jobs = [e for e in entries if e.payload is not None]
    saved = summary["saved"]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = "".join(
        f"<tr><td class='o {o}'>{o}</td><td class=n>{n}</td></tr>"
        for o, n in sorted(summary["outcomes"].items())
    )
    facts = [
        ("Jobs", summary["jobs"]),
        *((("of which within another job", n),) if (n := summary.get("within")) else ()),
        ("Shots run", summary["shots"]),
        ("Cost", f"${summary['cost_usd']:.2f}"),
        ("Jobs stopped before the device", saved["jobs"]),
        ("Shots saved", saved["shots"]),
        ("Cost saved", f"${saved['cost_usd']:.2f}"),
        *(("ALARM", escape(alarm)) for alarm in summary.get("alarms", ())),
        ("Submissions that went round the guard (UNGUARDED)", summary["unguarded"]),
        ("Time of all jobs, s", summary["seconds"]),
        ("of which on devices, s", summary["execution_seconds"]),
    ]
    table = "".join(f"<tr><th scope=row>{k}</th><td class=n>{v}</td></tr>" for k, v in facts)
    body = "".join(_job(i, e) for i, e in enumerate(jobs, 1))
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none';"
        "style-src 'unsafe-inline'\">"
        f"<title>Interlock report: {escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>Interlock report</h1><p><code>{escape(title)}</code>, {made}. Mode ADVISORY:"
        " the guard was a wrapper in the program's own process; user code could go round it.</p>"
        "</header><main><h2>Summary</h2>"
        f"<table><caption>Outcomes</caption><tr><th scope=col>Outcome<th scope=col class=n>Jobs"
        f"</tr>{rows}</table><table><caption>What ran and what was saved</caption>{table}</table>"
        f"{_overview(jobs)}{pictures([_seen(e) for e in jobs], calibrations)}"
        f"<h2>Jobs</h2><p>Each job opens with Enter or a click.</p>{body}"
        "</main></body></html>"
    )


def _evidence(entry: Entry) -> dict[str, Any]:
    """Return stage.control -> evidence; the baseline's own stages do not hide the quantum ones."""
    found: dict[str, Any] = {}
    for stage in (entry.payload or {})["trace"]["stages"]:
        prefix = "" if stage["branch"] == "quantum" else "baseline:"
        for control in stage["controls"]:
            found[f"{prefix}{stage['stage']}.{control['control']}"] = control["evidence"]
    return found


def _seen(entry: Entry) -> tuple[str, dict[str, Any]]:
    """Return outcome and evidence of a job, with the rule that led to the baseline."""
    evidence = _evidence(entry)
    for stage in (entry.payload or {})["trace"]["stages"]:
        if stage["branch"] == "quantum" and stage["decision"] == "FALLBACK":
            rules = [f["rule"] for c in stage["controls"] for f in c["findings"]
                     if c["decision"] == "FALLBACK"]  # fmt: skip
            evidence["fell_back"] = rules[0] if rules else stage["stage"]
    return str(entry.header["outcome"]), evidence


def _overview(jobs: Sequence[Entry]) -> str:
    """Return the picture of predicted fidelity over the run, coloured by outcome."""
    points = []
    for i, entry in enumerate(jobs):
        value = _evidence(entry).get("health.fidelity", {}).get("predicted")
        if isinstance(value, int | float):
            points.append((i, float(value), str(entry.header["outcome"])))
    if len(points) < 2:
        return ""
    width, height = 900.0, 160.0
    last = max(len(jobs) - 1, 1)
    dots = "".join(
        f"<circle cx='{20 + (width - 40) * i / last:.1f}' cy='{height - 20 - 120 * v:.1f}' r='3'"
        f" class='{o}' fill='currentColor'><title>job {i + 1}: {v:.3f}, {o}</title></circle>"
        for i, v, o in points
    )
    grid = "".join(
        f"<line x1=20 x2={width - 20:g} y1={height - 20 - 120 * g:g} y2={height - 20 - 120 * g:g}"
        f" stroke='currentColor' stroke-opacity=.25 /><text x=0 y={height - 16 - 120 * g:g}"
        f" font-size=11 fill='currentColor'>{g:g}</text>"
        for g in (0, 0.5, 1)
    )
    values = [v for _, v, _ in points]
    label = f"Predicted fidelity of {len(points)} jobs, from {min(values):.3f} to {max(values):.3f}"
    return (
        "<h2>Predicted fidelity over the run</h2><figure>"
        f"<svg role=img viewBox='0 0 {width:g} {height:g}' aria-label='{label}'>{grid}{dots}</svg>"
        f"<figcaption>{label}. An estimate from the calibration in force, not a measurement."
        "</figcaption></figure>"
    )


def _job(number: int, entry: Entry) -> str:
    payload: Mapping[str, Any] = entry.payload or {}
    job = payload["job"]
    evidence = _evidence(entry)
    outcome = str(entry.header["outcome"])
    fidelity = evidence.get("health.fidelity", {}).get("predicted")
    calibration = evidence.get("health.calibration", {})
    rule = _cause(payload)
    brief = " · ".join(
        part
        for part in (
            rule,
            str(job["backend"]),
            f"predicted fidelity {fidelity:.3f}" if isinstance(fidelity, int | float) else "",
            age_text(calibration.get("kind"), calibration.get("age_h")),
        )
        if part
    )
    stages = "".join(
        f"<tr><td>{escape(s['stage'])}{' (baseline)' if s['branch'] != 'quantum' else ''}"
        f"<td>{escape(c['control'])}<td>{escape(c['decision'])}<td>{_findings(c)}</tr>"
        for s in payload["trace"]["stages"]
        for c in s["controls"]
    )
    circuits = "".join(
        f"<tr><td><code>{escape(c['sha256'])}</code><td class=n>{c['num_qubits']}"
        f"<td class=n>{c['depth']}<td class=n>{c['bindings']}<td class=n>{c['shots']}</tr>"
        for c in job["circuits"]
    )
    return (
        f"<details id=job-{number}><summary>{number}. <span class='o {outcome}'>{outcome}</span> "
        f"{escape(brief)} <code>{escape(entry.id)}</code></summary>"
        f"<table><caption>Circuits</caption><tr><th scope=col>Identity (SHA-256)"
        "<th scope=col class=n>Qubits<th scope=col class=n>Depth<th scope=col class=n>Parameter"
        f" sets<th scope=col class=n>Shots</tr>{circuits}</table>"
        f"{_results(evidence, outcome)}"
        "<div class=wide><table><caption>Way through the stages</caption><tr><th scope=col>Stage"
        f"<th scope=col>Control<th scope=col>Decision<th scope=col>Findings</tr>{stages}</table>"
        f"</div><p>Ledger entry {entry.index}, leaf <code>{entry.leaf_hash.hex()}</code>, seed"
        f" {escape(str(job['seed']))}, submitted {escape(job['submitted_at'])}.<br>Look closer:"
        f" <code>interlock explain {escape(entry.id)}</code></p></details>"
    )


def _cause(payload: Mapping[str, Any]) -> str:
    for stage in reversed(payload["trace"]["stages"]):
        if stage["decision"] != "ALLOW":
            rules = [f["rule"] for c in stage["controls"] for f in c["findings"]]
            return str(rules[0]) if rules else ""
    return ""


def _findings(control: Mapping[str, Any]) -> str:
    parts = []
    for finding in control["findings"]:
        extra = "".join(
            f"<br>{label}: {escape(str(finding[label]))}"
            for label in ("location", "got", "expected", "fix")
            if finding.get(label)
        )
        parts.append(f"<p><code>{escape(finding['rule'])}</code>: {escape(finding['message'])}"
                     f"{extra}</p>")  # fmt: skip
    return "".join(parts) or "-"


def _results(evidence: Mapping[str, Any], outcome: str) -> str:
    figures = evidence.get("validate.interval", {}).get("figures", [])
    if not figures:
        return ""
    shown = figures[:BARS]
    rows = "".join(
        f"<tr><td>{escape(str(f['name']))}<td class=n>{f['value']:.4f}<td class=n>{f['low']:.4f}"
        f"<td class=n>{f['high']:.4f}<td>{_bar(f)}</tr>"
        for f in shown
    )
    confidence = evidence["validate.interval"].get("confidence")
    share = f"{confidence:.0%}" if isinstance(confidence, int | float) else "the policy's"
    more = f", {len(shown)} of {len(figures)} figures" if len(figures) > len(shown) else ""
    what = "Result" if outcome == "RELEASE" else "What the device gave, not handed over"
    return (
        f"<table><caption>{what}, with {share} intervals{more}</caption><tr><th scope=col>Figure"
        "<th scope=col class=n>Value<th scope=col class=n>Low<th scope=col class=n>High"
        f"<th scope=col>Picture</tr>{rows}</table>"
    )


def _bar(figure: Mapping[str, Any]) -> str:
    low_end = -1.0 if figure["low"] < 0 else 0.0
    span = 1.0 - low_end

    def x(value: float) -> float:
        return 200 * (min(max(value, low_end), 1.0) - low_end) / span

    label = f"{figure['value']:.4f} between {figure['low']:.4f} and {figure['high']:.4f}"
    zero = x(0.0)
    value = x(figure["value"])
    return (
        f"<svg role=img aria-label='{label}' viewBox='0 0 200 14' width=200 height=14>"
        f"<rect x={min(zero, value):.1f} y=3 width={abs(value - zero):.1f} height=8"
        " fill='var(--bar)' fill-opacity=.6 />"
        f"<path d='M{x(figure['low']):.1f} 7H{x(figure['high']):.1f}M{x(figure['low']):.1f} 3v8"
        f"M{x(figure['high']):.1f} 3v8' stroke='currentColor' fill=none /></svg>"
    )
