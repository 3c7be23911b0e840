"""The monitor's report: one HTML file, no script, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from interlock.monitor.detectors.alarms import Alarm

__all__ = ["render"]

WIDTH, HEIGHT = 900, 90
STYLE = """body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}svg{width:100%;height:auto;background:#f6f8fa;border-radius:4px}
h1{font-size:1.4rem}h2{font-size:1rem;margin:1.4rem 0 .3rem}table{border-collapse:collapse}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #d0d7de}
.line{fill:none;stroke:#0550ae;stroke-width:1}.mark{stroke:#b35900;stroke-width:2}
.level{stroke:#cf222e;stroke-dasharray:6 4}.scale{font-weight:normal;color:#656d76}
.bar{fill:#0550ae}.truth{fill:#bf8700;opacity:.3}pre{white-space:pre-wrap}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}
svg{background:#161b22}.line{stroke:#79c0ff}.mark{stroke:#ffa657}.bar{fill:#79c0ff}}"""


def _height(value: float, low: float, high: float) -> float:
    return HEIGHT - 4 - (value - low) / ((high - low) or 1.0) * (HEIGHT - 8)


def _path(values: npt.NDArray[np.float64], low: float, high: float) -> str:
    """Return an SVG path through the low and high of each of at most WIDTH buckets."""
    clean = np.where(np.isfinite(values), values, np.nan)
    if not np.isfinite(clean).any():
        return ""
    count = min(WIDTH, len(clean))
    # Equal in width to a row: `array_split` has longer parts first, which moves the middle.
    parts = np.split(clean, np.arange(1, count) * len(clean) // count)
    points = []
    for k, part in enumerate(parts):
        part = part[np.isfinite(part)]
        for value in (part.min(), part.max()) if len(part) else ():
            y = _height(float(value), low, high)
            points.append(f"{k * WIDTH / len(parts):.0f},{y:.1f}")
    return "M" + "L".join(points)


def _strip(
    title: str,
    values: npt.NDArray[np.float64],
    marks: list[float],
    truth: list[tuple[float, float]],
    level: float | None = None,
) -> str:
    """Return one timeline with its scale; a level is drawn across it."""
    known = values[np.isfinite(values)]
    seen = [float(known.min()), float(known.max())] if len(known) else []
    ends = [*seen, level] if level else seen or [0.0]
    low, high = min(ends), max(ends)
    shade = "".join(
        f'<rect class="truth" x="{a * WIDTH:.1f}" width="{max((b - a) * WIDTH, 1):.1f}" y="0" '
        f'height="{HEIGHT}"/>'
        for a, b in truth
    )
    lines = "".join(
        f'<line class="mark" x1="{x * WIDTH:.1f}" x2="{x * WIDTH:.1f}" y1="0" y2="{HEIGHT}"/>'
        for x in marks
    )
    if level:
        y = _height(level, low, high)
        lines += f'<line class="level" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    name = html.escape(title)
    scale = f"{low:.6g} to {high:.6g}" if len(known) else "no values"
    return (
        f'<h2>{name} <span class="scale">{scale}</span></h2>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
        f'{shade}<path class="line" d="{_path(values, low, high)}"/>{lines}</svg>'
    )


def render(
    *,
    title: str,
    origin: str,
    channels: tuple[str, ...],
    values: npt.NDArray[np.float64],
    alarms: list[Alarm],
    e_process: npt.NDArray[np.float64],
    attributions: list[list[tuple[str, float]]],
    budget_per_million: float,
    truth: Sequence[tuple[int, int, int]] = (),
    figures: str = "",
    first_row: int = 0,
    alarm_level: float | None = None,
) -> str:
    """Return the report: timelines with alarms, the e-process, and each alarm's attributions.

    Args:
        title: the asset.
        origin: where the samples come from; printed beside the title.
        channels: names of the columns of `values` (rows, channels).
        values: the samples.
        alarms: what fired.
        e_process: the e-detector of each row.
        attributions: for each alarm, channels with their share of the score.
        budget_per_million: the promised false-alarm budget.
        truth: known faults as (first row, row after the last, channel), shaded.
        figures: text shown as it is above the timelines.
        first_row: number of the first row of `values`; alarms before it are in the table alone.
        alarm_level: the e-process at which a shift alarms, drawn across it.
    """
    rows = max(len(values), 1)
    last = first_row + len(values)
    budget = f"{budget_per_million:g} false alarms a million rows"
    body = [
        f"<h1>Telemetry of {html.escape(title)}</h1>",
        f"<p>Samples: {html.escape(origin)}. {last} rows, {len(alarms)} alarms; {budget}.</p>",
        f"<p>Timelines: rows {first_row} to {max(last - 1, 0)}.</p>",
    ]
    cells = "".join(
        f"<tr><td>{a.row}</td><td>{a.kind.value}</td><td>"
        f"{html.escape(channels[a.channel]) if a.channel >= 0 else 'several'}</td>"
        f"<td>{a.evidence:.1f}</td><td>"
        + ", ".join(f"{html.escape(n)} {share:.0%}" for n, share in parts)
        + "</td></tr>"
        for a, parts in zip(alarms, attributions, strict=True)
    )
    body.append(
        "<table><thead><tr><th>row</th><th>kind</th><th>channel</th><th>evidence</th>"
        f"<th>attribution</th></tr></thead><tbody>{cells}</tbody></table>"
    )
    if figures:
        body.append(f"<pre>{html.escape(figures)}</pre>")
    late = [a for a in alarms if a.row >= first_row]
    every = [(a.row - first_row) / rows for a in late]
    spans = [(a / rows, b / rows, c) for a, b, c in truth]
    if len(e_process):
        log_e = np.log10(np.maximum(e_process, 1e-3))
        level = None if alarm_level is None else float(np.log10(alarm_level))
        body.append(_strip("e-process (log10)", log_e, every, [s[:2] for s in spans], level))
    for c, name in enumerate(channels[:64]):
        marks = [x for x, a in zip(every, late, strict=True) if a.channel in (c, -1)]
        known = [s[:2] for s in spans if s[2] == c]
        body.append(_strip(name, values[:, c], marks, known))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        + "".join(body)
        + "</body></html>\n"
    )
