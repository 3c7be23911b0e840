"""A transformer with a guarded quantum layer learns, and outlives its device."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

CASE = Path(__file__).parents[3] / "examples" / "transformer"


def test_it_learns_and_stays_finite_without_its_device() -> None:
    done = subprocess.run(
        [sys.executable, str(CASE / "run.py"), "--quick"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cost = {
        m[1].strip(): float(m[2])
        for m in re.finditer(
            r"^(.+?)\s{2,}(\S+) (?:\[.*\] )?bits a letter", done.stdout, re.MULTILINE
        )
    }
    uniform = float(re.search(r"guessing (\S+) bits", done.stdout)[1])  # type: ignore[index]
    assert "trained by the quantum layer" in done.stdout
    assert cost["quantum layer, guarded"] < uniform - 0.5
    assert cost["classical twin"] < uniform - 0.5
    for name in ("guarded, device loses 10 % of rows", "guarded, device gone (surrogate)"):
        assert cost[name] < uniform - 0.5
    assert "surrogate answered 100.0%" in done.stdout
    lost = re.search(r"loses 10 % of rows .*surrogate answered (\S+)%", done.stdout)
    assert lost is not None
    assert 8 < float(lost[1]) < 12
    assert "not guarded, device loses 10 % of rows     nan" in done.stdout
