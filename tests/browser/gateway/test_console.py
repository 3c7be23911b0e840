"""The console in Chromium: by keyboard, at 390 px, without JavaScript, over post-quantum TLS."""

import base64
import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from interlock.crypto.certs import Authority
from interlock.crypto.tls import HybridContext
from interlock.gateway.rest import build_app
from interlock.gateway.serve import _protocol
from tests.integration.gateway.kit import Kit, bell, kit

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextlib.contextmanager
def served(made: Kit, home: Path) -> Iterator[tuple[str, str]]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pair = Authority(home / "certs").issue("gw", kind="ecdsa-p256", hosts=["localhost"])
    context = HybridContext((pair,))
    leaf = x509.load_pem_x509_certificate(pair.chain.read_bytes())
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(build_app(made.gateway), http=_protocol(False), lifespan="off",
                       log_level="critical", ssl_context_factory=lambda _c, _d: context)
    )  # fmt: skip
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"https://localhost:{listener.getsockname()[1]}", pin
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def page_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    home = tmp_path_factory.mktemp("console") / "home"
    with kit(home) as made:
        released, _ = made.run("ada", bell())
        denied, _ = made.run("ada", bell(2_000_000))
        with served(made, home) as (url, pin), sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=str(CHROMIUM),
                args=[*FLAGS, f"--ignore-certificate-errors-spki-list={pin}"],
            )
            yield made, url, browser, released, denied
            browser.close()


def signed_in(page: Any, url: str, key: str) -> None:
    page.goto(f"{url}/console")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Jobs')")


def test_a_person_reads_why_a_job_was_refused_by_keyboard_and_phone(page_at: Any) -> None:
    made, url, browser, released, denied = page_at
    for script in (True, False):
        context = browser.new_context(
            viewport={"width": 390, "height": 844}, java_script_enabled=script
        )
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda e, into=faults: into.append(str(e)))
        signed_in(page, url, made.key("ada"))
        faults.clear()  # the sign-in page answers 401, which the browser notes
        page.click(f"text={denied}")
        page.wait_for_selector("text=admit.budget.shots-per-job")
        assert page.locator("text=DENY").count() >= 1
        if script:
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.goto(f"{url}/console/jobs/{released}")
        assert "RELEASE" in page.inner_text("main")
        assert "ENFORCED" in page.inner_text("main")
        assert faults == []
        if os.environ.get("INTERLOCK_SHOTS"):
            page.screenshot(path=f"{os.environ['INTERLOCK_SHOTS']}/job-{script}.png")
            page.goto(f"{url}/console")
            page.screenshot(path=f"{os.environ['INTERLOCK_SHOTS']}/jobs-{script}.png")
        context.close()


def test_the_browser_agrees_on_a_post_quantum_group(page_at: Any) -> None:
    _, url, browser, *_ = page_at
    page = browser.new_context().new_page()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    groups: list[str] = []
    session.on("Network.responseReceived", lambda e: groups.append(
        e["response"].get("securityDetails", {}).get("keyExchangeGroup", "")))  # fmt: skip
    page.goto(f"{url}/console")
    page.wait_for_timeout(300)
    assert groups[0] == "X25519MLKEM768"


def test_the_pages_are_closed_to_others_and_to_scripts(page_at: Any) -> None:
    made, _, _, released, _ = page_at
    reply = made.client.get("/console")
    assert reply.status_code == 401
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    entered = made.client.post(
        "/console/enter", content=f"key={made.key('sol')}", follow_redirects=False
    )
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    headers = {"cookie": entered.headers["set-cookie"].split(";")[0]}
    assert made.client.get(f"/console/jobs/{released}", headers=headers).status_code == 404
    forged = made.client.post(
        "/console/approvals", content=f"csrf=x&subject={'0' * 64}&gate=g", headers=headers
    )
    assert forged.status_code == 403
    assert made.client.get("/console/ledger", headers=headers).status_code == 200
    hostile = made.run("ada", bell(labels=["<script>alert(1)</script>"]))[0]
    mine = made.client.post(
        "/console/enter", content=f"key={made.key('ada')}", follow_redirects=False
    )
    mine_headers = {"cookie": mine.headers["set-cookie"].split(";")[0]}
    text = made.client.get(f"/console/jobs/{hostile}", headers=mine_headers).text
    assert "<script>alert" not in text


def test_axe_finds_nothing(page_at: Any) -> None:
    axe = resources.files("axe_playwright_python") / "axe.min.js"
    made, url, browser, released, _ = page_at
    page = browser.new_context(bypass_csp=True).new_page()
    found = {}
    for path in ("/console", f"/console/jobs/{released}", "/console/backends", "/console/tenant"):
        if path == "/console":
            signed_in(page, url, made.key("ada"))
        page.goto(url + path)
        page.add_script_tag(content=axe.read_text())
        result = page.evaluate("axe.run()")
        found[path] = [v["id"] for v in result["violations"]]
    assert found == {path: [] for path in found}, json.dumps(found)
