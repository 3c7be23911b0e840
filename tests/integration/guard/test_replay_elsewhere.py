"""A hundred jobs decided again in another process, home and folder, without any state."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from qiskit import QuantumCircuit, transpile

import interlock
from interlock.backends import TwinSampler, twin
from interlock.errors import DeniedError, StorageError
from interlock.guard.policy import load_policy
from interlock.guard.record import recorded
from interlock.guard.replay import replay
from interlock.guard.service import Guard

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import policy

from interlock.cli import main


def offline(*_: Any, **__: Any) -> Any:
    raise ConnectionError("no route to host")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Released, denied and fallback jobs, a hundred together."""
    folder = tmp_path_factory.mktemp("home")
    device = twin("manila")
    made = QuantumCircuit(2)
    made.h(0)
    made.cx(0, 1)
    made.measure_all()
    isa = transpile(made, device, seed_transpiler=1)
    good, bad = TwinSampler(device, seed=1), TwinSampler(device, seed=1)
    bad._run = offline
    rules = policy(admit={"budget": {"max_shots_per_job": 150}})
    baseline = lambda pubs: [{"00": 50, "11": 50} for _ in pubs]  # noqa: E731
    guards = [interlock.guard(s, policy=rules, home=folder, fallback=baseline) for s in (good, bad)]
    for number in range(100):
        if number % 10 == 9:
            with pytest.raises(DeniedError):
                guards[0].run([isa], shots=200).result()
        else:
            guards[number % 5 == 4].run([isa], shots=100).result()
    for guarded in guards:
        guard: Guard = guarded.interlock.guard
        guard.close()
    return folder


def test_a_hundred_jobs_replay_alike_on_another_machine(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy"
    shutil.copytree(home, elsewhere)
    for name in ("state.db", "sentinels.db"):
        for part in elsewhere.glob(name + "*"):
            part.unlink()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C",
        "TZ": "Asia/Tokyo",
    }
    environment |= {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "replay", "--home", str(elsewhere), "--json"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    *rows, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert (summary["jobs"], summary["identical"]) == (100, 100)
    assert {r["recorded"] for r in rows} == {"RELEASE", "FALLBACK", "DENY"}
    assert all(r["recorded"] == r["recomputed"] and not r["differences"] for r in rows)
    released = [r for r in rows if r["recorded"] == "RELEASE"]
    assert all(0 <= f["low"] <= f["high"] <= 1 for r in released for f in r["intervals"])
    assert all(r["intervals"] for r in released)


def test_a_published_figure_that_the_counts_do_not_bear_out_is_named(home: Path) -> None:
    with recorded(home) as ledger:
        entries = list(ledger.entries())
    changed = []
    for entry in entries:
        payload = msgspec.json.decode(msgspec.json.encode(entry.payload))
        if entry.header.get("outcome") == "RELEASE":
            for stage in payload["trace"]["stages"]:
                for control in stage["controls"]:
                    if control["control"] == "interval":
                        control["evidence"]["figures"][0]["value"] += 0.05
        changed.append(msgspec.structs.replace(entry, payload=payload))
    found = [r for r in replay(changed) if r.recorded == "RELEASE"]
    assert found
    assert all("does not follow from the counts" in r.differences[0] for r in found)


def test_replay_and_explain_say_that_a_ledger_was_changed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    with recorded(copy) as ledger:
        receipt = next(e.id for e in ledger.entries() if e.header.get("outcome") == "RELEASE")
    commands = (["replay", "--home", str(copy)], ["explain", receipt, "--home", str(copy)])
    for command in commands:
        assert main(command) == 0
        assert "CHANGED" not in capsys.readouterr().err
    with contextlib.closing(sqlite3.connect(copy / "ledger.db")) as connection, connection:
        # Stored hashes only: each payload reads as before, and every decision comes out the same.
        connection.execute("UPDATE entries SET leaf = zeroblob(32) WHERE event = 'admit'")
    assert main(["verify", "--home", str(copy)]) == 7
    capsys.readouterr()
    for command in commands:
        for form in ([], ["--json"]):
            assert main([*command, *form]) == 7
            assert "CHANGED" in capsys.readouterr().err


def test_a_session_that_was_not_recorded_is_recorded_before_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(policy=load_policy(), home=tmp_path / "home")
    append = guard.ledger.append

    def full(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full", code="storage-full")

    monkeypatch.setattr(guard.ledger, "append", full)
    with pytest.raises(StorageError):
        guard._ensure_session()
    monkeypatch.setattr(guard.ledger, "append", append)
    guard._ensure_session()
    guard._ensure_session()
    assert len(list(guard.ledger.entries("session"))) == 1
    guard.close()
