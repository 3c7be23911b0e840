"""SIGKILL under load, in small; `benchmarks/gateway_crash.py --kills 100` is the large form."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "gateway_crash.py"


@pytest.mark.slow
def test_no_job_is_lost_doubled_or_released_unrecorded_when_the_gateway_is_killed() -> None:
    spec = importlib.util.spec_from_file_location("gateway_crash", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.measure(kills=2, jobs=25, seed=3)
    assert found["accepted"] == found["distinct_jobs"] == found["jobs_in_store"] == 25
    assert found["outcomes"] == {"RELEASE": 25}
    assert found["released_without_a_record"] == 0
    assert found["ledger_sound"]
