import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.crypto import kem, signing
from interlock.crypto.exposure import DataLabel, assess, horizons
from interlock.errors import InputError
from interlock.ledger import Ledger

TODAY = date(2026, 11, 21)


def verdicts(years: float, algorithm: str, **options: float) -> dict[str, str]:
    label = DataLabel(name="d", lifetime_years=years, algorithm=algorithm, **options)
    return {v.regime: v.verdict for v in assess(label, TODAY)}


def test_a_30_year_record_under_rsa_is_exposed_everywhere() -> None:
    found = verdicts(30, "rsa-2048")
    assert set(found.values()) == {"exposed"}
    assert len(found) == 6


def test_short_lived_data_under_a_classical_key_is_not_exposed_before_the_horizon() -> None:
    found = verdicts(1, "x25519", migration_years=1)
    assert found.pop("cnsa") == "exposed"
    assert set(found.values()) == {"ok"}


def test_the_hybrid_is_ok_but_not_for_cnsa() -> None:
    found = verdicts(50, "x25519-mlkem768")
    assert found.pop("cnsa") == "not-allowed"
    assert set(found.values()) == {"ok"}
    assert set(verdicts(50, "cnsa").values()) == {"ok"}
    assert set(verdicts(50, "aes-256-gcm").values()) == {"ok"}


def test_a_signature_that_has_to_hold_expires() -> None:
    assert verdicts(10, "ed25519")["bsi"] == "expires"
    assert verdicts(5, "ed25519", migration_years=1)["bsi"] == "ok"
    assert verdicts(10, "ed25519+ml-dsa-65")["bsi"] == "ok"


def test_the_day_of_the_horizon_is_still_covered() -> None:
    horizon = date.fromisoformat(horizons()["regimes"]["bsi"]["key_establishment"])
    day = DataLabel(name="d", lifetime_years=0, algorithm="x25519", migration_years=0)
    assert assess(day, horizon, ("bsi",))[0].verdict == "ok"
    assert assess(day, date(2032, 1, 1), ("bsi",))[0].verdict == "exposed"


@pytest.mark.parametrize(
    ("years", "algorithm", "regime"),
    [(1, "rot13", "bsi"), (1, "x25519", "atlantis"), (-1, "x25519", "bsi"), (1e9, "x25519", "bsi")],
)
def test_what_is_not_known_is_refused(years: float, algorithm: str, regime: str) -> None:
    label = DataLabel(name="d", lifetime_years=years, algorithm=algorithm)
    with pytest.raises(InputError):
        assess(label, TODAY, (regime,))


def test_every_horizon_has_a_source_and_every_algorithm_of_ours_is_known() -> None:
    data = horizons()
    for regime in data["regimes"].values():
        assert regime["source"]
        assert regime["status"]
        date.fromisoformat(regime["key_establishment"])
        date.fromisoformat(regime["signature"])
    ours = set(signing.SIGNATURES) | set(kem.SUITES)
    assert ours <= set(data["algorithms"])


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["exposure", "patient", "--years", "30", "--algorithm", "rsa-2048", "--json"]
    assert main(args) == 7
    assert {v["verdict"] for v in json.loads(capsys.readouterr().out)["verdicts"]} == {"exposed"}
    assert main(["exposure", "x", "--years", "1", "--algorithm", "cnsa"]) == 0


def test_the_entries_that_carry_the_label_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    command = ["exposure", "health", "--years", "1", "--algorithm", "cnsa", "--home", str(home)]
    assert main(command) == 0
    assert f"data: no ledger in {home}" in capsys.readouterr().out
    assert not home.exists()
    with Ledger.open(home) as ledger:
        first = ledger.append("a", {}, {}, subject="ada", label="health\nraw").wait()
        ledger.append("a", {}, {}, subject="bob", label="health").wait()
        ledger.append("a", {}, {}, subject="bob", label="healthy").wait()
        ledger.append("a", {}, {}).wait()
    assert main(command) == 0
    assert f"data: 2 entries in {home}" in (text := capsys.readouterr().out)
    assert f"the oldest of {first.time}" in text
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    expected = {"home": str(home), "state": "counted", "entries": 2, "oldest": first.time}
    assert data == expected
    with Ledger.open(home) as ledger:
        ledger.erase("ada")
    assert main(command) == 0
    assert "data: 1 entries" in capsys.readouterr().out
    shutil.rmtree(home / "keys")
    assert main(command) == 0
    assert "data: unknown" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["state"], data["entries"]) == ("no-keys", None)
