"""`interlock health seeds`, `learn`, `alarms` and `clear`: what they find is in the ledger."""

import json
from pathlib import Path
from typing import Any

import pytest
from click import BadParameter
from click.testing import CliRunner

from interlock.cli import cli, main
from interlock.errors import UsageError
from interlock.guard.health.evidence_store import EvidenceStore
from interlock.guard.health.known import bounds_for
from interlock.guard.jobs import local_principal
from interlock.ledger import Ledger

LIAR = """
from interlock.backends import Twin, TwinSampler, TwinSpec, twin
honest = TwinSampler(twin("manila"))
liar = TwinSampler(Twin(TwinSpec(reported=twin("manila").calibration, ignore_seed=True)))
"""


def run(*words: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli, ["health", *words, "--json"], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), json.loads(result.output)


def test_a_device_that_ignores_its_seed_is_found_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "devices.py").write_text(LIAR)
    monkeypatch.syspath_prepend(str(tmp_path))
    home = ["--home", str(tmp_path / "home")]
    for name, verdict, code in (("honest", "honoured", 0), ("liar", "ignored", 1)):
        words = ["seeds", "--backend", "own", "--sampler", f"devices:{name}", *home]
        got, found = run(*words)
        assert (got, found["verdict"]) == (code, verdict)
        with Ledger.read(tmp_path / "home") as ledger:
            entry = ledger.find(found["receipt"])
        assert entry.header["verdict"] == verdict
        assert (entry.payload or {})["log_chance"] < -14
    assert run("seeds", "--backend", "manila", *home)[1]["verdict"] == "honoured"


def test_an_alarm_is_cleared_by_a_named_person_on_record(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path)]
    assert run("alarms", *home) == (0, {"streams": []})
    store = EvidenceStore(tmp_path)
    for _ in range(20):
        store.add("ibm_x", failures=60, shots=100, p0=0.1, now=0.0)
    store.add("ibm_y", failures=5, shots=100, p0=0.1, now=0.0)
    code, found = run("alarms", *home)
    assert code == 1
    assert {r["stream"]: r["alarm"] for r in found["streams"]} == {"ibm_x": True, "ibm_y": False}
    assert main(["health", "clear", "ibm_z", "--reason", "new fridge", *home]) != 0
    assert main(["health", "clear", "ibm_x", "--reason", " ", *home]) != 0
    code, found = run("clear", "ibm_x", "--reason", "recalibrated", *home)
    assert code == 0
    assert EvidenceStore(tmp_path).read("ibm_x").jobs == 0
    assert run("alarms", *home)[0] == 0
    with Ledger.read(tmp_path) as ledger:
        entry = ledger.find(found["receipt"])
    assert entry.header["by"] == local_principal().id
    assert (entry.payload or {})["reason"] == "recalibrated"
    assert (entry.payload or {})["failures"] == 1200


def test_learn_gives_a_device_a_record_of_its_own(tmp_path: Path) -> None:
    code, found = run(
        "learn", "--backend", "manila", "--circuits", "5", "--shots", "200", "--seed", "1",
        "--home", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    assert sum(found["added"].values()) >= 10
    assert found["basis"] == bounds_for(tmp_path, "ibm_manila", 0.9)[1] == "shipped"


def test_a_sampler_that_fails_is_named_and_nothing_is_asked_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_device.py").write_text(
        "class Broken:\n    def run(self, *a, **k):\n        raise KeyError('no such chip')\n"
        "broken = Broken()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["--backend", "manila", "--sampler", "broken_device:broken", "--home", str(tmp_path)]
    with pytest.raises(UsageError, match="sampler failed") as caught:
        run("learn", *words)
    assert caught.value.code == "health-sampler"
    assert "no such chip" in str(caught.value.got)
    for command in ("learn", "seeds"):
        with pytest.raises(BadParameter):
            run(command, "--backend", "manila", "--shots", "0")
    for wrong in (["learn", "--backend", "manila", "--circuits", "0"], ["alarms", "--alpha", "5"]):
        with pytest.raises(BadParameter):
            run(*wrong)
