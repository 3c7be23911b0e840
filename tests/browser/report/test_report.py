"""The report's pictures: what they say, and whether Chromium, keyboard and axe can read them."""

import json
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit, transpile

import interlock
from interlock.backends import TwinSampler, twin
from interlock.guard.events import job_line
from interlock.guard.execute.sentinels import SentinelSampler
from interlock.guard.launch import Tally
from interlock.guard.report import write_report
from interlock.guard.report_pictures import pictures
from interlock.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import policy

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    rules = policy(health={"sentinels": {}}, validate={"sentinels": {}})
    tally = Tally()
    for noise, jobs in ((1.0, 3), (4.0, 5)):
        device = twin("nairobi", noise_scale=noise)
        made = QuantumCircuit(3)
        made.h(0)
        made.cx(0, 1)
        made.cx(1, 2)
        made.measure_all()
        guarded = interlock.guard(
            SentinelSampler(TwinSampler(device), shots=128, rng=1), policy=rules, home=home,
            fallback=lambda pubs: [{"000": 50, "111": 50} for _ in pubs],
        )  # fmt: skip
        guarded.interlock.guard.observers.append(lambda event: tally.add(job_line(event)))
        isa = transpile(made, device, seed_transpiler=1)
        for _ in range(jobs):
            guarded.run([isa], shots=100).result()
    path = home / "report.html"
    write_report(path, home, tally.receipts, tally.as_dict(), "train.py")
    with Ledger.read(home) as ledger:
        assert len(list(ledger.entries("calibration"))) == 2
    return path


@pytest.fixture(scope="module")
def page(report: Path) -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--no-first-run"]
        )
        made = browser.new_context(bypass_csp=True, viewport={"width": 390, "height": 800})
        page = made.new_page()
        page.goto(report.as_uri())
        yield page
        browser.close()


def test_the_pictures_say_what_the_run_was(report: Path) -> None:
    text = report.read_text("utf-8")
    assert "Sentinel evidence: ibm_nairobi" in text
    assert "was reached at job" in text
    assert "Device health: ibm_nairobi" in text
    assert "sentinels.alarm" in text
    assert text.count("<script") == 0
    assert "below what the calibration promises" in text
    assert "jobs were answered by the classical baseline" in text


def test_a_run_without_sentinels_says_that_nothing_was_observed() -> None:
    text = pictures([("RELEASE", {})], {})
    assert "nothing was observed" in " ".join(text.split())
    assert "0 of 1 jobs" in text
    history = {"stream": "d", "jobs": 0, "log_evidence": 0.0, "peak": 0.0, "alpha": 1e-3}
    assert "Evidence" not in pictures([("RELEASE", {"health.sentinels": history})], {})
    hostile = pictures([("FALLBACK", {"fell_back": "<script>x</script>"})], {"a": "{}"})
    assert "<script>" not in hostile


def test_every_picture_has_a_name_and_axe_finds_nothing(page: Any) -> None:
    axe = resources.files("axe_playwright_python") / "axe.min.js"
    names = page.eval_on_selector_all(
        "svg[role=img]",
        "all => all.map(s => s.getAttribute('aria-label') || s.querySelector('title').textContent)",
    )
    assert len(names) >= 5
    assert all(len(name) > 8 for name in names)
    page.add_script_tag(content=axe.read_text())
    found = page.evaluate("axe.run()")["violations"]
    assert [v["id"] for v in found] == [], json.dumps(found)[:2000]


def test_tables_open_by_keyboard_and_nothing_runs_over_the_edge(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
