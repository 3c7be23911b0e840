"""A second opinion on the governor: its journal read and its limits added up by another hand.

Nothing here comes from Interlock. Amounts are fractions, so that no rounding hides a breach.
"""

from __future__ import annotations

import json
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any


def read(journal: Path) -> list[dict[str, Any]]:
    """Return the records of a journal; a line with a wrong checksum raises."""
    records = []
    for line in journal.read_bytes().rstrip(b"\0").splitlines():
        check, body = line.split(b" ", 1)
        if int(check, 16) != zlib.crc32(body):
            raise ValueError("a line of the journal is damaged")
        records += json.loads(body, parse_float=Fraction)
    return records


def _exposure(held: dict[str, Fraction], price: dict[str, Fraction]) -> Fraction:
    return sum((abs(q) * price[s] for s, q in held.items() if q), Fraction(0))


def breaches(records: list[dict[str, Any]], appetite: dict[str, Any]) -> list[str]:
    """Return every breach by an order that was allowed."""
    held: dict[str, Fraction] = {}
    price: dict[str, Fraction] = {}
    equity = peak = None
    past: list[tuple[int, int, Fraction]] = []
    found = []
    for record in records:
        if record["kind"] == "mark":
            price |= {s.upper(): Fraction(p) for s, p in record["prices"].items()}
            equity = Fraction(record["equity"])
            peak = equity if peak is None else max(peak, equity)
        if record["kind"] != "orders" or record["rule"] is not None:
            continue
        if record["stopped"] is not None:
            found.append(f"{record['id']}: allowed while stopped")
        before, grows, notional = _exposure(held, price), False, Fraction(0)
        for order in record["orders"]:
            name, size = order["symbol"].upper(), Fraction(order["quantity"])
            moved = size if order["side"] == "buy" else -size
            has = held.get(name, Fraction(0))
            grows |= has * moved >= 0 or abs(moved) > abs(has)
            held[name] = has + moved
            price[name] = max(price.get(name, Fraction(0)), Fraction(order["price"]))
            notional += size * Fraction(order["price"])
        past.append((record["t"], len(record["orders"]), notional))
        for number, window in enumerate(appetite["windows"]):
            # Every interval of this length that ends now.
            inside = [p for p in past if p[0] >= record["t"] - int(window["seconds"] * 10**9)]
            if sum(p[1] for p in inside) > window["orders"]:
                found.append(f"{record['id']}: orders of window {number}")
            if sum(p[2] for p in inside) > Fraction(window["notional"]):
                found.append(f"{record['id']}: notional of window {number}")
        after = _exposure(held, price)
        if after > Fraction(appetite["max_exposure"]) and (grows or after > before):
            found.append(f"{record['id']}: exposure {float(after):.2f}")
        lost = Fraction(0) if equity is None or peak is None else peak - equity
        if grows and lost > Fraction(appetite["max_drawdown"]):
            found.append(f"{record['id']}: drawdown {float(lost):.2f}")
    return found


def unaccounted(records: list[dict[str, Any]], released: list[dict[str, Any]]) -> list[str]:
    """Return every released order that the journal does not hold as allowed, exactly once."""
    allowed = [
        (r["id"].split("/")[0], json.dumps(r["orders"], default=float, sort_keys=True))
        for r in records
        if r["kind"] == "orders" and r["rule"] is None
    ]
    found = []
    for row in released:
        key = (row["job"], json.dumps(row["orders"], sort_keys=True))
        if allowed.count(key) != 1:
            found.append(f"{row['job']}: {allowed.count(key)} times in the journal")
    return found
