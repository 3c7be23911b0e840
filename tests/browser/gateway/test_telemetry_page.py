"""The telemetry pages in Chromium: at 390 px, with and without JavaScript, under the strict CSP."""

import os
from typing import Any

import pytest

from tests.browser.gateway.test_console import CHROMIUM, FLAGS, served, signed_in
from tests.integration.gateway.kit import kit
from tests.integration.gateway.test_console_telemetry import watched

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


def test_timelines_alarms_and_health_can_be_read(tmp_path_factory: Any) -> None:
    from playwright.sync_api import sync_playwright

    home = tmp_path_factory.mktemp("telemetry") / "home"
    home.mkdir(mode=0o700)
    watched(home)
    with kit(home, workers=0) as made, served(made, home) as (url, pin), sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[*FLAGS, f"--ignore-certificate-errors-spki-list={pin}"],
        )
        for script, width in ((True, 390), (False, 1200)):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, java_script_enabled=script
            )
            page = context.new_page()
            faults: list[str] = []
            signed_in(page, url, made.key("adm"))
            page.on("console", lambda m, into=faults: into.append(m.text))
            page.click("text=Telemetry")
            page.wait_for_selector("text=Newest alarms")
            page.click("text=fridge <b>1</b> >> nth=0")
            page.wait_for_selector("text=Detector health")
            assert page.locator("svg").count() == 3
            assert page.locator("meter").count() >= 2
            drawn = page.locator("svg .band").first.bounding_box()
            assert drawn is not None
            assert drawn["width"] > 0.8 * page.locator("svg").first.bounding_box()["width"]
            assert page.locator(".mark").count() >= 2
            if script:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                fill = page.evaluate("getComputedStyle(document.querySelector('.band')).fill")
                assert fill != "rgb(0, 0, 0)"  # the style sheet was let in
            assert faults == []
            if os.environ.get("INTERLOCK_SHOTS"):
                page.screenshot(
                    path=f"{os.environ['INTERLOCK_SHOTS']}/telemetry-{script}.png", full_page=True
                )
            context.close()
        browser.close()
