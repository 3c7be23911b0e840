"""The pharma case end to end: released molecules obey the pack, the red device is labelled."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("qiskit_aer")

CASE = Path(__file__).parents[3] / "examples" / "pharma"


def test_the_case_runs_and_nothing_unsafe_leaves(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, str(CASE / "run.py"), "--molecules", "120", "--no-model",
         "--report", str(page)],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("GREEN device, quantum generator (RELEASE): 120 proposed")
    assert lines[2].startswith("RED device, classical generator (FALLBACK): 120 proposed")
    assert lines[0].endswith("0 violating releases")
    assert lines[2].endswith("0 violating releases")
    assert "of them wrong" in lines[4]
    assert "0 of them wrong" in lines[4]
    text = page.read_text()
    assert "<svg" in text
    assert "stability" in text
