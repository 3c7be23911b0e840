"""Forecasts in the health stage and in `interlock health`: falling qubits are named in time."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from interlock.cli import main
from interlock.errors import InputError
from interlock.guard.health.forecast import ForecastControl, _weakest, record_calibration
from interlock.monitor.forecast import forecast, outlook
from interlock.monitor.store import MonitorStore
from interlock.types import Decision
from tests.unit.health.test_health_controls import NOW, asked, healthy

DAY = 86_400.0


def past(home: Path, *, falling: bool, days: int = 60) -> None:
    """T1 of qubits 0 and 1 over `days` days before now: steady, or in free fall on qubit 1."""
    rng = np.random.default_rng(0)
    store = MonitorStore(home)
    for k in range(days):
        low = 100.0 * 0.95**k if falling else 100.0
        one, two = np.exp(rng.normal(0, 0.1, 2)) * (100.0, low)
        at = NOW - 3600.0 - DAY * (days - k)
        store.add_history(healthy().device, at, {"q0": float(one), "q1": float(two)})


def with_t1(value: float) -> Any:
    made = healthy()
    qubits = tuple(
        msgspec.structs.replace(q, t1_us=value if k == 1 else 100.0)
        for k, q in enumerate(made.qubits)
    )
    return msgspec.structs.replace(made, qubits=qubits)


def test_a_qubit_in_free_fall_is_named_before_it_falls(tmp_path: Path) -> None:
    past(tmp_path, falling=True)
    verdict, evidence = asked(ForecastControl(), with_t1(5.2), tmp_path, t1_us=5.0)
    assert verdict.decision is Decision.FALLBACK
    (finding,) = verdict.findings
    assert finding.location == "q1"
    (row,) = [q for q in evidence["qubits"] if q["qubit"] == "q1"]
    assert row["hours"] is not None
    assert row["steps"] == 61


def test_a_steady_device_is_allowed_and_the_mean_is_used(tmp_path: Path) -> None:
    past(tmp_path, falling=False)
    verdict, evidence = asked(ForecastControl(), with_t1(100.0), tmp_path)
    assert verdict.decision is Decision.ALLOW
    assert {q["method"] for q in evidence["qubits"]} == {"mean"}
    assert all(q["hours"] is None and q["p_cross"] == 0.0 for q in evidence["qubits"])


@pytest.mark.parametrize(("choice", "decision"), [("allow", "ALLOW"), ("deny", "DENY")])
def test_a_short_history_follows_the_policy(tmp_path: Path, choice: str, decision: str) -> None:
    past(tmp_path, falling=True, days=10)
    verdict, evidence = asked(ForecastControl(), healthy(), tmp_path, on_short=choice)
    assert verdict.decision is Decision[decision]
    assert evidence["shortest"] == 11


def test_a_horizon_of_many_steps_is_not_cut_to_seven() -> None:
    falling = [(60.0 * k, 100.0 * 0.97**k) for k in range(80)]  # a calibration a minute
    assert outlook(falling, threshold=5.0, horizon_h=24.0) is None  # 1,440 steps: nobody knows
    daily = [(DAY * k, 100.0 * 0.97**k) for k in range(80)]
    near, far = (outlook(daily, threshold=7.0, horizon_h=24.0 * d) for d in (7, 20))
    assert near is not None
    assert far is not None
    assert far.p_cross > near.p_cross
    with pytest.raises(InputError):
        forecast([100.0 + k % 3 for k in range(120)], horizon=100)


def test_of_many_qubits_the_weakest_are_forecast_and_the_rest_is_not_passed_over() -> None:
    made = healthy()
    qubits = tuple(
        msgspec.structs.replace(made.qubits[0], t1_us=100.0 - k if k != 3 else None)
        for k in range(40)
    )
    wide = msgspec.structs.replace(made, qubits=qubits)
    assert _weakest(wide, set(range(40))) == [3, *range(9, 40)]


def test_each_calibration_is_kept_once(tmp_path: Path) -> None:
    store = MonitorStore(tmp_path)
    for _ in range(3):
        assert record_calibration(store, healthy())
    assert record_calibration(store, healthy(observed_at=None)) is False
    assert {len(v) for v in store.history(healthy().device).values()} == {1}


def test_the_command_shows_time_to_threshold_and_ranks_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (healthy(device=n, observed_at=time.time()) for n in ("steady", "falling"))
    for made in (first, second):
        (tmp_path / f"{made.device}.json").write_bytes(made.to_json())
    store = MonitorStore(tmp_path / "home")
    (tmp_path / "home").mkdir(mode=0o700)
    rng = np.random.default_rng(0)
    for k in range(60):
        noise = float(np.exp(rng.normal(0, 0.1)))
        fall = 5.3 * 0.95 ** (k - 60) * noise
        at = NOW - DAY * (60 - k)
        store.add_history("steady", at, {f"q{q}": 100.0 * noise for q in range(5)})
        store.add_history("falling", at, {f"q{q}": fall for q in range(5)})
    circuit = tmp_path / "c.qasm"
    circuit.write_text(
        'OPENQASM 2.0;include "qelib1.inc";qreg q[2];creg c[2];h q[0];cx q[0],q[1];measure q->c;'
    )
    options = ["--home", str(tmp_path / "home"), "--json", "--seeds", "1"]
    files = [
        "--backend",
        str(tmp_path / "falling.json"),
        "--backend",
        str(tmp_path / "steady.json"),
    ]
    assert main(["health", str(circuit), *files, *options]) == 0
    rows = json.loads(capsys.readouterr().out)["devices"]
    assert [r["device"] for r in rows] == ["steady", "falling"]
    assert rows[0]["outlook"]["hours_to_threshold"] is None
    assert rows[1]["outlook"]["hours_to_threshold"] is not None
    assert main(["health", *files, *options[:2]]) == 0
    assert "falls in" in capsys.readouterr().out
