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
.bar{fill:#0550ae}.truth{fill:#bf8700;opacity:.3}pre{white-space:pre-wrap}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}
svg{background:#161b22}.line{stroke:#79c0ff}.mark{stroke:#ffa657}.bar{fill:#79c0ff}}"""


def _path(values: npt.NDArray[np.float64]) -> str:
    """Return an SVG path through the low and high of each of at most WIDTH buckets."""
    clean = np.where(np.isfinite(values), values, np.nan)
    if not np.isfinite(clean).any():
        return ""
    low, high = float(np.nanmin(clean)), float(np.nanmax(clean))
    span = high - low or 1.0
    parts = np.array_split(clean, min(WIDTH, len(clean)))
    points = []
    for k, part in enumerate(parts):
        part = part[np.isfinite(part)]
        for value in (part.min(), part.max()) if len(part) else ():
            y = HEIGHT - 4 - (float(value) - low) / span * (HEIGHT - 8)
            points.append(f"{k * WIDTH / len(parts):.0f},{y:.1f}")
    return "M" + "L".join(points)


def _strip(
    title: str,
    values: npt.NDArray[np.float64],
    marks: list[float],
    truth: list[tuple[float, float]],
) -> str:
    shade = "".join(
        f'<rect class="truth" x="{a * WIDTH:.1f}" width="{max((b - a) * WIDTH, 1):.1f}" y="0" '
        f'height="{HEIGHT}"/>'
        for a, b in truth
    )
    lines = "".join(
        f'<line class="mark" x1="{x * WIDTH:.1f}" x2="{x * WIDTH:.1f}" y1="0" y2="{HEIGHT}"/>'
        for x in marks
    )
    name = html.escape(title)
    return (
        f'<h2>{name}</h2><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
        f'{shade}<path class="line" d="{_path(values)}"/>{lines}</svg>'
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
    """
    rows = max(len(values), 1)
    budget = f"{budget_per_million:g} false alarms a million rows"
    body = [
        f"<h1>Telemetry of {html.escape(title)}</h1>",
        f"<p>Samples: {html.escape(origin)}. {rows} rows, {len(alarms)} alarms; {budget}.</p>",
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
    every = [a.row / rows for a in alarms]
    spans = [(a / rows, b / rows, c) for a, b, c in truth]
    if len(e_process):
        log_e = np.log10(np.maximum(e_process, 1e-3))
        body.append(_strip("e-process (log10)", log_e, every, [s[:2] for s in spans]))
    for c, name in enumerate(channels[:64]):
        marks = [a.row / rows for a in alarms if a.channel in (c, -1)]
        known = [s[:2] for s in spans if s[2] == c]
        body.append(_strip(name, values[:, c], marks, known))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        + "".join(body)
        + "</body></html>\n"
    )
