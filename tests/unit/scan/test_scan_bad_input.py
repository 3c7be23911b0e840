"""Whatever lies in a tree is named, counted, never fatal, never silent."""

import datetime as dt
import gzip
import io
import json
import logging
import os
import random
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest

from interlock.errors import InputError
from interlock.scan import run
from interlock.scan.finding import Report
from interlock.scan.live import RedactingFilter
from interlock.scan.notebook import strip_outputs
from interlock.scan.secrets.synth import fill

SECRET = fill("DEV-{hex:40}", random.Random("bad-input"))


def scan(*paths: Path, **options: object) -> Report:
    return run.scan(paths, families=("secrets", "code", "models"), base=paths[0], **options)


def notes(report: Report) -> dict[str, str]:
    return {note.path: note.reason for note in report.notes}


def test_links_pipes_sockets_and_devices_are_named(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text(f"token = {SECRET}\n")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        report = scan(tmp_path)
    assert notes(report) == {
        "loop": "symlink", "up": "symlink", "dangling": "symlink", "pipe": "fifo", "sock": "socket",
    }  # fmt: skip
    assert {n.path: n.detail for n in report.notes if n.reason == "symlink"} == {
        "loop": "cyclic", "up": "not followed", "dangling": "broken",
    }  # fmt: skip
    assert [f.path for f in report.findings] == ["real.txt"]


def test_a_device_named_on_the_command_line_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    report = scan(tmp_path, Path("/dev/zero"))
    assert "device" in {note.reason for note in report.notes}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user to drop to")
def test_what_this_user_may_not_read_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "open.txt").write_text("x")
    (tmp_path / "shut.txt").write_text("x")
    (tmp_path / "shut.txt").chmod(0o600)
    (tmp_path / "closed").mkdir(mode=0o700)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            report = scan(tmp_path)
            os.write(writer, json.dumps([notes(report), report.files]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        seen, files = json.load(stream)
    os.waitpid(child, 0)
    assert seen == {"shut.txt": "unreadable", "closed": "unreadable"}
    assert files == 1


def test_broken_text_is_still_matched(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa caf\xe9\n"[2:] + f"t {SECRET}\n".encode())
    (tmp_path / "utf16.txt").write_text(f"token {SECRET}\n", encoding="utf-16")
    (tmp_path / "blob.bin").write_bytes(b"\0\1\2" + b"AKIA" + b"QWERTZ234567ABCD"[:16] + b"\0")
    (tmp_path / "bad.py").write_text(f"def (:\n  '{SECRET}'\n")
    (tmp_path / "bad.ipynb").write_text('{"cells": [{"source": ["token = \\"' + SECRET + '\\""')
    report = scan(tmp_path)
    assert {Path(f.path).name for f in report.findings if f.family == "secret"} >= {
        "latin.txt", "utf16.txt", "bad.py", "bad.ipynb",
    }  # fmt: skip
    assert notes(report) == {
        "latin.txt": "invalid-utf8", "bad.py": "python-syntax", "bad.ipynb": "broken-notebook",
    }  # fmt: skip


@pytest.mark.parametrize("depth", [50_000])
def test_deep_nesting_ends_nothing(tmp_path: Path, depth: int) -> None:
    (tmp_path / "deep.ipynb").write_text("[" * depth)
    (tmp_path / "deep2.ipynb").write_text('{"cells":' * depth + "1" + "}" * depth)
    (tmp_path / "deep.py").write_text("x = " + "(" * depth + ")" * depth)
    (tmp_path / "deep2.py").write_text("x = " + "-" * depth + "1")
    (tmp_path / "deep.qasm").write_text("OPENQASM 3.0;" + "if (x) {" * depth)
    report = scan(tmp_path)
    assert report.files == 5
    assert {"deep.ipynb", "deep2.ipynb", "deep.py"} <= set(notes(report))


def test_archives_are_looked_into_and_bombs_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/x.txt", f"token = {SECRET}")
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w:gz") as tar:
            data = f"t={SECRET}".encode()
            info = tarfile.TarInfo("y.env")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        archive.writestr("b.tar.gz", inner.getvalue())
    (tmp_path / "c.gz").write_bytes(gzip.compress(f"token {SECRET}".encode()))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(64 * 1024 * 1024)))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:60])
    nest = b"x"
    for _ in range(6):
        nest = gzip.compress(nest)
    (tmp_path / "nest.gz").write_bytes(nest)
    report = scan(tmp_path)
    assert {f.path for f in report.findings} == {
        "a.zip!inner/x.txt", "a.zip!b.tar.gz!y.env", "c.gz!(content)",
    }  # fmt: skip
    seen = notes(report)
    assert seen["bomb.gz"] == "archive-limit"
    assert seen["cut.zip"] == "broken-archive"
    assert "archive-limit" in {v for k, v in seen.items() if k.startswith("nest.gz")}
    assert seen["a.zip!b.tar.gz!link"] == "archive-member"


def test_a_scan_that_looked_at_nothing_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        scan(tmp_path)
    assert caught.value.code == "scan-empty"
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    with pytest.raises(InputError):
        scan(tmp_path)
    with pytest.raises(InputError):
        scan(tmp_path, stdin=io.BytesIO(b""))


def test_control_characters_in_names_and_lines_do_not_reach_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2Jb.txt").write_text(f"\x1b]0;x\x07 token = {SECRET}\n")
    report = scan(tmp_path)
    for style in ("text", "json", "sarif", "junit", "gitlab"):
        assert "\x1b" not in run.render(report, style, "note")


def test_a_log_with_a_hole_of_zero_bytes_is_still_text(tmp_path: Path) -> None:
    named = f"IBM_QUANTUM_TOKEN={fill('{hex:128}', random.Random('hole'))}\n"
    (tmp_path / "cut.log").write_bytes(bytes(200) + b"\nstart\n" + named.encode())
    (tmp_path / "code.so").write_bytes(b"\x7fELF\2\1\1\0\xff\xfe" + named.encode())
    assert [f.path for f in scan(tmp_path).findings] == ["cut.log"]


def test_names_and_texts_that_are_no_utf_8_break_no_report(tmp_path: Path) -> None:
    code = 'import pickle\nQiskitRuntimeService(token="\\ud800abcdefgh")\npickle.load(f)\n'
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.py")).write_text(code)
    cell = {"cell_type": "code", "source": f'x="\ud800"\ntoken="{SECRET}"'}
    outputs = [{"output_type": "stream", "text": "\udfff"}]
    held = {**cell, "outputs": outputs, "metadata": {}, "execution_count": 1}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [held]}
    (tmp_path / "n.ipynb").write_text(json.dumps(book))
    report = scan(tmp_path)
    assert {f.path for f in report.findings} == {"bad\udcff.py", "n.ipynb"}
    for style in ("text", "json", "sarif", "junit", "gitlab"):
        run.render(report, style, "note").encode()
    assert "bad%FF.py" in run.render(report, "sarif", "note")
    count = run.baseline(report, tmp_path.parent / "known.json")
    run.settle(report, None, tmp_path.parent / "known.json", today=dt.date(2026, 6, 1))
    assert count > 1
    assert not report.active()
    stripped, removed = strip_outputs((tmp_path / "n.ipynb").read_bytes())
    assert removed
    assert json.loads(stripped)["cells"][0]["source"] == cell["source"]
    record = logging.LogRecord("a", 20, "", 0, "odd \ud800 text", (), None)
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "odd \ud800 text"


def test_a_program_is_no_text_of_two_byte_characters(tmp_path: Path) -> None:
    key = fill("AKIA{base32:16}", random.Random("elf")).encode()
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" * 1200 + b" " + key + b" "
    (tmp_path / "a.so").write_bytes(program)
    for coding in ("utf-16-le", "utf-16-be", "utf-16"):
        (tmp_path / f"{coding}.txt").write_bytes(f"token = {SECRET}\n".encode(coding) * 9)
    report = scan(tmp_path)
    assert {f.path: f.rule for f in report.findings} == {
        "a.so": "secret.aws-access-key-id", "utf-16-le.txt": "secret.dwave-token",
        "utf-16-be.txt": "secret.dwave-token", "utf-16.txt": "secret.dwave-token",
    }  # fmt: skip
    assert report.binary == 1
