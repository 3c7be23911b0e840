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

from interlock.access import keys
from interlock.crypto.certs import Authority
from interlock.crypto.tls import HybridContext
from interlock.gateway.rest import build_app
from interlock.gateway.serve import _protocol
from interlock.gateway.store import Tenant
from interlock.types import Principal
from tests.integration.gateway.kit import MEMBERS, RULES, Kit, bell, kit, policy
from tests.integration.gateway.test_console_pages import OPERATE, native

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextlib.contextmanager
def served(made: Kit, home: Path, **tls: Any) -> Iterator[tuple[str, str]]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pair = Authority(home / "certs").issue("gw", kind="ecdsa-p256", hosts=["localhost"])
    context = HybridContext((pair,), **tls)
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
    made_of = policy(budget={"max_shots_per_job": 1_000_000, "max_jobs_per_day": 50,
                             "max_shots_per_day": 2_000, "max_qpu_s_per_day": 60.0,
                             "prices": {"*": {"per_shot_s": 0.0005}}})  # fmt: skip
    rules = made_of["admit"]["authorisation"]
    rules["rules"] = RULES + OPERATE
    rules["members"] = [*MEMBERS, {"id": "olga", "tenant": "provider", "roles": ["operator"]}]
    with kit(home, document=made_of) as made:
        released, _ = made.run("ada", bell())
        made.run("lea", bell(1200))
        made.run("ada", native(10))
        made.gateway.store.set_tenant(Tenant(name="north"))
        made.gateway.store.set_tenant(Tenant(name="south", weight=2.0))
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


#: page -> who may open it.
PAGES = {
    "": "lea", "/approvals": "lea", "/devices": "ada", "/budgets": "lea", "/events": "lea",
    "/tenant": "adm", "/tenants": "olga", "/ledger": "adm", "/telemetry": "adm",
}  # fmt: skip


def key_of(made: Any, who: str) -> str:
    if who != "olga":
        return str(made.key(who))
    who_is = Principal(id="olga", tenant="provider")
    return keys.issue(made.gateway.access, who_is, lifetime_s=600)[1]


@pytest.mark.parametrize("width", [390, 1200])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(page_at: Any, width: int) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    made, url, browser, released, denied = page_at
    found = {}
    for who in dict.fromkeys(PAGES.values()):
        context = browser.new_context(
            bypass_csp=True, viewport={"width": width, "height": 900},
            color_scheme="dark" if who == "ada" else "light",
        )  # fmt: skip
        page = context.new_page()
        signed_in(page, url, key_of(made, who))
        mine = [p for p, reader in PAGES.items() if reader == who]
        if who == "lea":
            mine += [f"/jobs/{released}", f"/jobs/{denied}"]
        for path in mine:
            page.goto(f"{url}/console{path}")
            for more in page.locator("summary").all():
                more.click()
            if shots := os.environ.get("INTERLOCK_SHOTS"):
                name = path.replace("/", "-")[:12] or "-jobs"
                page.screenshot(path=f"{shots}/page{name}-{width}.png", full_page=True)
            page.add_script_tag(content=axe)
            result = page.evaluate("axe.run()")
            found[path] = [(v["id"], v["nodes"][0]["target"]) for v in result["violations"]]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found[path].append(("width", wide))
        context.close()
    assert found == {path: [] for path in found}, json.dumps(found)


def test_the_new_pages_work_by_keyboard_and_under_the_strict_policy(page_at: Any) -> None:
    made, url, browser, *_ = page_at
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    signed_in(page, url, made.key("lea"))
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text))
    for name in ("Devices", "Budgets", "Events"):
        link = page.locator(f"nav a:has-text('{name}')")
        for _ in range(30):
            page.keyboard.press("Tab")
            if link.evaluate("e => e === document.activeElement"):
                break
        page.keyboard.press("Enter")
        page.wait_for_selector(f"h1:has-text('{name}')")
        if name == "Devices":  # the map, which may be wider than a phone, scrolls by keyboard
            page.locator(".map").first.focus()
            page.locator("summary").first.focus()
            page.keyboard.press("Enter")
            assert page.locator("details[open]").count() == 1
    assert said == []
    context.close()


def test_events_come_live_and_can_be_read_without_scripts(page_at: Any) -> None:
    made, url, browser, released, _ = page_at
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    signed_in(page, url, made.key("lea"))
    page.on("console", lambda m: said.append(m.text))
    page.goto(f"{url}/console/events")
    page.wait_for_selector("text=Live: newer ones appear")
    before = page.locator(".events li").count()
    fresh, _ = made.run("ada", bell(5, labels=["<img src=x onerror=alert(1)>"]))
    page.wait_for_selector(f".events li:first-child:has-text('{fresh}')")
    assert page.locator(".events li").count() > before
    assert page.locator(".events img").count() == 0
    assert said == []
    plain = browser.new_context(java_script_enabled=False).new_page()
    signed_in(plain, url, made.key("lea"))
    plain.goto(f"{url}/console/events")
    assert fresh in plain.inner_text("main")
    assert released in plain.inner_text("main")
    context.close()
