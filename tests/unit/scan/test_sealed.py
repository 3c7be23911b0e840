"""Secrets in names are found, and no text a scan writes shows one; hidden ones are undone."""

import dataclasses
import io
import json
import logging
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.cli import main
from interlock.scan import run
from interlock.scan.finding import Report
from interlock.scan.live import LineRedactor, RedactingFilter
from interlock.scan.seal import Names, Sealer, seal
from interlock.scan.secrets.engine import default_engine
from interlock.scan.secrets.mask import veiled
from interlock.scan.secrets.ruleset import builtin_rules
from interlock.scan.secrets.synth import fill
from interlock.scan.secrets.views import undone
from interlock.scan.triage import request_for, triage

ENGINE = default_engine()
STYLES = ("text", "json", "sarif", "junit", "gitlab")


def made(template: str, seed: object = 1) -> str:
    return fill(template, random.Random(f"sealed-{seed}"))


def everything(report: Report) -> str:
    rest = [json.dumps(request_for(f, "m")) for f in report.findings]
    return "\n".join([*(run.render(report, s, "note") for s in STYLES), *rest, run.unseen(report)])


def test_secrets_in_names_are_found_and_masked_everywhere(tmp_path: Path) -> None:
    token = [made("DEV-{hex:40}", n) for n in range(8)]
    (tmp_path / f"{token[0]}_old.txt").write_text("x")
    (tmp_path / f"keys-{token[1]}").mkdir()
    (tmp_path / f"keys-{token[1]}" / "a.txt").write_text("x")
    (tmp_path / f"keys-{token[1]}" / "b.py").write_text("import pickle\npickle.load(f)\n")
    os.mkfifo(tmp_path / f"pipe.{token[2]}")
    (tmp_path / f"link_{token[3]}").symlink_to("nowhere")
    (tmp_path / token[4]).mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"in/{token[5]}/x.txt", "x")
    own = made("{alnum:32}")
    (tmp_path / f"ionq {own}.txt").write_text(f"IONQ_API_KEY={own}\n")
    (tmp_path / f"bad.{token[6]}.ipynb").write_text("{")
    (tmp_path / f"n-{token[7]}.ipynb").write_text('{"cells": []}')
    report = run.scan([tmp_path], families=("secrets", "code", "models"), base=tmp_path)
    in_names = [f for f in report.findings if f.where == "its name"]
    assert {f.secret.decode() for f in in_names} >= set(token)
    assert len(in_names) == len({(f.path, f.secret) for f in in_names})
    said = everything(report)
    for secret in [*token, own]:
        assert secret[5:] not in said
    assert all(secret[5:] not in repr(report) for secret in [*token, own])
    assert len({f.path for f in in_names}) == len(in_names)


def test_paths_that_differ_in_a_secret_stay_apart(tmp_path: Path) -> None:
    names = [made("k DEV-{hex:40}.txt", n) for n in range(3)]
    for name in names:
        (tmp_path / name).write_text("import pickle")
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert sorted(report.real) == ["k DEV-****(44).txt", "k DEV-****(44).txt~2",
                                   "k DEV-****(44).txt~3"]  # fmt: skip
    assert sorted(report.real.values()) == sorted(names)
    before = [(f.path, f.where) for f in report.findings]
    seal(report)
    assert [(f.path, f.where) for f in report.findings] == before


def test_a_code_scan_masks_names_and_lines_too(tmp_path: Path) -> None:
    token = made("DEV-{hex:40}")
    (tmp_path / f"{token}_x.py").write_text(f"import pickle\npickle.load(f)  # {token}\n")
    report = run.scan([tmp_path], families=("code",), base=tmp_path)
    assert [f.family for f in report.findings] == ["code"]
    assert token[5:] not in everything(report)
    assert token[5:] not in report.findings[0].anchor


def test_names_in_a_git_history_are_found(tmp_path: Path) -> None:
    token = made("DEV-{hex:40}")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
                       cwd=tmp_path, check=True, capture_output=True)  # fmt: skip

    git("init", "-q")
    (tmp_path / "a.txt").write_text("same")
    git("add", ".")
    git("commit", "-qm", "one")
    (tmp_path / "a.txt").rename(tmp_path / f"{token}.txt")
    git("add", ".")
    git("commit", "-qm", "two")
    git("mv", f"{token}.txt", "b.txt")
    git("commit", "-qm", "three")
    report = run.scan([tmp_path], families=("secrets",), git_history=True)
    assert [f.rule for f in report.findings] == ["secret.dwave-token"]
    assert token[5:] not in everything(report)


def test_baseline_triage_log_and_ci_show_no_name(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    token = made("DEV-{hex:40}")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / f"{token}.env").write_text(f"A={token}\n")
    (tmp_path / "src" / f"c-{token}.qasm").write_text("OPENQASM 3.0;\nqubit[1] q;\nh q[3];\n")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "test_a.py").write_text(f"def test_a():\n    assert '{token}' == 'x'\n")
    main(["scan", "src", "--write-baseline", "known.json"])
    main(["ci", "src", "--tests", "t", "--junit", "j.xml", "--sarif", "s.sarif"])
    report = run.scan([Path("src")], families=("secrets",))
    with pytest.raises(Exception, match="gives no answer"):
        triage(report, "http://127.0.0.1:9/", model="m", audit=Path("log.jsonl"))
    out = capsys.readouterr()
    said = out.out + out.err
    assert "DEV-****(44)" in said
    for name in ("known.json", "j.xml", "s.sarif", "log.jsonl"):
        said += (tmp_path / name).read_text()
    assert token[5:] not in said
    assert main(["scan", "src", "--baseline", "known.json"]) == 0


def test_a_patch_reaches_a_file_whose_name_is_masked(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    token = made("DEV-{hex:40}")
    (tmp_path / f"{token}.env").write_text(f"A={token}\nB=DEV-\u200b{token[4:]}\n")
    assert main(["scan", ".", "--patch", "fix.patch"]) == 1
    assert f"a/{token}.env" in (tmp_path / "fix.patch").read_text()
    said = capsys.readouterr().err
    assert "not in the patch: secret.dwave-token at DEV-****(44).env (its name)" in said
    (tmp_path / "gone").symlink_to("/dev/null")
    assert main(["scan", ".", "--patch", "gone"]) == 6
    assert (tmp_path / "gone").is_symlink()


def test_names_without_a_secret_are_left_alone() -> None:
    report = Report()
    names = Names(report, ENGINE, told=True)
    for name in (
        "src/interlock/scan/secrets/views.py", "a/9f3a07c1d2e84b56a1/x.whl", "token_v2_test.py",
        "docs/Bearer authentication-scheme-2024.md", "qiskit-2.6.0-cp311-manylinux2014_x86_64.whl",
        "blobs/sha256-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ):  # fmt: skip
        names(name)
        assert Sealer()(name) == name
    assert report.findings == []


HIDDEN = {
    "json escape": lambda t: t.replace("-", "\\u002d"),
    "json in json": lambda t: t.replace("-", "\\\\u002d"),
    "javascript": lambda t: t.replace("-", "\\x2d"),
    "zero width": lambda t: "\u200b".join([t[:2], t[2:20], t[20:]]),
    "joiner": lambda t: t[:9] + "\u2060" + t[9:],
    "soft hyphen": lambda t: t[:9] + "\u00ad" + t[9:],
    "direction": lambda t: t[:9] + "\u202d" + t[9:],
    "mark": lambda t: t[:9] + "\ufeff" + t[9:],
    "escaped zero width": lambda t: t[:9] + "\\u200b" + t[9:],
    "continued": lambda t: t[:20] + "\\\n    " + t[20:],
    "folded": lambda t: f">-\n    {t[:20]}\n    {t[20:]}\n",
    "literal": lambda t: f"|\n  {t[:20]}\r\n  {t[20:]}\r\nnext: 1",
    "colour": lambda t: f"\x1b[1;33m{t[:9]}\x1b[0m{t[9:]}\x1b[m",
    "grep --color": lambda t: f"\x1b[01;31m\x1b[K{t[:6]}\x1b[m\x1b[K{t[6:]}",
    "24-bit colour": lambda t: t[:9] + "\x1b[38;2;1;2;3m" + t[9:30] + "\x1b[38:5:1m" + t[30:],
    "escaped colour": lambda t: t[:9] + "\\x1b[31m" + t[9:20] + "\\u001b[0m" + t[20:],
    "octal colour": lambda t: t[:9] + "\\033[31m" + t[9:20] + "\\e[0m" + t[20:],
    "hexadecimal": lambda t: "".join(f"\\x{ord(c):02X}" for c in t),
    "braces": lambda t: "".join(f"\\u{{{ord(c):x}}}" for c in t),
    "padded braces": lambda t: t.replace("-", "\\u{00002D}")[:25] + "\\u{200B}" + t[16:],
    "long unicode": lambda t: "".join(f"\\U{ord(c):08x}" for c in t),
    "octal": lambda t: "".join(f"\\{ord(c):03o}" for c in t),
    "shell octal": lambda t: "".join(f"\\0{ord(c):03o}" for c in t),
    "percent": lambda t: "".join(f"%{ord(c):02x}" for c in t),
    "entities": lambda t: f"&quot;{t.replace('-', '&#45;')}&quot;",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_hidden_secret_is_found_and_redacted(tmp_path: Path, kind: str) -> None:
    token = made("DEV-{hex:40}", kind)
    text = f"key: {HIDDEN[kind](token)} rest\n"
    if kind in ("folded", "literal"):
        text = f"key: {HIDDEN[kind](token)}"
    (tmp_path / "a.yaml").write_bytes(f"one\n{text}".encode())
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert [(f.rule, f.secret.decode()) for f in report.findings] == [("secret.dwave-token", token)]
    assert report.findings[0].line == (3 if kind in ("folded", "literal") else 2)
    assert token[5:] not in everything(report)
    if "\n" not in text.strip():
        clean = LineRedactor()(text.encode())
        assert b"DEV-****(44)" in clean
        assert token[30:].encode() not in clean


@pytest.mark.parametrize(("form", "value"), [
    ("aws_secret_access_key={a}%2F{b}", "/"), ('"aws_secret_key": "{a}\\/{b}"', "/"),
    ('{{"x": "aws secret_key\\u003d{a}\\u002b{b}"}}', "+"),
])  # fmt: skip
def test_escapes_inside_a_value_are_decoded(form: str, value: str) -> None:
    first, second = made("{alnum:20}", 1), made("{alnum:19}", 2)
    found = ENGINE.scan(form.format(a=first, b=second).encode())
    assert [m.secret.decode() for m in found] == [first + value + second]


@pytest.mark.parametrize("text", [
    "{0}\x1b[31X{1}", "{0}\x1b]31m{1}", "{0}[31m{1}", "{0}\\x7f{1}", "{0}\\x20{1}", "{0}%20{1}",
    "{0}\\040{1}", "{0}\\u{{20ac}}{1}", "{0}\\U0000012d{1}", "{0}%7f{1}", "{0}\\x1b[31q{1}",
])  # fmt: skip
def test_what_is_no_escape_of_a_letter_or_a_colour_stays(text: str) -> None:
    token = made("DEV-{hex:40}", "stays")
    assert ENGINE.scan(text.format(token[:20], token[20:]).encode()) == []


@pytest.mark.parametrize("form", [
    "- name: IONQ_API_KEY\n  value: {}\n",
    "    - name: IONQ_API_KEY\n      value: >-\n        {}\n",
    '{{"name": "IONQ_API_KEY", "value": "{}"}}', 'name = "ionq_api_key"\n    value = "{}"\n',
])  # fmt: skip
def test_a_value_beside_its_name_is_found(form: str) -> None:
    value = made("{hex:16}{alnum:16}")
    found = ENGINE.scan(form.format(value).encode())
    assert [(m.rule.id, m.secret.decode()) for m in found] == [("ionq-api-key", value)]
    plain = form.replace("IONQ_API_KEY", "JOB").replace("ionq_api_key", "job")
    assert ENGINE.scan(plain.format(value).encode()) == []


def test_a_value_deep_in_the_next_line_is_found() -> None:
    for glue in ("\n" + " " * 40, " >-\n" + " " * 24, "\r\n" + "\t" * 12):
        text = made("api_key:" + glue + "{alnum:32}\n")
        assert [m.rule.id for m in ENGINE.scan(text.encode())] == ["named-secret"]


_NOISE = st.sampled_from([
    "\u200b", "\u2060", "\ufeff", "\u00ad", "\\u200d", "\\\n  ", "\x1b[0m", "\x1b[1;31m\x1b[K",
    "\\033[0m", "\\u{200b}", "\\U0000feff",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(1, 43), _NOISE), max_size=6))
def test_noise_inside_a_token_hides_nothing_and_maps_back(
    seed: int, noise: list[tuple[int, str]]
) -> None:
    token = made("DEV-{hex:40}", seed)
    text = token
    noise = [n for i, n in enumerate(noise) if "\n" not in n[1] or i == 0]
    for place, what in sorted(noise, reverse=True):
        text = text[:place] + what + text[place:]
    data = f"a \u201cquoted\u201d line\nkey = '{text}' # more\n".encode()
    (match,) = ENGINE.scan(data)
    assert match.secret.decode() == token
    assert data[match.start : match.end] == text.encode()
    assert undone(data[match.start : match.end]).decode() == token


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_undone_without_fault_and_sealed_twice_alike(data: bytes) -> None:
    undone(data)
    ENGINE.scan(data)
    text = Sealer([b"hunter2hunter2"])(data.decode("utf-8", "replace") + "hunter2hunter2")
    assert "hunter2hunter2" not in text
    assert Sealer([b"hunter2hunter2"])(text) == text


def test_undoing_makes_no_secret_of_prose_and_code() -> None:
    rng = random.Random("clean")
    for line in (
        "description: >-\n  authentication\n  configuration\n", "run: |\n  pytest\n  mypy\n",
        "re.compile('\\\\x41-\\\\x5a\\\\101%41%5d\\\\1\\\\10')\n",
        "\x1b[32m3 passed\x1b[0m in 1s\n",
        "x = 'caf\\u00e9 \\u0041'\n", "url = 'https://a.example/b%2Fc%3Dd'\n", "a &amp; b &lt; c\n",
        "\u200b# zero\n",
        'path = "C:\\\\x\\/y"\n', "token: >-\n  see the documentation of tokens\n",
    ):  # fmt: skip
        assert ENGINE.scan((line * 20).encode()) == []
    texts = [fill(t, rng) for rule in builtin_rules() for t in rule.negative]
    for text in texts:
        plain = {m.rule.id for m in ENGINE.scan(text.encode())}
        noisy = {m.rule.id for m in ENGINE.scan(f"\u200b {text} \u200b".encode())}
        assert noisy <= plain, text


def test_a_traceback_in_a_log_is_redacted() -> None:
    token, stream = made("DEV-{hex:40}"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("redacted")
    logger.addHandler(handler)
    try:
        raise ValueError(f"refused {token}")
    except ValueError:
        logger.exception("with %s", token, stack_info=True)
    said = stream.getvalue()
    assert token[5:] not in said
    assert "ValueError: refused DEV-****(44)" in said


def test_the_name_of_a_secret_stays_readable() -> None:
    for plain in (
        'qiskit_runtime_service_api_token = "', "export SOME_LONG_SERVICE_NAME_V2_TOKEN=",
        '{"providerConfigurationToken": "', "src/interlock/scan/finding.py has api_key: ",
    ):  # fmt: skip
        assert veiled(plain) == plain
    rng = random.Random("veil")
    for kind in ("alnum", "hex", "b64", "b64url", "base32", "alpha"):
        for size in (16, 20, 32, 40, 64):
            for _ in range(40):
                value = fill(f"{{{kind}:{size}}}", rng)
                shown = veiled(f"x='{value}' token = '")
                assert value not in shown
    assert "hunter22" not in veiled("password = hunter22 token = '")


def test_binary_files_say_that_rules_by_name_were_not_tried(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x7fELF\0\1\2" + made("api_key = '{alnum:32}'").encode())
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert (report.binary, report.findings) == (1, [])
    assert "1 binary file(s)" in run.render(report, "text", "note")
    assert "1 binary file(s)" in run.render(report, "junit", "note")
    assert json.loads(run.render(report, "json", "note"))["binary"] == 1
    sarif = json.loads(run.render(report, "sarif", "note"))["runs"][0]["invocations"][0]
    assert "1 binary file(s)" in sarif["toolExecutionNotifications"][0]["message"]["text"]
    assert "1 binary file(s)" in run.remarks(report)
    none = dataclasses.replace(report, binary=0)
    assert "binary" not in run.render(none, "text", "note")


def test_reports_go_through_a_pipe_without_a_name(tmp_path: Path) -> None:
    token = made("DEV-{hex:40}")
    (tmp_path / f"{token}.txt").write_text("x")
    for arguments in (["--json"], ["--format", "gitlab"], ["--only", "models"]):
        done = subprocess.run([sys.executable, "-m", "interlock.cli", "scan", ".", *arguments],
                              cwd=tmp_path, capture_output=True, check=False)  # fmt: skip
        assert token[5:].encode() not in done.stdout + done.stderr
