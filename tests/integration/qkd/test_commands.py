"""`interlock qkd` and `interlock heartbeat`, with a KME behind real mutual TLS."""

import json
from pathlib import Path

import pytest

from interlock.cli import main
from tests.integration.qkd.conftest import Kme


def access(kme: Kme, name: str) -> list[str]:
    path = kme.authority.member(name)
    key, authority = path.with_suffix(".key"), kme.authority.path
    return [
        *("--kme", kme.url, "--cert", str(path)),
        *("--key", str(key), "--authority", str(authority)),
    ]


def test_two_ends_get_the_same_keys_once(
    kme: Kme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = access(kme, "sae-alice"), access(kme, "sae-bob")
    assert main(["qkd", "status", "sae-bob", *alice]) == 0
    assert json.loads(capsys.readouterr().out)["slave_SAE_ID"] == "sae-bob"
    assert main(["qkd", "keys", "sae-bob", str(tmp_path / "a"), "--number", "2", *alice]) == 0
    ids = capsys.readouterr().out.split()
    fetch = [word for one in ids for word in ("--id", one)]
    assert main(["qkd", "keys", "sae-alice", str(tmp_path / "b"), *fetch, *bob]) == 0
    capsys.readouterr()
    for one in ids:
        mine, theirs = tmp_path / "a" / f"{one}.key", tmp_path / "b" / f"{one}.key"
        assert mine.read_bytes() == theirs.read_bytes()
        assert len(mine.read_bytes()) == 32
        assert mine.stat().st_mode & 0o777 == 0o600
    assert main(["qkd", "keys", "sae-alice", str(tmp_path / "b"), *fetch, *bob]) == 8


def test_a_loss_of_the_kme_is_loud_and_never_lowers_a_policy(
    kme: Kme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob, home = access(kme, "sae-alice"), access(kme, "sae-bob"), tmp_path / "home"
    file = tmp_path / "update"
    file.write_bytes(b"weights" * 100)
    keys = str(home / "artefact.keys")
    seal = ["qkd", "seal", str(file), "sae-bob", "--home", str(home)]
    opened = ["qkd", "open", str(file), "sae-alice", "--keys", keys]
    assert main([*seal, "--policy", "required", *alice]) == 0
    sealed = (tmp_path / "update.sealed").read_bytes()
    assert main([*opened, "--policy", "required", *bob]) == 0
    assert "qkd     verified" in capsys.readouterr().out
    down = [*alice[:1], "https://127.0.0.1:9", *alice[2:]]
    for gone in ([], down):  # no KME named; a KME that does not answer
        assert main([*seal, "--policy", "required", *gone]) == 8
        assert (tmp_path / "update.sealed").read_bytes() == sealed
        assert main([*opened, "--policy", "required", *gone]) == 8
        capsys.readouterr()
        assert main([*opened, "--policy", "optional", *gone]) == 0
        assert "WARNING: no QKD layer: unchecked" in capsys.readouterr().err
    assert main([*seal, "--policy", "optional", *down]) == 0
    assert "WARNING: no QKD layer: absent: qkd-unreachable" in capsys.readouterr().err
    assert main([*opened, "--policy", "required", *bob]) == 8
    capsys.readouterr()
    file.write_bytes(b"other")
    assert main([*opened, "--policy", "optional"]) == 7
    assert main([*seal, *alice]) == 2  # a policy is always named
    assert main([*seal, "--policy", "required", *alice[:2]]) == 2


def test_a_simulated_link_aborts_and_is_called_a_simulation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["qkd", "simulate", "bb84", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "SIMULATION" in said
    assert "no key" in said
    for protocol in ("bb84", "e91"):
        words = ["qkd", "simulate", protocol, "--intercept", "1", "--seed", "1", "--json"]
        assert main(words) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["label"] == "simulation"
        assert document["qber"] == pytest.approx(0.25, abs=0.02)
        assert document["aborted"]
        assert document["simulated_bits"] == 0


def test_the_heartbeat_command(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("qiskit_aer")
    assert main(["heartbeat", "--rounds", "1500", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "simulation" in said
    assert "nothing about weights" in said
    assert main(["heartbeat", "--rounds", "1500", "--intercept", "1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["drift_alarm_after"] < 1500
    assert document["not_local_after"] is None
    assert main(["heartbeat", "--intercept", "2"]) == 4
