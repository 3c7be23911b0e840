"""Chromium and post-quantum TLS: it is let in with it, and refused without."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.gateway.test_console import CHROMIUM, FLAGS, served
from tests.integration.gateway.kit import kit

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
#: A current Chromium has no switch or policy left that takes its post-quantum group away from TLS
#: 1.3; without TLS 1.3 it offers classical groups alone. The gateway refuses that version already;
#: that it refuses a classical group within TLS 1.3 is shown with other clients in `test_tls.py`.
CLASSICAL = "--ssl-version-max=tls1.2"


def visit(url: str, pin: str, *more: str) -> tuple[int | None, str]:
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[*FLAGS, f"--ignore-certificate-errors-spki-list={pin}", *more],
        )
        try:
            reply = browser.new_page().goto(f"{url}/healthz")
        except Error as error:
            return None, str(error)
        else:
            return (reply.status if reply else None), ""
        finally:
            browser.close()


def test_a_chromium_that_can_only_do_classical_tls_is_refused(tmp_path: Path) -> None:
    seen: list[str] = []

    def note(group: str, _client: str) -> None:
        seen.append(group)

    tls: dict[str, Any] = {"on_handshake": note}
    with (
        kit(tmp_path / "home", workers=0) as made,
        served(made, tmp_path / "home", **tls) as (url, pin),
    ):
        assert visit(url, pin) == (200, "")
        assert set(seen) == {"X25519MLKEM768"}
        seen.clear()
        status, error = visit(url, pin, CLASSICAL)
        assert status is None
        assert "ERR_CONNECTION_CLOSED" in error or "ERR_SSL" in error
        assert not seen  # no handshake came to its end
