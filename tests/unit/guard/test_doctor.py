"""The doctor says what would keep jobs from running."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from qiskit import QuantumCircuit
from qiskit_aer.primitives import SamplerV2

import interlock
from interlock.backends import TwinSampler, twin
from interlock.cli.doctor import command
from interlock.errors import DeniedError, IntegrityError
from interlock.guard import doctor
from interlock.guard.record import recorded


@pytest.fixture
def home(tmp_path: Path) -> Path:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.measure_all()
    home = tmp_path / "home"
    interlock.guard(SamplerV2(seed=1), home=home).run([circuit]).result()
    return home


@pytest.mark.parametrize("name", ["ledger.db", "state.db"])
def test_a_database_that_somebody_holds_is_bad(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOCK_S", 0.1)
    assert not [c for c in doctor.examine(home) if c.state == "bad"]
    holder = sqlite3.connect(home / name, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    bad = [c for c in doctor.examine(home) if c.state == "bad"]
    assert bad
    assert all("locked" in c.found for c in bad)
    holder.execute("ROLLBACK")
    holder.close()
    assert not [c for c in doctor.examine(home) if c.state == "bad"]


def test_the_columns_stand_apart(home: Path) -> None:
    lines = CliRunner().invoke(command, ["--home", str(home)]).output.splitlines()
    for check, line in zip(
        doctor.examine(home), [x for x in lines if not x.lstrip().startswith("->")], strict=True
    ):
        assert f"{check.name} " in line


def test_an_infinite_parameter_is_called_infinite(home: Path) -> None:
    from qiskit.circuit import Parameter

    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    circuit.measure_all()
    guarded = interlock.guard(SamplerV2(seed=1), home=home)
    for value, said in ((float("inf"), "Infinity"), (float("nan"), "NaN")):
        with pytest.raises(DeniedError, match=said):
            guarded.run([(circuit, [value])]).result()


@pytest.mark.parametrize("bits", ["0", "000000"])
def test_a_fallback_answers_in_the_width_of_the_register(tmp_path: Path, bits: str) -> None:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.measure_all()
    policy = yaml.safe_load((Path(interlock.__file__).parent / "guard/starter.yaml").read_text())
    policy["health"]["calibration"] = {"on_missing": "fallback"}
    device = twin("manila", age_s=1e9)
    guarded = interlock.guard(
        TwinSampler(device, seed=1),
        policy=policy,
        home=tmp_path,
        fallback=lambda pubs: [{bits: 10} for _ in pubs],
    )
    with pytest.raises(DeniedError, match="register of 2 bits"):
        guarded.run([circuit], shots=10).result()


def test_a_deleted_database_whose_heads_are_there_is_named(home: Path) -> None:
    for path in home.glob("ledger.db*"):
        path.unlink()
    found = {check.name: check for check in doctor.examine(home)}["ledger"]
    assert (found.state, found.found.split(":")[0]) == ("bad", "newest-deleted")
    with pytest.raises(IntegrityError, match="signed heads"), recorded(home):
        pass


def keys_of(home: Path) -> doctor.Check:
    return {check.name: check for check in doctor.examine(home)}["keys"]


def test_keys_in_order_are_ok_and_none_are_made_to_look(home: Path, tmp_path: Path) -> None:
    assert keys_of(home).state == "ok"
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    assert keys_of(empty).state == "absent"
    assert not (empty / "keys").exists()


@pytest.mark.parametrize("name", ["log-ed25519.key", "log-ml-dsa-44.key", "kek"])
def test_a_lost_key_is_named_and_not_replaced(home: Path, name: str) -> None:
    (home / "keys" / name).unlink()
    assert keys_of(home).state == "bad"
    code = (
        "import interlock; from qiskit.primitives import StatevectorSampler\n"
        f"try: interlock.guard(StatevectorSampler(), home={str(home)!r}).run([])\n"
        "except interlock.errors.InterlockError as error: print(error.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "key-missing\n", done.stderr
    assert not (home / "keys" / name).exists()


def test_a_key_that_others_can_read_is_bad(home: Path) -> None:
    (home / "keys" / "kek").chmod(0o644)
    found = keys_of(home)
    assert (found.state, "chmod" in str(found.fix)) == ("bad", True)


def test_an_extra_names_each_package_once() -> None:
    for names in doctor.requirements().values():
        assert len(names) == len(set(names))
