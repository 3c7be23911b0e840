import math

import msgspec
import pytest

from interlock.backends import Calibration, Gate, Qubit, calibration_of, snapshot, snapshots
from interlock.backends.calibration import clean
from interlock.backends.sources import from_braket, from_ibm
from interlock.errors import BackendError, InputError


def made(**changes: object) -> Calibration:
    base = Calibration(
        device="d",
        kind="device",
        num_qubits=2,
        observed_at=1000.0,
        qubits=(Qubit(t1_us=100.0, t2_us=80.0, p01=0.01, p10=0.02, age_s=5.0), Qubit(age_s=50.0)),
        gates=(Gate(name="cx", qubits=(0, 1), error=0.01, duration_us=0.3, age_s=500.0),),
    )
    return msgspec.structs.replace(base, **changes)


def test_json_round_trip_keeps_the_identity() -> None:
    again = Calibration.from_json(made().to_json())
    assert again == made()
    assert again.id == made().id
    assert made(device="e").id != made().id


def test_age_is_that_of_the_oldest_value_in_use() -> None:
    assert made().age_s(now=1010.0) == 510.0
    assert made().age_s(now=1010.0, qubits=[0]) == 15.0
    assert made().age_s(now=1010.0, qubits=[1]) == 60.0
    assert made().age_s(now=1010.0, qubits=[0, 1]) == 510.0
    assert made(observed_at=None).age_s(now=1010.0) is None


def test_broken_values_are_taken_out_and_said() -> None:
    raw = made(
        qubits=(
            Qubit(t1_us=10.0, t2_us=30.0, p01=1.5, p10=0.1),
            Qubit(t1_us=-1.0, t2_us=math.nan, age_s=math.inf),
        ),
        gates=(
            Gate(name="cx", qubits=(0, 1), error=1.0),
            Gate(name="sx", qubits=(0,), error=-0.1),
        ),
    )
    fixed = clean(raw)
    assert fixed.qubits[0].t2_us == 20.0
    assert fixed.qubits[0].p01 is None
    assert fixed.qubits[1] == Qubit()
    assert [g.error for g in fixed.gates] == [None, None]
    assert [r.where for r in fixed.repairs] == [
        "q0.t2_us", "q0.p01", "q1.t1_us", "q1.t2_us", "q1.age_s", "cx[0, 1].error", "sx[0].error",
    ]  # fmt: skip
    assert Calibration.from_json(fixed.to_json()) == fixed


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 100_000, b"\xff", b'{"device": 3}',
     made(num_qubits=3).to_json(),
     made(gates=(Gate(name="cx", qubits=(0, 2)),)).to_json(),
     made(gates=(Gate(name="cx", qubits=(0, -1)),)).to_json(),
     made(gates=(Gate(name="cx", qubits=(0, 0)),)).to_json(),
     made(kind="perfect").to_json(),
     made(kind="ideal").to_json(),
     made(device="\x1b[31mlab").to_json(),
     made(source="a\nb").to_json(),
     made(device="d" * 201).to_json(),
     made().to_json().replace(b'"kind"', b'"kind":"twin","kind"', 1),
     made(version=2).to_json()],
)  # fmt: skip
def test_a_hostile_or_inconsistent_file_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        Calibration.from_json(data)
    assert caught.value.code == "calibration-invalid"


def test_the_shipped_snapshots_are_read_and_repaired() -> None:
    assert len(snapshots()) >= 68
    torino = snapshot("torino")
    assert torino.num_qubits == 133
    assert any("gate error" in r.why for r in torino.repairs)
    for qubit in torino.qubits:
        if qubit.t1_us and qubit.t2_us:
            assert qubit.t2_us <= 2 * qubit.t1_us
    assert snapshot("FakeManilaV2") is not None
    assert snapshot("fake_manila").qubits[0].t1_us == pytest.approx(131.5286444531517)
    with pytest.raises(InputError, match="no device snapshot"):
        snapshot("../../etc")


def test_the_best_gate_of_a_pair_is_its_edge() -> None:
    gates = (
        Gate(name="cx", qubits=(0, 1)),
        Gate(name="ecr", qubits=(1, 0), error=0.02),
        Gate(name="cz", qubits=(0, 1), error=0.03),
    )
    assert made(gates=gates).edges[0, 1].name == "ecr"


@pytest.mark.parametrize("errors", [(0.02, 0.0001), (0.0001, 0.02), (0.02, None), (None, 0.02)])
def test_of_a_gate_listed_twice_the_worse_entry_holds(errors: tuple[float | None, ...]) -> None:
    fixed = clean(made(gates=tuple(Gate(name="cx", qubits=(0, 1), error=e) for e in errors)))
    (gate,) = fixed.gates
    assert gate.error == (None if None in errors else 0.02)
    assert fixed.repairs[-1].why == "listed twice"


def test_restricting_renumbers() -> None:
    small = snapshot("manila").restricted([2, 1])
    assert small.num_qubits == 2
    assert {g.qubits for g in small.gates if g.name == "cx"} == {(0, 1), (1, 0)}
    assert small.gate_table["cx", (0, 1)].error == snapshot("manila").gate_table["cx", (2, 1)].error


def test_braket_properties_are_read() -> None:
    properties = {
        "service": {"updatedAt": "2026-01-01T00:00:00+00:00"},
        "standardized": {
            "oneQubitProperties": {
                "0": {
                    "T1": {"value": 20e-6, "unit": "S"}, "T2": {"value": 10e-6, "unit": "S"},
                    "oneQubitFidelity": [
                        {"fidelityType": {"name": "RANDOMIZED_BENCHMARKING"}, "fidelity": 0.999},
                        {"fidelityType": {"name": "READOUT"}, "fidelity": 0.95},
                    ],
                },
                "3": {"oneQubitFidelity": []},
            },
            "twoQubitProperties": {
                "0-3": {"twoQubitGateFidelity": [{"gateName": "CZ", "fidelity": 0.98}]}
            },
        },
    }  # fmt: skip
    read = from_braket(properties, device="r")
    assert read.qubits[0].t1_us == pytest.approx(20.0)
    assert read.qubits[0].p01 == pytest.approx(0.05)
    assert read.edges[0, 3].error == pytest.approx(0.02)  # numbered as the circuits are
    assert [q.operational for q in read.qubits] == [True, False, False, True]
    for label in ("-1", "1000000000", "x"):
        with pytest.raises(InputError):
            from_braket({"standardized": {"oneQubitProperties": {label: {}}}}, device="r")
    with pytest.raises(InputError):
        from_braket({"paradigm": {}}, device="r")


def test_foreign_properties_are_refused_and_a_failing_device_is_a_backend_error() -> None:
    with pytest.raises(InputError):
        from_ibm({"qubits": []})

    class Offline:
        name = "offline"

        def properties(self) -> None:
            raise ConnectionError("no route")

    with pytest.raises(BackendError) as caught:
        calibration_of(Offline(), now=0.0)
    assert caught.value.code == "calibration-unreadable"
    assert calibration_of(object(), now=0.0) is None
