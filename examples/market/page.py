"""The report of the market case as one HTML page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
    "td,th{border-top:1px solid #ccc;padding:3px 9px;text-align:left}"
    ".RELEASE{color:#060}.DENY{color:#900}"
)


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{html.escape(h)}" for h in head)
    return f"<table><tr>{top}" + "".join(f"<tr>{''.join(r)}" for r in rows) + "</table>"


def _cell(value: Any, kind: str = "") -> str:
    return f"<td{f' class={kind}' if kind else ''}>{html.escape(str(value))}"


def _score(score: float | None) -> str:
    return "not run" if score is None else f"{score:+.3f}"


def _orders(orders: list[dict[str, Any]]) -> str:
    return "; ".join(f"{o['side']} {o['quantity']:g} {o['symbol']} @ {o['price']:.2f}"
                     for o in orders)  # fmt: skip


def _limits(limits: dict[str, Any]) -> list[list[str]]:
    told = {
        f"in any {w['seconds']:g} s": f"{w['orders']} orders, notional {w['notional']:,.0f}"
        for w in limits["windows"]
    }
    told["gross exposure"] = f"{limits['max_exposure']:,.0f}"
    told["drawdown from the highest equity"] = f"{limits['max_drawdown']:,.0f}"
    told["override"] = (
        f"two of {', '.join(limits['overriders'])}, for at most {limits['max_override_s']:g} s"
    )
    return [[_cell(name), _cell(value)] for name, value in told.items()]


def write(
    path: Path,
    lines: list[str],
    signals: list[list[str]],
    tape: list[dict[str, Any]],
    limits: dict[str, Any],
) -> None:
    """Write numbers, the table of signals and the whole tape."""
    summary = "".join(f"<li>{html.escape(line)}" for line in lines)
    rows = [
        [
            _cell(r["step"]), _cell(r["scene"]), _cell(r["text"]), _cell(_score(r["score"])),
            _cell(_orders(r["proposed"])), _cell(r["outcome"], r["outcome"]),
            _cell(_orders(r["orders"])), _cell(r["reason"]), _cell(r["receipt"]),
        ]
        for r in tape
    ]  # fmt: skip
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>Market case</title><style>{STYLE}</style>"
        "<h1>Market case</h1><p>Real embeddings of text written for the case, a simulated device, "
        "a synthetic order book. Nothing here says that the signal earns money."
        f"<ul>{summary}</ul><h2>Signals</h2>"
        + _table(["signal", "right sign on news", "acted on pure noise", "acted on news"],
                 [[_cell(c) for c in row] for row in signals])
        + "<h2>Limits that were signed</h2>"
        + _table(["limit", "at most"], _limits(limits))
        + "<h2>Tape</h2>"
        + _table(["step", "scene", "headline", "score", "proposed", "outcome", "released",
                  "reason", "receipt"], rows),
        "utf-8",
    )  # fmt: skip
