"""`interlock run`: an unchanged script, every quantum call guarded, what goes round it named."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.guard.record import recorded
from interlock.guard.replay import replay
from interlock.ledger import audit

SCRIPT = """\
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import BackendSamplerV2
from interlock.backends import twin

device = twin("manila", age_s=60.0)
circuit = QuantumCircuit(2)
circuit.h(0)
circuit.cx(0, 1)
circuit.measure_all()
circuit = transpile(circuit, device, seed_transpiler=7)
print("sampler", sum(BackendSamplerV2(backend=device).run([circuit], shots=100).result()[0]
                     .data.meas.get_counts().values()))
print("backend", sum(device.run(circuit, shots=50).result().get_counts().values()))
"""
ROUND = """\
from qiskit_aer import AerSimulator
print("round", sum(AerSimulator()._run_circuits([circuit], None, shots=10)
                   .result().get_counts().values()))
"""


def interlock(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, policy: dict[str, Any]) -> Path:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


RUN = ("run", "--home", "home", "--policy", "policy.yaml")


def test_each_call_of_an_unchanged_script_is_one_guarded_job(folder: Path) -> None:
    done = interlock(folder, *RUN, "--", "python", "script.py")
    assert done.returncode == 0, done.stderr
    assert "sampler 100" in done.stdout
    assert "backend 50" in done.stdout
    lines = [x for x in done.stdout.splitlines() if x.startswith("RELEASE")]
    assert len(lines) == 2
    assert all("ADVISORY" in x and "fidelity~" in x and "calibration" in x for x in lines)
    assert "2 jobs: 2 RELEASE" in done.stdout
    assert "UNGUARDED" not in done.stdout
    assert interlock(folder, "verify", "--home", "home").returncode == 0
    replayed = interlock(folder, "replay", "--home", "home")
    assert replayed.returncode == 0
    assert "2 of 2" in replayed.stdout


def test_a_submit_that_goes_round_the_guard_is_named(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT + ROUND)
    done = interlock(folder, *RUN, "--json", "--", "python", "script.py")
    events = [json.loads(x) for x in done.stdout.splitlines()]
    (event,) = [e for e in events if e["event"] == "unguarded"]
    assert event["where"].endswith("script.py:15")
    assert events[-1]["unguarded"] == 1
    assert "round 10" in done.stderr
    with recorded(folder / "home") as ledger:
        assert [e.event for e in ledger.entries("unguarded")] == ["unguarded"]


class Page(HTMLParser):
    """Collects what a reader of the report meets."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))


def test_the_report_stands_alone_and_can_be_read_without_eyes_or_mouse(folder: Path) -> None:
    done = interlock(folder, *RUN, "--report", "out.html", "--", "python", "script.py")
    assert done.returncode == 0
    text = (folder / "out.html").read_text()
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "http" not in text.replace("http-equiv", "")
    assert dict(page.attributes)["html"] == {"lang": "en"}
    assert page.tags.count("h1") == 1
    assert page.tags.count("table") == page.tags.count("caption")
    pictures = [a for tag, a in page.attributes if tag == "svg"]
    assert pictures
    assert all(a.get("role") == "img" and a.get("aria-label") for a in pictures)
    assert page.tags.count("details") == page.tags.count("summary") >= 2
    assert re.search(r"calibration [\d.]+ h old", text)
    assert not list(folder.glob("*.part"))


def test_a_refused_job_stops_the_script_and_is_counted_as_saved(folder: Path, policy: Any) -> None:
    small = policy | {"admit": {"budget": {"max_shots_per_job": 60}}}
    (folder / "policy.yaml").write_text(yaml.safe_dump(small))
    done = interlock(folder, *RUN, "--json", "--", "python", "script.py")
    assert done.returncode == 1
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["outcomes"] == {"DENY": 1}
    assert summary["saved"] == {"jobs": 1, "shots": 100, "cost_usd": 0.0}


CAUGHT = """\
import sys
sys.excepthook = lambda *told: print("mine", told[0].__name__)
"""


def test_an_error_that_nobody_catches_is_shown_without_the_inside_of_the_guard(
    folder: Path,
) -> None:
    (folder / "home").touch()  # no folder: the guard cannot be made
    done = interlock(folder, *RUN, "--", "python", "script.py")
    assert done.returncode == 1
    assert "storage-unusable" in done.stderr
    assert "in <module>" in done.stderr
    assert re.findall(r'File ".*/(\w+\.py)"', done.stderr) == ["script.py"]
    assert "direct cause" not in done.stderr
    whole = interlock(folder, *RUN, "--", "python", "-X", "dev", "script.py")
    assert "direct cause" in whole.stderr
    (folder / "other.py").write_text("1 / 0\n")
    other = interlock(folder, *RUN, "--", "python", "other.py")
    assert "ZeroDivisionError" in other.stderr
    (folder / "script.py").write_text(CAUGHT + SCRIPT)
    own = interlock(folder, *RUN, "--", "python", "script.py")
    assert "mine StorageError" in own.stdout


def test_the_version_is_that_of_the_package(folder: Path) -> None:
    done = interlock(folder, "--version")
    assert (done.returncode, done.stdout) == (0, f"interlock {metadata.version('interlock')}\n")


def test_bad_use_is_explained_before_anything_runs(folder: Path) -> None:
    cases = [
        (("run", "--policy", "none.yaml", "--", "python", "script.py"), 3, "policy-unreadable"),
        (("run", "--home", "home", "--", "no-such-program"), 3 - 1, "run-cannot-start"),
        (("run",), 2, "Missing argument"),
        (("runn",), 2, "Did you mean 'run'?"),
        (("explain", "1-aaaaaaaaaa", "--home", "nowhere"), 4, "ledger-absent"),
    ]
    for arguments, code, says in cases:
        done = interlock(folder, *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "interlock-report.html").exists()


ENDLESS = (
    SCRIPT
    + """
import pathlib
while True:
    device.run(circuit, shots=20).result()
    pathlib.Path("begun").touch()
"""
)


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@contextlib.contextmanager
def begun(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """An endless guarded script, past its first jobs, that ends with the test."""
    (folder / "script.py").write_text(ENDLESS)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", *RUN, *options, "--", "python", "script.py"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        wait_for(folder / "begun")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def test_ctrl_c_leaves_a_whole_ledger_and_a_summary(folder: Path) -> None:
    with begun(folder) as process:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert " jobs: " in out
    assert "report: interlock-report.html" in out
    assert "interlock.cli" not in err.replace("-m interlock.cli", "")
    assert audit(folder / "home").ok
    assert process.returncode != 0


def test_a_killed_program_loses_no_record_that_was_acknowledged(folder: Path) -> None:
    with begun(folder, "--json") as process:
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
    shown = [json.loads(x) for x in out.splitlines() if x.endswith("}")]
    assert shown
    assert audit(folder / "home").ok
    with recorded(folder / "home") as ledger:
        for line in shown:
            assert ledger.find(line["receipt"]).header["outcome"] == line["outcome"]
        assert not any(r.differences for r in replay(ledger.entries()))


def test_another_sitecustomize_still_does_its_work(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("print('the other one')")
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
    done = interlock(folder, *RUN, "--", "python", "script.py", env=environment)
    assert "the other one" in done.stdout
    assert "2 jobs: 2 RELEASE" in done.stdout


def test_a_job_that_nobody_waits_for_is_finished_and_recorded(folder: Path) -> None:
    (folder / "script.py").write_text(
        SCRIPT.split("print(")[0] + "BackendSamplerV2(backend=device).run([circuit], shots=77)\n"
    )
    done = interlock(folder, *RUN, "--", "python", "script.py")
    assert "1 jobs: 1 RELEASE" in done.stdout, done.stdout + done.stderr
    assert "77 shots" in done.stdout


def test_a_program_without_the_guard_is_said_to_be_unguarded(folder: Path) -> None:
    done = interlock(folder, *RUN, "--", sys.executable, "-I", "-c", "print('ran')")
    assert done.returncode == 5
    assert "NOT GUARDED" in done.stdout


def test_a_lost_events_file_takes_no_result_away(folder: Path) -> None:
    (folder / "script.py").write_text(
        "import os; os.unlink(os.environ['INTERLOCK_EVENTS'])\n" + SCRIPT
    )
    done = interlock(folder, *RUN, "--", "python", "script.py")
    assert "sampler 100" in done.stdout, done.stderr
    assert "could not be told" in done.stderr


def test_a_reader_that_goes_away_ends_neither_the_jobs_nor_the_report(folder: Path) -> None:
    command = f"{sys.executable} -m interlock.cli {' '.join(RUN)} --report out.html"
    for sink in ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", "> /dev/full"):
        done = subprocess.run(
            ["bash", "-c", f"{command} -- python script.py {sink}".replace("script.py", QUIET)],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert ("standard output is lost" in done.stderr) is (sink == "> /dev/full")
        (folder / "out.html").unlink()
    with recorded(folder / "home") as ledger:
        assert sum("outcome" in e.header for e in ledger.entries()) == 4


#: The script with nothing on its own standard output.
QUIET = "-c 'import contextlib,os; fd = os.open(os.devnull, 1); os.dup2(fd, 1); import script'"


@pytest.mark.parametrize("code", [0, 42])
def test_a_report_that_cannot_be_written_leaves_the_programs_exit_code(
    folder: Path, code: int
) -> None:
    (folder / "script.py").write_text(
        SCRIPT + f"import os, sys\nos.mkdir('out.html')\nsys.exit({code})\n"
    )
    done = interlock(folder, *RUN, "--report", "out.html", "--", "python", "script.py")
    assert done.returncode == (code or 6)
    assert "2 jobs: 2 RELEASE" in done.stdout
    assert "there is no report" in done.stderr
    again = interlock(folder, *RUN, "--report", "out.html", "--", "python", "script.py")
    assert again.returncode == 6
    assert "nothing was run" in again.stderr
    assert "sampler" not in again.stdout


def test_sigterm_is_passed_on_and_a_summary_is_printed(folder: Path) -> None:
    with begun(folder) as process:
        process.terminate()
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert " jobs: " in out
    assert "report: interlock-report.html" in out


SLOW = (
    SCRIPT.split("print(")[0]
    + """
import os, pathlib, time
run = device.run

def slow(*args, **options):
    pathlib.Path("begun").touch()
    HANG
    return run(*args, **options)

device.run = slow
BackendSamplerV2(backend=device).run([circuit], shots=10).result()
"""
)


def test_ctrl_c_does_not_wait_for_the_device_and_the_job_is_named(folder: Path) -> None:
    # In the thread that calls it: Python itself waits for threads an SDK has started.
    (folder / "script.py").write_text(
        SLOW.replace("HANG", "time.sleep(60)").replace(
            "BackendSamplerV2(backend=device).run([circuit]",
            "import interlock\n"
            "interlock.guard(device, policy='policy.yaml', home='home').run(circuit",
        )
    )
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),
    )  # fmt: skip
    try:
        wait_for(folder / "begun")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)  # the device takes 60 s
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "KeyboardInterrupt" in err
    with recorded(folder / "home") as ledger:
        assert not any("outcome" in e.header for e in ledger.entries())
    said = interlock(folder, "replay", "--home", "home")
    assert "began and has no end on record" in said.stdout


def test_a_program_killed_during_a_job_is_said_to_have_left_it(folder: Path) -> None:
    (folder / "script.py").write_text(
        SLOW.replace("HANG", "time.sleep(1); os.kill(os.getpid(), 9)")
    )
    done = interlock(folder, *RUN, "--", "python", "script.py")
    assert done.returncode == 128 + signal.SIGKILL
    assert "under way when the program ended: 1" in done.stdout


def test_lines_the_program_made_up_are_not_counted(folder: Path) -> None:
    (folder / "script.py").write_text(
        SCRIPT
        + """
import json, os
line = {"event": "job", "outcome": "RELEASE", "mode": "ADVISORY", "rule": None, "reason": None,
        "job": "x", "receipt": "5-aaaaaaaaaa", "backend": "ibm", "circuits": 1, "shots": 1,
        "cost_usd": 1e9, "executed": False, "predicted_fidelity": None, "calibration_age_h": None,
        "device_kind": None, "within": None, "interval": None, "alarms": [], "seconds": 0,
        "execution_seconds": 0}
with open(os.environ["INTERLOCK_EVENTS"], "a") as events:
    for change in ({}, {"mode": "ENFORCED", "receipt": "6-aaaaaaaaaa"}):
        events.write(json.dumps(line | change) + "\\n")
    del line["rule"]
    events.write(json.dumps(line) + "\\n")
"""
    )
    done = interlock(folder, *RUN, "--json", "--", "python", "script.py")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert (summary["jobs"], summary["unknown"], summary["unreadable"]) == (2, 1, 2)
    assert summary["saved"]["cost_usd"] == 0
    assert (folder / "interlock-report.html").exists()


@pytest.mark.parametrize(("how", "saved"), [("raise RuntimeError('lost')", 0), ("", 77)])
def test_shots_of_a_device_that_failed_are_not_called_saved(
    folder: Path, policy: Any, how: str, saved: int
) -> None:
    if not how:  # denied before it gets there
        policy["admit"] = {"budget": {"max_shots_per_job": 10}}
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "script.py").write_text(
        SCRIPT.split("print(")[0]
        + f"def fail(*args, **options):\n    {how or 'pass'}\n"
        + "device.run = fail\n"
        + "BackendSamplerV2(backend=device).run([circuit], shots=77).result()\n"
    )
    done = interlock(folder, *RUN, "--json", "--", "python", "script.py")
    *_, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert summary["outcomes"] == {"DENY": 1}
    assert summary["saved"] == {"jobs": bool(saved), "shots": saved, "cost_usd": 0.0}
    assert summary["shots"] == 77 - saved
