"""Inputs that hid a finding or took all memory: each is found, refused or noted."""

import datetime as dt
import gzip
import io
import json
import random
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from interlock.errors import InputError, PolicyError
from interlock.scan import allow, githistory, run
from interlock.scan.code.modules import check_python
from interlock.scan.finding import Report
from interlock.scan.scanner import ScanOptions, scan_paths
from interlock.scan.secrets.synth import fill

TOKEN = fill("DEV-{hex:40}", random.Random("hidden"))


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"token = {TOKEN}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def history(folder: Path) -> Report:
    return run.scan([folder], families=("secrets",), git_history=True)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_header_of_64_mib_is_not_held(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 64 << 20
    with gzip.open(tmp_path / "a.tar.gz", "wb") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(65):
            out.write(bytes(1 << 20))
    tracemalloc.start()
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [note.reason for note in report.notes] == ["archive-limit"]
    assert peak < 16 << 20


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_each_kind_of_tar_is_looked_into(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar.z", mode) as archive:
        info = tarfile.TarInfo("n" * 200)
        info.size = len(TOKEN)
        archive.addfile(info, io.BytesIO(TOKEN.encode()))
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert [item.rule for item in report.findings] == ["secret.dwave-token"]


def test_a_file_that_takes_all_memory_loses_no_other(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.txt").write_text(TOKEN)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("interlock.scan.scanner.Scanner._document", full)
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert [(n.path, n.reason) for n in report.notes] == [("a.py", "unreadable")]
    assert len(report.findings) == 1


def test_a_replaced_object_hides_nothing(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    blob = git(folder, "rev-parse", "HEAD:a.txt")
    (folder / "clean").write_text("clean\n")
    git(folder, "replace", blob, git(folder, "hash-object", "-w", "clean"))
    assert TOKEN.encode() in {item.secret for item in history(folder).findings}


def test_a_dropped_commit_and_a_staged_file_are_found_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    (folder / "a.txt").write_text(f"token = {TOKEN}\n")
    git(folder, "add", "a.txt")
    git(folder, "commit", "-qm", "two")
    git(folder, "reset", "-q", "--hard", "HEAD~1")
    git(folder, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    staged = fill("DEV-{hex:40}", random.Random("staged"))
    (folder / "b.txt").write_text(f"token = {staged}\n")
    git(folder, "add", "b.txt")
    git(folder, "rm", "-q", "--cached", "b.txt")
    report = history(folder)
    assert {item.secret.decode() for item in report.findings} == {TOKEN, staged}
    blobs = {git(folder, "hash-object", "b.txt")[:12]}
    places = {item.where for item in report.findings}
    assert all(where.startswith("unreachable ") for where in places)
    assert blobs < {where.removeprefix("unreachable ") for where in places}
    (said,) = report.covered
    assert "2 blob(s), 2 commit(s) and 0 tag(s)" in said
    assert "3 of them unreachable" in said
    assert json.loads(run.render(report, "json", "note"))["covered"] == [said]
    for style in ("text", "sarif", "junit"):
        assert "3 of them unreachable" in run.render(report, style, "note")


def test_authors_committers_and_taggers_are_read(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    tokens = [fill("DEV-{hex:40}", random.Random(n)) for n in range(3)]
    git(folder, "-c", f"user.email={tokens[0]}@a.b", "commit", "-q", "--allow-empty", "-m", "one",
        "--author", f"bot {tokens[1]} <a@b>")  # fmt: skip
    git(folder, "-c", f"user.name=DEV {tokens[2]}", "tag", "-a", "v1", "-m", "one")
    report = history(folder)
    found = [item for item in report.findings if item.secret.decode() in tokens]
    assert {item.secret.decode() for item in found} == set(tokens)
    assert {item.path for item in found} == {"(commit header)", "(tag header)"}
    assert not any(token in run.render(report, "json", "note") for token in tokens)


def test_a_store_that_cannot_be_listed_fails_with_strict(tmp_path: Path, monkeypatch) -> None:
    folder = repository(tmp_path / "r")
    real = githistory._git

    def broken(repo: Path, *arguments: str) -> subprocess.Popen[bytes]:
        bad = "--batch-all-objects" in arguments
        return real(repo, *(["cat-file", "--no-such"] if bad else arguments))

    monkeypatch.setattr(githistory, "_git", broken)
    report = history(folder)
    assert {item.path for item in report.findings} == {"a.txt", "b.txt"}
    assert "unreachable objects cannot be listed" in {note.detail for note in report.notes}
    assert run.unseen(report)


def test_the_name_of_a_repository_is_masked_in_what_was_covered(tmp_path: Path) -> None:
    report = history(repository(tmp_path / TOKEN))
    assert report.covered
    assert TOKEN not in run.render(report, "text", "note")


def test_an_allowed_path_covers_no_other_path_of_its_blob(tmp_path: Path) -> None:
    report = history(repository(tmp_path / "r"))
    assert {item.path for item in report.findings} == {"a.txt", "b.txt"}


def test_a_shallow_clone_is_noted(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    git(folder, "commit", "-q", "--allow-empty", "-m", "two")
    git(tmp_path, "clone", "-q", "--depth=1", folder.as_uri(), "s")
    assert "git-shallow" in {note.reason for note in history(tmp_path / "s").notes}
    assert "git-shallow" not in {note.reason for note in history(folder).notes}


def test_a_model_on_standard_input_is_examined() -> None:
    data = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."
    for families in (("models",), ("secrets", "code", "models")):
        report = run.scan([Path("-")], families=families, stdin=io.BytesIO(data))
        assert any(item.rule.startswith("model.") for item in report.findings)
    with pytest.raises(InputError, match="no code"):
        run.scan([Path("-")], families=("code",), stdin=io.BytesIO(b"12:01 started job 4\n"))


def test_an_allow_list_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TOKEN)
    report = run.scan([tmp_path / "a.txt"], families=("secrets",), base=tmp_path)
    fields = {"rule": "secret.dwave-token", "owner": "o", "expires": dt.date(2027, 1, 1)}
    entries = [
        allow.AllowEntry(path="a.txt", reason=f"it is {TOKEN}", **fields),
        allow.AllowEntry(path=f"{TOKEN}.txt", reason="r", **fields),
    ]
    allow.apply_allow(report, entries, today=dt.date(2026, 12, 1))
    assert not report.active()
    for style in ("json", "sarif", "text"):
        assert TOKEN not in run.render(report, style, "low")


def test_an_allow_list_with_an_alias_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {k: v}\nb: {<<: [*a, *a]}\nallow: []\n")
    with pytest.raises(PolicyError, match="cannot be read"):
        allow.load_allow(path)


def test_a_huge_literal_is_noted_not_parsed() -> None:
    report = Report()
    assert check_python("x = [" + "1," * 600_000 + "]\n", "x.py", report) == []
    assert [note.reason for note in report.notes] == ["too-large-to-parse"]


def test_a_notebook_masks_what_stands_on_one_line(tmp_path: Path) -> None:
    tokens = [fill("DEV-{hex:40}", random.Random(n)) for n in range(300)]
    cell = {"cell_type": "code", "source": [], "outputs": [{"text": [t + "\n" for t in tokens]}]}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert {item.secret for item in report.findings} == {t.encode() for t in tokens}
    assert not any(t in item.excerpt for item in report.findings for t in tokens)
