"""Fuzzing in small; `python benchmarks/gateway_fuzz.py` is the large form."""

from benchmarks.gateway_fuzz import measure


def test_no_request_is_the_gateways_fault() -> None:
    found = measure(requests=200, seed=4)
    assert found["rest"]["requests"] > 150
    assert found["grpc"]["requests"] == 200
    assert (found["rest"]["first"], found["grpc"]["first"]) == ([], [])
    assert found["faults_counted_by_the_gateway"] == 0
    assert found["ledger_sound"]
