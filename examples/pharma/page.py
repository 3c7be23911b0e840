"""The report of the pharma case as one HTML page."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path
from typing import Any

from interlock.guard.filter.packs.molecules import draw_svg

STYLE = "body{font:15px sans-serif;margin:2em}td,th{border-top:1px solid #ccc;padding:4px}"
DRAWN = 300


def name(text: str, row: dict[str, Any]) -> str:
    """Return one name for all spellings of a molecule."""
    return row["smiles"] or text


def write(path: Path, lines: list[str], table: str, jobs: list[dict[str, Any]]) -> None:
    """Write numbers, then of each job what was blocked, with the atoms, and what was released."""
    summary = "".join(f"<li>{html.escape(line)}" for line in lines)
    parts = [
        (
            f"<!doctype html><meta charset=utf-8><title>Pharma case</title><style>{STYLE}</style>"
            "<h1>Pharma case</h1><p>Simulated device, real chemistry checks. A screening aid, not "
            f"toxicology.<ul>{summary}</ul><h2>Generators</h2><pre>{html.escape(table)}</pre>"
        )
    ]
    for job in jobs:
        judged = {name(s, row): row for s, row in job["judged"].items()}
        proposed, released = (
            Counter(name(s, job["judged"][s]) for s in job[which])
            for which in ("proposed", "released")
        )
        parts.append(
            f"<h2>{html.escape(job['title'])}</h2><p>job {job['job']}<h3>Blocked</h3>"
            "<table><tr><th>substructure<th>molecule<th>rule<th>proposed<th>classical-only check"
        )
        blocked = [(s, r) for s, r in judged.items() if r["blocked"]]
        for number, (smiles, row) in enumerate(blocked):
            first = next((r for r in row["blocked"] if r.atoms), row["blocked"][0])
            picture = (
                draw_svg(row["smiles"], list(first.atoms))
                if row["smiles"] and number < DRAWN
                else ""
            )
            why = "; ".join(
                f"{r.rule}: {r.got}" + ("" if r.atoms else f", allowed {r.expected}")
                for r in row["blocked"]
            )
            alone = "blocked here, passed by a classical-only check" if row["alone"] else ""
            parts.append(
                f"<tr><td>{picture}<td><code>{html.escape(smiles)}</code><td>{html.escape(why)}"
                f"<td>{proposed[smiles]}<td>{alone}"
            )
        parts.append("</table><h3>Released</h3><table><tr><th><th>molecule<th>warnings<th>times")
        for number, (smiles, times) in enumerate(released.most_common()):
            row = judged[smiles]
            warned = "; ".join(f"{r.rule}: {r.got}" for r in row["warned"])
            picture = draw_svg(row["smiles"], []) if number < DRAWN else ""
            parts.append(
                f"<tr><td>{picture}<td><code>{html.escape(smiles)}</code>"
                f"<td>{html.escape(warned)}<td>{times}"
            )
        parts.append("</table>")
    path.write_text("".join(parts), "utf-8")
