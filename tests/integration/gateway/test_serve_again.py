"""A process may start one gateway after another, and its simulator goes on working."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys, tempfile
from pathlib import Path
from tests.integration.gateway.kit import bell, kit
assert "qiskit" not in sys.modules
for _ in range(4):
    with tempfile.TemporaryDirectory() as folder, kit(Path(folder) / "home") as made:
        assert made.run("ada", bell())[1]["outcome"] == "RELEASE"
print("all ran")
"""


def test_gateways_one_after_another_run_jobs_where_nothing_imported_the_sdk_before() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all ran" in done.stdout
