"""SIGKILL under load, in small; the large form is `python -m benchmarks.gateway_crash`."""

from typing import Any

import pytest
from benchmarks.gateway_crash import measure


def sound(found: dict[str, Any]) -> None:
    assert found["accepted"] == found["distinct_jobs"] == found["jobs_in_store"] > 0
    assert found["unfinished"] == 0
    assert found["paid_twice"] == 0
    assert found["released_without_a_record"] == 0
    assert found["ledger_sound"]
    released = found["outcomes"].pop("RELEASE")
    # A paid call whose answer died with its worker is neither repeated nor released.
    assert set(found["outcomes"]) <= {"DENY execute.run.execution-uncertain"}
    assert released + sum(found["outcomes"].values()) == found["accepted"]
    # What ended is settled; what a killed attempt had reserved goes on counting.
    assert released <= found["budget_jobs_counted"] <= found["attempts"]


@pytest.mark.slow
@pytest.mark.alone
def test_killed_processes_and_a_restarted_server_lose_and_double_nothing() -> None:
    found = measure(kills=6, restarts=1, seed=3, wait_s=1.0)
    assert (found["kills"], found["postgres_restarts"]) == (6, 1)
    sound(found)


@pytest.mark.slow
@pytest.mark.alone
def test_a_killed_embedded_gateway_loses_and_doubles_nothing() -> None:
    sound(measure(kills=2, restarts=0, sqlite=True, seed=3))
