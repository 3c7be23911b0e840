"""Telemetry in the guarded path: an alarm stops a device's jobs, and the record replays."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import ANSWER, SHOTS, bell, policy

import interlock
from interlock.backends import TwinSampler, twin
from interlock.cli import main
from interlock.monitor.store import AlarmRow, MonitorStore, SourceState


@pytest.mark.parametrize(
    ("health", "alarmed", "minimum", "outcome"),
    [
        ("good", False, 0.7, "RELEASE"),
        ("good", True, 0.7, "FALLBACK"),
        ("degraded", False, 0.7, "RELEASE"),
        ("degraded", False, 0.93, "FALLBACK"),
        ("good", False, 0.93, "RELEASE"),
    ],
)
def test_alarms_and_detector_health_reach_the_decision(
    tmp_path: Path, health: str, alarmed: bool, minimum: float, outcome: str
) -> None:
    now, device = time.time(), twin("manila")
    alarm = AlarmRow(source="fridge", row=1, kind="shift", channel="mxc", evidence=6.0,
                     shares={"mxc": 1.0}, look=None, at_s=now)  # fmt: skip
    MonitorStore(tmp_path).write(
        SourceState(source="fridge", device=device.calibration.device, kind="queue",
                    origin="simulated",
                    channels=("mxc",), health=health, reasons=("test",) * (health != "good"),
                    seen_s=now),
        [alarm] if alarmed else [], [],
    )  # fmt: skip
    guarded = interlock.guard(
        TwinSampler(device), home=tmp_path, fallback=lambda pubs: [ANSWER for _ in pubs],
        policy=policy(health={"telemetry": {}, "fidelity": {"minimum": minimum}}),
    )  # fmt: skip
    result = guarded.run([bell(device)], shots=SHOTS).result()
    assert result.metadata["interlock"]["outcome"] == outcome
    assert main(["replay", "--home", str(tmp_path)]) == 0
