"""Options that name files, lists that would cover too much, parts of a scan that fail."""

import json
import os
import random
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import PolicyError, StorageError
from interlock.scan import allow, run
from interlock.scan.remedy import write_private
from interlock.scan.secrets.synth import fill

TOKEN = fill("DEV-{hex:40}", random.Random("options"))
WIDE = [
    ("*", "*"), ("*", "src/a.py"), ("s*", "src/a.py"), ("secret*", "a.py"), ("?ecret.x", "a.py"),
    ("[a-z]*.*", "src/*"), ("other.rule", "a.py"), ("secret.*", "*"),
    ("code.*", "**/*"), ("secret.*-token", "*.*"), ("secret.[a-z]*", "./*/**"), ("code.*", "[!/]*"),
    ("secret.*", "?*"), ("secret.*", "../*"),
]  # fmt: skip
NARROW = [
    ("secret.dwave-token", "*"), ("secret.*", "tests/data/*"), ("code.*", "src/a.py"),
    ("code.unsafe-load", "**/legacy/*"), ("model.*", "models/old.pkl"),
]  # fmt: skip


def write(path: Path, rule: str, where: str, expires: object = "2027-01-01") -> Path:
    entry = {"rule": rule, "path": where, "reason": "r", "owner": "o"}
    rows = "".join(f"    {k}: {json.dumps(v)}\n" for k, v in entry.items())
    path.write_text(f"allow:\n  -\n{rows}    expires: {expires}\n")
    return path


@pytest.mark.parametrize(("rule", "where"), WIDE)
def test_an_entry_that_covers_a_family_everywhere_is_refused(
    tmp_path: Path, rule: str, where: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        allow.load_allow(write(tmp_path / "a.yaml", rule, where))
    assert caught.value.code == "scan-allow-invalid"
    assert rule in str(caught.value.got)


@pytest.mark.parametrize(("rule", "where"), NARROW)
def test_an_entry_that_names_a_rule_or_a_place_is_read(
    tmp_path: Path, rule: str, where: str
) -> None:
    assert allow.load_allow(write(tmp_path / "a.yaml", rule, where))[0].rule == rule


def test_an_end_is_a_day_within_two_years(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TOKEN)
    for end, code in (("2027-01-01 10:00:00", 3), ("9999-12-31", 3), ("soon", 3)):
        write(tmp_path / ".interlock-allow.yaml", "secret.dwave-token", "a.txt", end)
        assert main(["scan", "."]) == code
    assert "within two years" in capsys.readouterr().err


def test_a_bomb_in_an_allow_list_is_an_error_of_a_few_characters(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 10)}]" for n in range(1, 12)]
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(lines) + "\nallow:\n  - *a11\n")
    with pytest.raises(PolicyError) as caught:
        allow.load_allow(path)
    assert len(str(caught.value.got)) < 200
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(PolicyError, match="cannot be read"):
        allow.load_allow(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("option", ["--allow", "--baseline", "default allow", "default baseline"])
def test_a_list_that_is_no_file_is_refused_and_never_waited_for(
    tmp_path: Path, monkeypatch, capsys, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    default = {"default allow": allow.DEFAULT_ALLOW, "default baseline": allow.DEFAULT_BASELINE}
    if option in default:
        os.mkfifo(default[option])
        assert main(["scan", "a.txt"]) == 3
        Path(default[option]).unlink()
        Path(default[option]).symlink_to("gone")
        assert main(["scan", "a.txt"]) == 3
        return
    os.mkfifo("pipe")
    assert main(["scan", "a.txt", option, "pipe"]) == 3
    assert "a fifo, not an ordinary file" in capsys.readouterr().err
    assert main(["scan", "a.txt", option, "/dev/zero"]) == 3
    assert "a device, not an ordinary file" in capsys.readouterr().err
    assert main(["scan", "a.txt", option, "nowhere"]) == 3


@pytest.mark.timeout(60)
def test_a_fifo_among_the_advisories_is_noted(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("other==0.1\n")
    known = tmp_path / "known"
    known.mkdir()
    os.mkfifo(known / "pipe.json")
    record = {"id": "A-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "other"},
              "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}  # fmt: skip
    (known / "a.json").write_text(json.dumps(record))
    report = run.scan([tmp_path], families=("secrets",), advisories=known, base=tmp_path)
    assert [f.rule for f in report.findings] == ["supply.known-vulnerability"]
    assert "advisory-broken" in {n.reason for n in report.notes}


def test_a_failed_audit_loses_no_finding(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TOKEN)
    (tmp_path / "requirements.txt").write_text("other==0.1\n")
    (tmp_path / "none").mkdir()
    assert main(["scan", "a.txt", "requirements.txt", "--advisories", "none"]) == 4
    said = capsys.readouterr()
    assert "secret.dwave-token" in said.out
    assert "FAILED, the rest is here: the advisory folder holds no PyPI record" in said.out
    assert "scan-advisories-empty" in said.err
    assert main(["scan", "a.txt", "--advisories", "none", "--fail-on", "never", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["failure"]
    assert main(["scan", "a.txt", "--advisories", "none", "--write-baseline", "b.json"]) == 4
    assert not (tmp_path / "b.json").exists()
    report = run.scan([Path("a.txt")], families=("secrets",), advisories=Path("none"))
    sarif = json.loads(run.render(report, "sarif", "note"))["runs"][0]
    assert not sarif["invocations"][0]["executionSuccessful"]


def test_a_failed_triage_loses_no_finding(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TOKEN)
    assert main(["scan", "a.txt", "--triage-url", "http://127.0.0.1:9/"]) == 5
    said = capsys.readouterr()
    assert "secret.dwave-token" in said.out
    assert "scan-triage" in said.err
    report = run.scan([Path("a.txt")], families=("secrets",))
    run.ask(report, "http://127.0.0.1:9/", "m", tmp_path)
    with pytest.raises(Exception, match="cannot be written"):
        run.exit_code(report, "low")


def test_one_broken_repository_loses_not_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TOKEN)
    report = run.scan([tmp_path / "a.txt"], families=("secrets",), advisories=tmp_path)
    with pytest.raises(Exception, match="no PyPI record"):
        run.exit_code(report, "never")
    with pytest.raises(Exception, match="git history cannot be read"):
        run.scan([tmp_path], families=("secrets",), git_history=True)


@pytest.mark.parametrize("value", ["2", "0", "1", "-0.1", "nan", "inf"])
def test_a_flake_budget_is_a_probability(tmp_path: Path, monkeypatch, capsys, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    assert main(["ci", ".", f"--shot-flake={value}"]) == 2
    assert "shots-argument" in capsys.readouterr().err


def test_no_device_is_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("target")
    for name in ("pipe", "link", "."):
        with pytest.raises(StorageError):
            write_private(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_too_large_to_parse_fails_with_strict(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n" * 200_000)
    assert main(["scan", "a.py"]) == 0
    assert main(["scan", "a.py", "--strict"]) == 4
    assert "too-large-to-parse" in capsys.readouterr().err
