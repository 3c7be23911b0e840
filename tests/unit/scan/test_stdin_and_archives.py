"""Standard input is unpacked and parsed as a file is; what nothing unpacks was not looked at."""

import bz2
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import InputError
from interlock.scan import run, stdin
from interlock.scan.finding import Report
from interlock.scan.secrets.synth import fill

TOKEN = fill("DEV-{hex:40}", random.Random("stdin"))
TEXT = f"token = {TOKEN}\n".encode()
ALL = ("secrets", "code", "models")
NOTHING_OPENS = [
    b"7z\xbc\xaf\x27\x1c\0\4", b"Rar!\x1a\x07\1\0", b"\x28\xb5\x2f\xfd\x04", b"\x04\x22\x4d\x18",
    b"LZIP\1", b"\x1f\x9d\x90", b"MSCF\0\0\0\0", b"!<arch>\ndebian-binary", b"\xed\xab\xee\xdb\3",
]  # fmt: skip


def piped(data: bytes, families: tuple[str, ...] = ALL) -> Report:
    return run.scan([Path("-")], families=families, stdin=io.BytesIO(data))


def rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def tarred(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        header = tarfile.TarInfo("in/a.env")
        header.size = len(data)
        archive.addfile(header, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("pack", [
    lambda d: zipped("a.env", d), gzip.compress, bz2.compress, lzma.compress, tarred,
    lambda d: gzip.compress(tarred(d)), lambda d: zipped("b.zip", zipped("a.env", d)),
])  # fmt: skip
def test_an_archive_on_standard_input_is_unpacked(pack) -> None:
    report = piped(pack(TEXT))
    assert rules(report) == ["secret.dwave-token"]
    assert report.findings[0].path.startswith("(standard input)!")
    assert report.files == 1
    clean = piped(pack(b"nothing here\n"))
    assert (clean.findings, clean.notes, clean.files) == ([], [], 1)


class Slow(io.BytesIO):
    """A pipe that hands out a byte at a time."""

    def read1(self, size: int = -1, /) -> bytes:
        return super().read(1)


def test_an_archive_that_comes_byte_by_byte_is_unpacked() -> None:
    report = run.scan([Path("-")], families=ALL, stdin=Slow(zipped("a.env", TEXT)))
    assert rules(report) == ["secret.dwave-token"]


def test_code_on_standard_input_is_parsed() -> None:
    assert rules(piped(b"import pickle\npickle.load(f)\n")) == ["code.unsafe-load"]
    assert rules(piped(b"import pickle\npickle.load(f)\n", ("code",))) == ["code.unsafe-load"]
    assert rules(piped(b"eval(text)\n", ("code",))) == ["code.dynamic-attribute"]
    assert rules(piped(b"import json\njson.load(f)\n")) == []
    assert rules(piped(b"// a\nOPENQASM 3.0;\nqubit[1] q;\nh q[4];\nbit c = measure q;\n"))
    broken = piped(b"import pickle\npickle.load(\n")
    assert [note.reason for note in broken.notes] == ["python-syntax"]
    assert piped(b"12:00 import of a.csv done\n").notes == []


def test_a_notebook_on_standard_input_is_parsed() -> None:
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": ["import pickle\n", "pickle.load(f)"]}  # noqa: E501  # fmt: skip
    book = {"cells": [cell], "metadata": {}, "nbformat": 4}
    (finding,) = piped(json.dumps(book).encode()).findings
    assert (finding.rule, finding.where) == ("code.unsafe-load", "cell 1")
    cell["source"] = ["import json"]
    assert piped(json.dumps(book).encode()).findings == []
    assert rules(piped(b'{"cells": 3, "token": "%s"}' % TOKEN.encode())) == ["secret.dwave-token"]


def test_long_standard_input_is_matched_as_it_comes(monkeypatch) -> None:
    data = b"x = 1\n" * 400_000
    options = run.ScanOptions(max_document_bytes=100_000)
    for kind, text in (("import os\n", [("too-large-to-parse")]), ("plain log\n", [])):
        scanner = run.Scanner(options)
        stdin.scan_stdin(scanner, io.BytesIO(kind.encode() + data + TEXT))
        assert rules(scanner.report) == ["secret.dwave-token"]
        assert [note.reason for note in scanner.report.notes] == text
        assert scanner.report.bytes == len(kind) + len(data) + len(TEXT)
    monkeypatch.setattr(stdin, "_MAX_PACKED", 1000)
    with pytest.raises(InputError, match="looked at nothing"):
        piped(gzip.compress(random.Random(1).randbytes(4000)))


@pytest.mark.parametrize("head", NOTHING_OPENS)
def test_an_archive_nothing_here_opens_was_not_looked_at(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(head + bytes(200))
    with pytest.raises(InputError) as raised:
        run.scan([tmp_path], families=ALL, base=tmp_path)
    assert raised.value.code == "scan-empty"
    assert "a.bin: archive-format" in str(raised.value.got)
    with pytest.raises(InputError, match="looked at nothing"):
        piped(head + bytes(200))
    (tmp_path / "b.txt").write_text("x")
    report = run.scan([tmp_path], families=ALL, base=tmp_path)
    assert report.files == 1
    (note,) = report.notes
    assert note.reason == "archive-format"
    assert "unpack it" in note.detail
    assert "archive-format" in run.unseen(report)


def test_an_archive_of_which_nothing_could_be_read_was_not_looked_at(tmp_path: Path) -> None:
    data = bytearray(zipped("a.env", TEXT))
    data[6] |= 1  # says encrypted, here and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="looked at nothing"):
        run.scan([tmp_path], families=("secrets",), base=tmp_path)
    (tmp_path / f"{TOKEN}.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(40))
    report = run.scan([tmp_path / f"{TOKEN}.7z"], families=("secrets",), base=tmp_path)
    assert rules(report) == ["secret.dwave-token"]  # its name: that was looked at


def test_the_command_reads_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "interlock.cli", "scan", "-"]
    done = subprocess.run(command, input=zipped("a.env", TEXT), capture_output=True, cwd=tmp_path, check=False)  # noqa: E501  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert b"(standard input)!a.env" in done.stdout
    assert TOKEN.encode() not in done.stdout


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path, message: str = "one") -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    for number in range(3):
        (folder / f"f{number}.txt").write_text(f"{number}\n" * 2000)
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", message)
    (folder / "last.txt").write_bytes(TEXT)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "last")
    return folder


def spoil(folder: Path, name: str, *, whole: bool) -> None:
    path = folder / ".git" / "objects" / name[:2] / name[2:]
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(b"garbage" if whole else data[:-6] + bytes(6))


@pytest.mark.parametrize("what", ["HEAD:f1.txt", "HEAD~1^{tree}", "HEAD~2", "HEAD^{tree}"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_broken_object_does_not_end_the_scan(tmp_path: Path, what: str, whole: bool) -> None:
    bad, good = repository(tmp_path / "bad"), repository(tmp_path / "good", "other")
    spoil(bad, git(bad, "rev-parse", what), whole=whole)
    report = run.scan([bad, good], families=("secrets",), git_history=True)
    assert "git-object" in {note.reason for note in report.notes}
    assert "git-object" in run.unseen(report)
    assert report.failure is None
    assert {f.where.split()[0] for f in report.findings} >= {"commit"}
    assert len(report.findings) >= 2  # the spoilt one still gives its secret, and the other one too


def test_one_path_that_is_no_repository_does_not_end_the_scan(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    good = repository(tmp_path / "good")
    report = run.scan([tmp_path / "none", good], families=("secrets",), git_history=True)
    assert rules(report) == ["secret.dwave-token"]
    with pytest.raises(InputError) as raised:
        run.exit_code(report, "low")
    assert raised.value.code == "scan-git-unreadable"
    with pytest.raises(InputError, match="cannot be read"):
        run.scan([tmp_path / "none"], families=("secrets",), git_history=True)


def test_a_history_without_files_is_looked_at(tmp_path: Path, monkeypatch) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match="looked at nothing"):
        run.scan([tmp_path], families=("secrets",), git_history=True)
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "plain")
    monkeypatch.chdir(tmp_path)
    assert main(["scan", "--git-history", "."]) == 0
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", f"revoke {TOKEN}")
    assert main(["scan", "--git-history", "."]) == 1
    report = run.scan([tmp_path], families=("secrets",), git_history=True)
    assert (rules(report), report.files, report.commits) == (["secret.dwave-token"], 0, 2)
    assert "0 files and 2 commits" in run.summary(report)


MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xff\xfe\0\0": "utf-32-le",
         b"\xef\xbb\xbf": "utf-8"}  # fmt: skip


@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.ipynb", "a.zip"])
@pytest.mark.parametrize("mark", MARKS)
def test_a_false_byte_order_mark_hides_no_secret(tmp_path: Path, name: str, mark: bytes) -> None:
    wide = TEXT.decode().encode(MARKS[mark])
    for body in (TEXT, wide, b"\n" * 9 + wide + TEXT):
        data = mark + body
        (tmp_path / name).write_bytes(zipped("in.txt", data) if name == "a.zip" else data)
        report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
        assert set(rules(report)) == {"secret.dwave-token"}
    (tmp_path / name).write_bytes(mark + "nothing here\n".encode(MARKS[mark]))
    assert run.scan([tmp_path], families=("secrets",), base=tmp_path).findings == []
