"""What a gateway keeps of a job on disk: nothing of its circuit or result in the clear."""

from pathlib import Path

import pytest

from interlock.cli import main
from tests.integration.gateway.kit import bell, kit

CANARY = "CANARYregister"


def holding(home: Path, word: bytes) -> list[str]:
    return sorted(
        path.name for path in home.rglob("*") if path.is_file() and word in path.read_bytes()
    )


def test_circuits_and_results_are_encrypted_and_erased(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    job = bell(500)
    job["programs"][0]["circuit"]["registers"] = [[CANARY, [0, 1]]]
    with kit(home) as made:
        name, outcome = made.run("ada", job)
        assert CANARY in str(outcome["result"])
        assert holding(home, CANARY.encode()) == []  # while it runs: databases and their logs
        answer = made.call("ada", "GET", f"/v1/jobs/{name}/result")
        assert answer.json() == outcome
    assert holding(home, CANARY.encode()) == []
    assert main(["erase", "north/ada", "--yes", "--home", str(home)]) == 0
    with kit(home) as made:
        answer = made.call("ada", "GET", f"/v1/jobs/{name}/result")
        assert answer.json()["outcome"] == "ERASED"
    capsys.readouterr()
    assert main(["verify", "--home", str(home)]) == 0
