"""The tenants' case end to end: nothing crosses, secrets are redacted, shown keys are revoked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("qiskit_aer")
pytest.importorskip("fastapi")

CASE = Path(__file__).parents[3] / "examples" / "tenants"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_case_runs_and_nothing_crosses(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, str(CASE / "run.py"), "--quick", "--report", str(page)],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "cross-tenant attempts: 400, 0 crossed" in out
    assert re.search(r"at the store, past the gateway: \d{2,} reads, .* 0 crossed", out)
    shared = re.search(r"with one shared account: (\d+) of 400 crossed", out)
    assert shared is not None
    assert int(shared[1]) > 50  # or the attempts would show nothing
    measured = re.search(
        r"200 secrets planted among 2000 decoys; recall (\S+), precision (\S+),", out
    )
    assert measured is not None
    assert float(measured[1]) >= 0.98
    assert float(measured[2]) >= 0.9
    keys = re.search(r"API keys shown: (\d+), revoked (\d+), still work 0", out)
    assert keys is not None
    assert keys[1] == keys[2] != "0"
    text = page.read_text()
    for rule in ("jobs-stay-in-their-tenant", "tenants-stay-apart", "own-tenant-backends"):
        assert rule in text
    assert "shown in" not in text
    assert not re.search(r"ilk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", text + out)


def test_the_attempts_find_a_leak_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that answers with another's id, person or label is caught; a refusal is none."""
    sys.path.insert(0, str(CASE))
    import attempts

    class Reply:
        def __init__(self, status: int, text: str) -> None:
            self.status_code, self.text = status, text

    class Leaky:
        def __init__(self, reply: Reply) -> None:
            self.reply = reply

        def call(self, *_: object) -> Reply:
            return self.reply

    made = {"north": ["n1" * 14, "n2" * 14], "south": ["s1" * 14, "s2" * 14]}
    for reply, leaks in (
        (Reply(404, '{"got": "nothing"}'), False),
        (Reply(200, '{"owner": "ada", "other": "sol"} "ada" "sol"'), True),
        (Reply(200, "label-of-north label-of-south"), True),
        (Reply(404, "n1" * 14 + "n2" * 14 + "s1" * 14 + "s2" * 14), True),
        (Reply(200, "{}"), False),
    ):
        found = attempts.fuzz(Leaky(reply), made, 40, seed=3)
        assert (found["crossed"] > 0) is leaks, reply.text
