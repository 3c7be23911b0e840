"""Alarms keep jobs away; a degraded detector makes the other gates ask for more."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.errors import StorageError
from interlock.guard.control import check_control
from interlock.guard.health.calibration import CalibrationControl
from interlock.guard.health.fidelity import FidelityControl
from interlock.guard.health.telemetry import TelemetryControl
from interlock.monitor.store import AlarmRow, MonitorStore, SourceState
from interlock.types import Decision
from tests.unit.guard.doubles import a_job
from tests.unit.health.test_health_controls import NOW, asked, healthy

DEVICE = healthy().device


def watched(home: Path, *, alarm_s: float | None = None, **changes: Any) -> None:
    """A source of the device, with an alarm `alarm_s` seconds ago."""
    state = SourceState(
        source="fridge", kind="temperature", origin="simulated", channels=("mxc",),
        **{"device": DEVICE, "seen_s": NOW - 10, **changes},
    )  # fmt: skip
    row = AlarmRow(
        source="fridge", row=7, kind="shift", channel="mxc", evidence=5.5, shares={}, look=None,
        at_s=NOW - (alarm_s or 0),
    )  # fmt: skip
    MonitorStore(home).write(state, [] if alarm_s is None else [row], [])


@pytest.mark.parametrize(
    ("setting", "changes", "decision", "rules"),
    [
        ({}, None, "ALLOW", []),
        ({"on_missing": "deny"}, None, "DENY", ["missing"]),
        ({}, {}, "ALLOW", []),
        ({}, {"alarm_s": 60.0}, "FALLBACK", ["alarm"]),
        ({"on_alarm": "deny"}, {"alarm_s": 60.0}, "DENY", ["alarm"]),
        ({}, {"alarm_s": 3700.0}, "ALLOW", []),
        ({}, {"alarm_s": 60.0, "device": "another"}, "ALLOW", []),
        ({}, {"health": "degraded", "reasons": ("drift",)}, "ALLOW", ["degraded"]),
        ({"on_degraded": "fallback"}, {"seen_s": NOW - 1000}, "FALLBACK", ["degraded"]),
        ({}, {"alarm_s": 1.0, "seen_s": NOW - 1000}, "FALLBACK", ["alarm", "degraded"]),
    ],
)
def test_alarms_and_health_decide(tmp_path, setting, changes, decision, rules) -> None:
    if changes is not None:
        watched(tmp_path, **changes)
    verdict, evidence = asked(TelemetryControl(), healthy(), tmp_path, **setting)
    assert verdict.decision is Decision[decision]
    assert [f.rule.rpartition(".")[2] for f in verdict.findings] == rules
    check_control(TelemetryControl(), a_job(), TelemetryControl.Settings(**setting), evidence)


def test_a_degraded_detector_widens_fidelity_and_calibration(tmp_path: Path) -> None:
    predicted = asked(FidelityControl(), healthy(), tmp_path)[1]["predicted"]
    minimum = predicted - 0.02
    fresh, old = healthy(), healthy(observed_at=NOW - 20 * 3600)
    for home, state, decision in (
        (tmp_path / "none", None, Decision.ALLOW),
        (tmp_path / "good", {}, Decision.ALLOW),
        (tmp_path / "silent", {"seen_s": NOW - 5000}, Decision.FALLBACK),
        (tmp_path / "bad", {"health": "degraded", "reasons": ("x",)}, Decision.FALLBACK),
    ):
        home.mkdir()
        if state is not None:
            watched(home, **state)
        verdict, evidence = asked(FidelityControl(), fresh, home, minimum=minimum)
        assert verdict.decision is decision, home
        assert ("detector" in evidence) == (state is not None)
        if decision is Decision.FALLBACK:
            assert "degraded" in (verdict.findings[0].expected or "")
        assert asked(CalibrationControl(), old, home)[0].decision is decision
        off = {"degraded_factor": 1.0}
        assert asked(FidelityControl(), fresh, home, minimum=minimum, **off)[0].decision is (
            Decision.ALLOW
        )


def test_widening_never_narrows_and_never_closes_a_gate_that_is_off(tmp_path: Path) -> None:
    watched(tmp_path, health="degraded", reasons=("x",))
    control = FidelityControl()
    _, evidence = asked(control, healthy(), tmp_path)
    for minimum in (0.0, 0.2, 0.6, 1.0):
        for predicted in (0.0, 0.1, 0.3, 0.7, 0.9, 1.0):
            seen = {**evidence, "predicted": predicted}
            settings = control.Settings(minimum=minimum)
            wide = control.decide(a_job(), settings, seen).decision
            plain = control.decide(a_job(), settings, {**seen, "detector": "good"}).decision
            assert wide >= plain
            if minimum == 0.0 or predicted == 1.0:
                assert wide is Decision.ALLOW


def test_a_damaged_store_lets_nothing_through(tmp_path: Path) -> None:
    (tmp_path / "monitor.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError) as caught:
        asked(TelemetryControl(), healthy(), tmp_path)
    assert caught.value.code == "monitor-store"
    with pytest.raises(StorageError):
        asked(FidelityControl(), healthy(), tmp_path)


def test_old_evidence_without_a_detector_decides_as_before() -> None:
    evidence = {"calibration": "x", "predicted": 0.21, "circuits": [], "unknown": None}
    control = FidelityControl()
    settings = msgspec.convert({}, control.Settings)
    assert control.decide(a_job(), settings, evidence).decision is Decision.ALLOW
