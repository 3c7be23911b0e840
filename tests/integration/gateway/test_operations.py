"""Metrics and log of a running gateway."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from interlock.access import keys
from interlock.gateway.metrics import METRICS
from interlock.types import Principal
from tests.integration.gateway.kit import bell, kit, policy
from tests.integration.gateway.test_serve import free_port

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
LINE = re.compile(r'[a-z_]+(?:\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"\})? \d+')


def test_every_metric_is_documented_as_it_is() -> None:
    rows = re.findall(r"^\| `(quantum[\w.]+)` \| `(\w+)` \| (\w+) \| (?:`(\w+)`)? ?\|",
                      PAGE.read_text("utf-8"), re.MULTILINE)  # fmt: skip
    assert rows == [(m.name, m.exposed, m.kind, m.label) for m in METRICS]


def test_what_happened_is_counted_and_nobody_is_named(tmp_path: Path) -> None:
    with kit(tmp_path / "home") as made:
        made.run("ada", bell())
        assert made.call("ada", "GET", "/v1/policy").status_code == 403
        assert made.call("", "GET", "/v1/jobs").status_code == 401
        made.gateway.count("tls", 'X"\n')
        made.gateway.ready = False
        assert made.call("adm", "GET", "/metrics").status_code == 403
        scraper = Principal(id="prometheus", kind="service", tenant="ops")
        made.tokens["prometheus"] = keys.issue(
            made.gateway.access, scraper, lifetime_s=60, scopes=("metrics",)
        )[1]
        assert made.call("prometheus", "GET", "/v1/jobs").status_code == 403
        reply = made.call("prometheus", "GET", "/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = reply.text
    shown = [x for x in text.splitlines() if not x.startswith("#")]
    assert all(LINE.fullmatch(x) for x in shown), shown
    for line in ('quantum_jobs{state="done"} 1', "quantum_gateway_submitted_total 1",
                 'quantum_gateway_refused_total{reason="read-policy"} 1',
                 'quantum_gateway_refused_total{reason="unauthenticated"} 1',
                 'quantum_gateway_tls_total{group="X\\"\\n"} 1',
                 "quantum_gateway_ready 0"):  # fmt: skip
        assert line in shown
    assert "north" not in text
    assert "ada" not in text


def test_a_failure_of_the_gateway_is_logged_by_its_route(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    (home / "credentials").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "p.yaml").write_text(json.dumps(policy()))
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "serve", "--home", str(home), "--host",
         "127.0.0.1", "--port", str(port), "--plain", "--policy", str(home / "p.yaml")],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())
    assert (first["message"], first["rest"]) == ("serving", f"127.0.0.1:{port}")
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as reply:
                assert json.load(reply) == {"ready": True}
            break
        except OSError:
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 0
    assert [json.loads(x)["message"] for x in rest] == ["draining"]
