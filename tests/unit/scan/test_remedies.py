"""Live redaction, git history, patches, hooks, stripping and triage."""

import datetime as dt
import fcntl
import http.server
import io
import json
import os
import random
import signal
import socketserver
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from interlock.errors import InputError, InterlockError, SetupError
from interlock.scan import remedy, run
from interlock.scan.live import LineRedactor, redact_stream
from interlock.scan.patch import patch_of
from interlock.scan.secrets.ruleset import builtin_rules
from interlock.scan.secrets.synth import fill
from interlock.scan.triage import request_for, triage

RNG = random.Random("remedies")
SECRET = fill("DEV-{hex:40}", RNG)


def test_every_rule_is_redacted_in_a_live_log() -> None:
    rng = random.Random("live")
    lines, secrets = [], []
    for rule in builtin_rules():
        for template in rule.positive:
            text = fill(template, rng)
            found = run.scan([Path("-")], families=("secrets",), stdin=io.BytesIO(text.encode()))
            secrets += [f.secret for f in found.findings if f.rule == f"secret.{rule.id}"]
            lines.append(text)
    sink = io.BytesIO()
    redact_stream(io.BytesIO("\n".join(lines).encode()), sink, LineRedactor())
    assert len(secrets) > 100
    left = [s for s in secrets if s in sink.getvalue()]
    assert left == []
    body = b"".join(s for s in secrets if s.startswith(b"-----")).split(b"\n")
    assert not any(len(part) == 64 and part in sink.getvalue() for part in body)


def test_a_key_line_by_line_and_a_line_of_a_megabyte_are_redacted() -> None:
    key = fill("{pem:RSA }", RNG)
    text = f"start\n{key}\nend\n" + "x" * 500_000 + f" token={SECRET} " + "y" * 500_000 + "\nlast"
    sink = io.BytesIO()
    redact_stream(io.BytesIO(text.encode()), sink, LineRedactor())
    out = sink.getvalue().decode()
    assert SECRET not in out
    assert not any(line in out for line in key.split("\n")[1:-1])
    assert out.startswith("start\n")
    assert out.endswith("\nlast")


HOSTILE = (
    b"curl -u a:",
    b"-eyJabcdefghijk",
    b"ionq token ",
    b"token" + b"\\'",
    b"iqm_ ",
    b"a://",
    b"password: ",
)


def test_a_line_goes_out_before_the_next_is_read_and_costs_little() -> None:
    rng = random.Random("latency")
    templates = [t for rule in builtin_rules() for t in rule.positive if "{pem" not in t]
    lines = [fill(t, rng).replace("\n", " ").encode() + b"\n" for t in templates]
    lines += [b"step 12 loss 0.25 " * n + b"\n" for n in range(1, 400, 4)]
    lines += [(text * 65_536)[:65_000] + b"\n" for text in HOSTILE]
    sink = io.BytesIO()
    costs: list[float] = []

    class Source(io.RawIOBase):
        started = 0.0

        def read(self, _size: int | None = -1) -> bytes:
            now = time.process_time()
            done = sink.getvalue().count(b"\n")
            assert done == len(costs) + bool(self.started)
            if self.started:
                costs.append(now - self.started)
            self.started = time.process_time()
            return lines[done] if done < len(lines) else b""

    assert redact_stream(Source(), sink, LineRedactor()) == len(lines) == len(costs)
    # seconds of this process's own CPU, so a busy machine changes nothing
    assert sorted(costs)[int(len(costs) * 0.95)] < 0.1
    assert max(costs) < 1.0


def test_redaction_keeps_up_with_a_live_stream(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "scan", "--redact", "--redact-env"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "LAB_TOKEN": "plain-words-as-token"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(60):
        value = fill("DEV-{hex:40}", RNG)
        process.stdin.write(f"{number} token={value} plain-words-as-token\n".encode())
        process.stdin.flush()
        line = process.stdout.readline()  # before the next is sent: nothing is held back
        assert value.encode() not in line
        assert b"plain-words-as-token" not in line
        assert line.startswith(b"%d " % number)
    process.stdin.close()
    assert process.wait(timeout=120) == 0
    process.stdout.close()


@pytest.mark.timeout(120)
def test_a_progress_bar_is_not_held_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "scan", "--redact"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(20):
        process.stdin.write(f"{number} token={SECRET}\r".encode())
        process.stdin.flush()
        out = b""
        while not out.endswith(b"\r"):  # before the next is sent
            out += os.read(process.stdout.fileno(), 4096)
        assert out.startswith(b"%d token=" % number)
        assert SECRET.encode() not in out
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


class Dripping(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, _size: int | None = -1, /) -> bytes:
        return super().read1(self._size)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_line_ends_of_every_kind_are_copied_as_they_are(size: int) -> None:
    key = fill("{pem:RSA }", random.Random(3)).encode()
    text = b"a\r\nb\rc\n\n\r\r\nd " + SECRET.encode() + b"\re" + b" x\r\n" * 3 + b"f"
    for ending in (b"\n", b"\r\n", b"\r"):
        data = text + ending + key.replace(b"\n", ending) + ending
        sink = io.BytesIO()
        redact_stream(Dripping(data, size), sink, LineRedactor())
        out = sink.getvalue()
        assert out.startswith(text.replace(SECRET.encode(), b"DEV-****(44)") + ending)
        assert out.count(b"\r") == data.count(b"\r")
        assert out.count(b"\n") == data.count(b"\n")
        assert not any(line in out for line in key.split(b"\n")[1:-1])


def repository(path: Path) -> None:
    def git(*arguments: str) -> None:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
        subprocess.run(
            ["git", "-C", str(path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            check=True, capture_output=True, env=environment,
        )  # fmt: skip

    git("init", "-q", "-b", "main")
    (path / "a.env").write_text(f"DWAVE={SECRET}\n")
    git("add", ".")
    git("commit", "-qm", "one")
    (path / "a.env").write_text("DWAVE=$TOKEN\n")
    git("commit", "-qam", "two")
    (path / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch hooked\n")


def test_a_removed_secret_is_found_in_the_history_with_its_commit(tmp_path: Path) -> None:
    repository(tmp_path)
    first = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-list", "--max-parents=0", "HEAD"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert run.scan([tmp_path], families=("secrets",), base=tmp_path).findings == []
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path, git_history=True)
    (finding,) = report.findings
    assert finding.path == "a.env"
    assert finding.where == f"commit {first[:12]}"
    advice = list(run.remedies(report, None, None, True))
    assert "Revoke each one" in advice[0]
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(InputError):
        run.scan([Path("/nonexistent")], families=("secrets",), git_history=True)


def test_a_patch_applies_and_leaves_a_clean_tree(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f'"""Doc."""\n\nimport sys\n\ntoken = "{SECRET}"\n')
    (tmp_path / "b.env").write_text(f"DWAVE_TOKEN={SECRET}\n")
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    patch = tmp_path.parent / "fix.patch"
    text, left = patch_of(report.active(), tmp_path)
    assert left == []
    remedy.write_private(patch, text)
    assert patch.stat().st_mode & 0o077 == 0
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
    assert run.scan([tmp_path], families=("secrets",), base=tmp_path).findings == []
    text = (tmp_path / "a.py").read_text()
    compile(text, "a.py", "exec")
    assert 'token = os.environ["DWAVE_TOKEN"]' in text
    assert "import os\n" in text


PYTHON = (
    '#!/usr/bin/env python3\n# coding: utf-8\nimport sys\ntoken = "S"\n',
    '"""Doc.\n\nimport nothing\n"""\nfrom __future__ import annotations\ntoken = "S"\n',
    '"""Doc."""\n\nfrom __future__ import annotations\n\nimport sys\n\ntoken = \'S\'',
    'text = """\nimport this\n"""\ntoken = b"S"\n',
    'import os.path\ntoken = "S"  # not "S"\n',
    "import os as system\ntoken = dict(a=\"t='S'\", é='S')\n",
    'def f(x="S"):\n    """S"""\n    return f"{x} S"\n',
    "@property\ndef f(x='S', y='S'): pass\n",
    'match 1:\n    case "x S":\n        token = "S"\n',
    'x = [\n  "S",\n  "S"]\n',
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("code", PYTHON)
def test_a_patch_leaves_python_that_runs(tmp_path: Path, code: str, end: str) -> None:
    code = code.replace("S", SECRET).replace("\n", end)
    (tmp_path / "a b.py").write_bytes(code.encode())
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert report.active()
    text, left = patch_of(report.active(), tmp_path)
    assert left == []
    remedy.write_private(tmp_path.parent / "fix.patch", text)
    subprocess.run(["git", "apply", "../fix.patch"], cwd=tmp_path, check=True)
    after = (tmp_path / "a b.py").read_bytes().decode()
    assert SECRET not in after
    assert after.count("\r") == (after.count("\n") if end == "\r\n" else 0)
    assert after.endswith("\n") == code.endswith("\n")
    if "property" not in code:
        spaces: dict[str, object] = {}
        os.environ["DWAVE_TOKEN"] = "from outside"
        try:
            exec(compile(after, "a.py", "exec"), spaces)
        finally:
            del os.environ["DWAVE_TOKEN"]
        if "token = b" in code:
            assert spaces["token"] == b"from outside"


@pytest.mark.parametrize("code", ['"""Doc."""; token = "S"\n', 'token = "S" if\n', 'a = 1\r"S"'])
def test_python_that_a_patch_would_break_is_left(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_bytes(code.replace("S", SECRET).encode())
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    text, left = patch_of(report.active(), tmp_path)
    assert (text, len(left)) == ("", len(report.active()))
    assert left


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=S", "v"), ("X='S'", "v"), ('X="S"', "v"), ("X=a'b'S", "abv"), ("X='it is S'", None),
        ("X=\"it's S\"", "it's v"), ("# it's\nX='S'", "v"), ("cat <<'E'\ntoken='S'\nE", None),
    ],
)  # fmt: skip
def test_a_patch_leaves_shell_that_means_the_same(
    tmp_path: Path, line: str, value: str | None
) -> None:
    script = tmp_path / "a.sh"
    script.write_text(f'set -e\n{line.replace("S", SECRET)}\necho "$X"')
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert report.active()
    text, left = patch_of(report.active(), tmp_path)
    assert bool(left) == (value is None) == (text == "")
    if value is not None:
        remedy.write_private(tmp_path.parent / "fix.patch", text)
        subprocess.run(["git", "apply", "../fix.patch"], cwd=tmp_path, check=True)
        done = subprocess.run(
            ["sh", str(script)], check=True, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "DWAVE_TOKEN": "v"},
        )  # fmt: skip
        assert done.stdout == f"{value}\n"


def test_the_revoke_hook_gets_the_secret_on_standard_input_only(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text(f"DWAVE_TOKEN={SECRET}\n")
    hook = tmp_path / "hook.py"
    hook.write_text(
        "import json, os, sys\n"
        "data = json.load(sys.stdin)\n"
        "told = ' '.join(sys.argv) + ' '.join(os.environ.values())\n"
        "open(sys.argv[1], 'w').write(json.dumps([data['secret'] in told, data]))\n"
    )
    report = run.scan([tmp_path / "a.env"], families=("secrets",), base=tmp_path)
    out = tmp_path / "out.json"
    lines = list(run.remedies(report, None, f"{sys.executable} {hook} {out}", False))
    told, data = json.loads(out.read_text())
    assert told is False
    assert data["secret"] == SECRET
    assert data["rule"] == "secret.dwave-token"
    assert data["provider"] == "dwave"
    assert lines == ["revoke hook: secret.dwave-token at a.env:1: exit 0"]
    with pytest.raises(SetupError):
        remedy.run_revoke_hook("/no/such/program", report.findings[0])
    with pytest.raises(SetupError):
        remedy.run_revoke_hook("sleep 5", report.findings[0], timeout_s=0.1)


def test_notebooks_lose_their_outputs_and_nothing_else(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code", "execution_count": 3, "metadata": {}, "source": ["x"],
        "outputs": [{"output_type": "stream", "name": "stdout", "text": [SECRET]}],
    }  # fmt: skip
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    path.chmod(0o640)
    assert remedy.strip_notebook(path) == 1
    after = json.loads(path.read_text())
    assert after["cells"][0]["source"] == ["x"]
    assert after["cells"][0]["outputs"] == []
    assert path.stat().st_mode & 0o777 == 0o640
    broken = tmp_path / "b.ipynb"
    broken.write_text("{")
    with pytest.raises(InputError):
        remedy.strip_notebook(broken)
    assert broken.read_text() == "{"


class Model(http.server.BaseHTTPRequestHandler):
    bodies: list[bytes] = []
    answer = '{"verdict": "harmless", "reason": "test data"}'

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"choices": [{"message": {"content": self.answer}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.enable_socket
def test_triage_never_sends_a_secret_and_is_recorded(tmp_path: Path) -> None:
    rng = random.Random("triage")
    lines = [fill(t, rng) for rule in builtin_rules() for t in rule.positive]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    before = sum(f.risk for f in report.findings)
    count = len(report.findings)
    server = http.server.HTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Model.bodies.clear()
    log = tmp_path.parent / "audit.jsonl"
    url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    try:
        asked = triage(report, url, model="m", audit=log, clock=lambda: 1.0)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == len(Model.bodies) > 50
    sent = b"".join(Model.bodies).decode()
    for finding in report.findings:
        secret = finding.secret.decode()
        if "KEY-----" not in secret:
            assert not any(secret[i : i + 10] in sent for i in range(8, len(secret) - 10))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == count == len(report.findings)
    assert before - sum(f.risk for f in report.findings) == 20 * asked


_BROKEN = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "deep": b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
    "error": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.enable_socket
@pytest.mark.parametrize("answer", list(_BROKEN))
def test_a_broken_triage_endpoint_loses_no_finding(tmp_path: Path, answer: str) -> None:
    class Broken(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 20)
            self.wfile.write(_BROKEN[answer])

    (tmp_path / "a.txt").write_text(f"token={SECRET}\n")
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    with socketserver.TCPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        run.ask(report, url, "m", tmp_path / "audit.jsonl")
        server.shutdown()
    assert report.failure is not None
    assert report.failure.code == "scan-triage"
    assert len(report.findings) == 1
    assert json.loads((tmp_path / "audit.jsonl").read_text())["outcome"].startswith("failed")


def test_an_answer_of_the_wrong_kind_changes_nothing_and_ctrl_c_keeps_the_report(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a.txt").write_text(f"token={SECRET}\n")
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    before = report.findings[0].risk
    for text in ('{"verdict": ["harmless"]}', '{"a":' + "[" * 100_000 + "}", "no"):
        monkeypatch.setattr("interlock.scan.triage._post", lambda *_, text=text: text)
        assert run.ask(report, "http://127.0.0.1:9/", "m", tmp_path / "audit.jsonl") == 1
        assert report.findings[0].risk == before
        assert report.failure is None

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("interlock.scan.triage._post", stop)
    run.ask(report, "http://127.0.0.1:9/", "m", tmp_path / "audit.jsonl")
    assert report.interrupted
    assert len(report.findings) == 1
    assert run.exit_code(report, "low") == 130


def test_a_request_that_would_hold_the_secret_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / f"part-{SECRET[8:24]}.txt"
    path.write_text(f"token={SECRET}\n")
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert request_for(report.findings[0], "m") is None
    with pytest.raises(InterlockError):
        triage(report, "file:///etc/passwd", model="m", audit=tmp_path / "a.jsonl")


def test_ctrl_c_prints_what_was_found_so_far(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"token={SECRET}\n")
    with (tmp_path / "b.bin").open("wb") as handle:
        handle.truncate(3_000_000_000)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "scan", ".", "--only", "secrets"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    opened = Path(f"/proc/{process.pid}/fd")
    while "b.bin" not in {Path(os.path.realpath(fd)).name for fd in opened.iterdir()}:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, problem = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"secret.dwave-token" in out
    assert b"INTERRUPTED" in out
    assert b"Traceback" not in problem


@pytest.mark.parametrize("extra", [[], ["b.txt"]])
def test_ctrl_c_on_standard_input_matches_what_came(tmp_path: Path, extra: list[str]) -> None:
    (tmp_path / "b.txt").write_text(f"key {SECRET}\n")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "scan", "-", *extra, "--json"], cwd=tmp_path,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdin is not None
    data = b"x = 1\n" * 10_000 + f"token={SECRET}\n".encode()
    process.stdin.write(data)
    process.stdin.flush()
    state = Path(f"/proc/{process.pid}/stat")
    while True:  # until it has read all of the pipe and waits for more
        assert process.poll() is None
        left = fcntl.ioctl(process.stdin, termios.FIONREAD, b"\0" * 4)
        if not any(left) and state.read_text().rpartition(")")[2].split()[0] == "S":
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, problem = process.communicate(timeout=120)
    report = json.loads(out)
    assert process.returncode == 130
    assert report["interrupted"]
    assert report["bytes"] == len(data)
    assert [(f["rule"], f["path"]) for f in report["findings"]] == [
        ("secret.dwave-token", "(standard input)")
    ]
    assert b"Traceback" not in problem


class Interrupted(io.BytesIO):
    """A terminal where Ctrl-C comes at the end."""

    def read1(self, size: int | None = -1, /) -> bytes:
        found = super().read1(min(size or 1, 100))
        if not found:
            raise KeyboardInterrupt
        return found


@pytest.mark.parametrize("before", [0, 10, 300_000])
def test_a_stream_that_is_interrupted_is_matched_to_its_end(tmp_path: Path, before: int) -> None:
    (tmp_path / "later.txt").write_text(f"key {SECRET}\n")
    text = b"x" * before + f"\ntoken={SECRET}".encode()
    report = run.scan(
        [Path("-"), tmp_path / "later.txt"], families=("secrets",), stdin=Interrupted(text)
    )
    assert report.interrupted
    assert run.exit_code(report, "never") == 130
    assert [(f.path, f.line) for f in report.findings] == [("(standard input)", 2)]
    nothing = run.scan([Path("-")], families=("secrets",), stdin=Interrupted())
    assert (nothing.interrupted, nothing.findings, nothing.files) == (True, [], 0)


def test_one_broken_notebook_or_link_stops_no_other(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = json.dumps({"cells": [], "metadata": {}, "nbformat": 4})
    (tmp_path / "a.ipynb").write_text("{")
    (tmp_path / "b.ipynb").write_text(good)
    outside = tmp_path.parent / "outside.ipynb"
    outside.write_text(good + " ")
    (tmp_path / "c.ipynb").symlink_to(outside)
    done = run.strip([Path("a.ipynb"), Path("c.ipynb"), Path("b.ipynb")])
    assert next(done) == ("b.ipynb", 0)
    with pytest.raises(InputError) as caught:
        next(done)
    assert caught.value.got == "c.ipynb, a.ipynb"
    assert outside.read_text() == good + " "


def test_writing_a_baseline_again_keeps_what_it_knew(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"token={SECRET}\n")
    known = tmp_path.parent / "known.json"
    for _ in range(2):
        report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
        run.settle(report, None, known if known.exists() else None, today=dt.date(2026, 1, 1))
        assert run.baseline(report, known) == 1


def test_a_report_into_a_fifo_that_nobody_reads_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(InterlockError, match="cannot be written"):
        run.save(tmp_path / "f", "text")
