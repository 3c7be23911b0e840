"""The report of the tenants' case as one HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:75em}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border-top:1px solid #ccc;padding:3px 9px;text-align:left}"
    ".DENY{color:#900}"
)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th scope=col>{html.escape(h)}" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}" for c in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def write(
    path: Path,
    lines: Sequence[str],
    exposure: Sequence[Sequence[str]],
    rules: Sequence[Sequence[str]],
    denied: Sequence[Any],
    seen: dict[str, Any],
) -> None:
    """Write exposure before and after, the rules that fired, and the feed of denials."""
    summary = "".join(f"<li>{html.escape(line)}" for line in lines)
    feed = [[e.time, e.event, e.outcome, e.what, e.who, e.job] for e in denied[:200]]
    hurt = [["not redacted", n, t] for t, n in seen["missed"]]
    hurt += [["redacted without need", n, t] for t, n in seen["wrong"]]
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        "content='width=device-width'><title>Tenants' case</title>"
        f"<style>{STYLE}</style><h1>Tenants' case</h1>"
        "<p>A real gateway and queue, jobs on a simulator, secrets drawn for the case. Before: one "
        "account that both teams share, and logs as they were written."
        f"<ul>{summary}</ul><h2>Exposure</h2>"
        + _table(["what", "before", "after"], exposure)
        + "<h2>The rule that fires</h2>"
        + _table(["who", "tries", "decision", "rule"], rules)
        + "<h2>Denied</h2>"
        + _table(["when (UTC)", "event", "outcome", "what", "by", "job"], feed)
        + "<h2>What the scanner got wrong</h2>"
        + (_table(["what", "times", "line as it came out"], hurt) if hurt else "<p>Nothing."),
        "utf-8",
    )
