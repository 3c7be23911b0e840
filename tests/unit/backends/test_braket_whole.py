"""Braket devices that publish figures of the whole device: graded by these, not RED for want."""

import copy
from typing import Any

import pytest
from qiskit import QuantumCircuit

from interlock.backends.sources import calibration_of, from_braket
from interlock.circuits.canonical import Circuit
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import InputError
from interlock.guard.health.esp import predict
from interlock.guard.health.grades import Grade, Thresholds, grade, subjects

IONQ: dict[str, Any] = {
    "service": {"updatedAt": "2026-11-01T00:00:00+00:00"},
    "paradigm": {"qubitCount": 25, "connectivity": {"fullyConnected": True}},
    "provider": {
        "fidelity": {"1Q": {"mean": 0.9998}, "2Q": {"mean": 0.986}, "spam": {"mean": 0.9948}},
        "timing": {"T1": 100.0, "T2": 1.0, "1Q": 0.000135, "2Q": 0.0006, "readout": 0.0003},
    },
}
AQT: dict[str, Any] = {
    "service": {"updatedAt": "2026-11-01T00:00:00+00:00"},
    "paradigm": {"qubitCount": 12, "connectivity": {"fullyConnected": True}},
    "provider": {
        "properties": {
            "single_qubit_gate_fidelity": {
                str(q): {"value": 99.9, "uncertainty": 0.02} for q in range(12)
            },
            "mean_two_qubit_gate_fidelity": {"value": 98.7, "uncertainty": 0.1},
            "spam_fidelity_lower_bound": 99.5,
            "t2_coherence_time_s": {"value": 0.45, "uncertainty": 0.06},
            "t1_s": {"value": 1.14, "uncertainty": 0.06},
            "readout_time_micros": 3000.0,
            "single_qubit_gate_duration_micros": 15.0,
            "two_qubit_gate_duration_micros": 200.0,
            "updated_at": "2026-11-02T00:00:00Z",
        }
    },
}
STANDARD: dict[str, Any] = {
    "paradigm": {
        "qubitCount": 4,
        "connectivity": {"fullyConnected": False, "connectivityGraph": {"0": ["1"], "1": ["3"]}},
    },
    "standardized": {
        "oneQubitProperties": {
            str(q): {"oneQubitFidelity": [{"fidelity": 0.9985, "unit": "fraction"}]}
            for q in (0, 1, 3)
        },
        "T1": {"value": 50.0, "unit": "s"},
        "T2": {"value": 30.0, "unit": "s"},
        "readoutFidelity": [{"fidelity": 0.995, "unit": "fraction"}],
        "readoutDuration": {"value": 350.0, "unit": "us"},
        "singleQubitGateDuration": {"value": 20.0, "unit": "us"},
        "twoQubitGateFidelity": [{"fidelity": 0.98, "unit": "fraction"}],
        "twoQubitGateDuration": {"value": 0.2, "unit": "ms"},
        "updatedAt": "2026-11-02T00:00:00Z",
    },
}


def bell() -> Circuit:
    made = QuantumCircuit(4, 2)
    made.h(0)
    made.cx(0, 1)
    made.measure([0, 1], [0, 1])
    return from_qiskit(made)


@pytest.mark.parametrize("properties", [IONQ, AQT, STANDARD])
def test_a_healthy_device_is_green_and_its_circuits_are_predicted(properties: Any) -> None:
    found = from_braket(properties, device="ion")
    pair = (1, 3) if properties is STANDARD else (1, 2)
    rows = subjects(found, pair, [pair])
    assert [grade(row, Thresholds()) for row in rows] == [(Grade.GREEN, [])] * 3
    assert found.observed_at is not None
    assert "whole device" in found.source
    made = predict(bell(), found)
    assert made.success is not None
    assert 0.9 < made.success < 0.999


def test_the_figures_are_in_the_right_units() -> None:
    ionq, aqt = from_braket(IONQ, device="i"), from_braket(AQT, device="a")
    assert ionq.qubits[7].t2_us == pytest.approx(1e6)
    assert ionq.gate_error("cx", (9, 3)).error == pytest.approx(0.014)  # type: ignore[union-attr]
    assert aqt.qubits[3].p01 == pytest.approx(0.005)
    assert aqt.gate_error("rx", (3,)).duration_us == 15.0  # type: ignore[union-attr]
    standard = from_braket(STANDARD, device="s")
    assert [q.operational for q in standard.qubits] == [True, True, False, True]
    assert sorted(standard.edges) == [(0, 1), (1, 3)]
    assert standard.edges[0, 1].duration_us == pytest.approx(200.0)


def test_a_bad_device_is_still_red_and_what_is_missing_is_not_made_up() -> None:
    bad = copy.deepcopy(IONQ)
    bad["provider"]["fidelity"] = {"1Q": {"mean": 0.95}, "2Q": {"mean": 0.7}}
    found = from_braket(bad, device="ion")
    rows = subjects(found, (0, 1), [(0, 1)])
    assert [grade(row, Thresholds())[0] for row in rows] == [Grade.RED] * 3
    assert predict(bell(), found).success is None


@pytest.mark.parametrize(
    "change",
    [
        {"paradigm": {"qubitCount": 10**9}},
        {"paradigm": {"qubitCount": 0}},
        {"provider": {"fidelity": {"2Q": 3}}},
        {"provider": {"properties": {"mean_two_qubit_gate_fidelity": {"value": 99}}}},
    ],
)
def test_broken_properties_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        from_braket(IONQ | change, device="ion")


def test_an_sdk_device_is_read_whole() -> None:
    class Properties:
        def json(self) -> str:
            import json

            return json.dumps(AQT)

    device = type("AwsDevice", (), {"__module__": "braket.aws.aws_device"})()
    device.properties, device.name = Properties(), "ibex"
    found = calibration_of(device, now=0.0)
    assert found is not None
    assert found.num_qubits == 12
