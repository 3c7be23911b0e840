"""What `make run` runs, with fewer iterations: jobs end as they must and the tables say so."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("qiskit_aer")

CASE = Path(__file__).parents[3] / "examples" / "breast_cancer" / "compare.py"


@pytest.mark.timeout(300)
def test_the_bad_day_falls_back_and_the_tables_say_what_it_cost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CASE), "--iterations", "2", "--home", str(tmp_path / "home"),
         "--report", str(tmp_path / "report.html")],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = dict(line.rsplit("  ", 1) for line in done.stdout.splitlines() if line[22:23].isdigit())
    counts = {name.strip(): value for name, value in rows.items()}
    assert int(counts["released"]) > 0
    assert int(counts["fallen back"]) == 5
    assert int(counts["denied"]) == 0
    assert done.stdout.count("FALLBACK(health.calibration.red)") == 5
    assert "OK: no change found" in done.stdout
    assert "time the guard added" in done.stdout
    assert "noise model without dates" in (tmp_path / "report.html").read_text()
