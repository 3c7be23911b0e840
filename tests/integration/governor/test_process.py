"""The governor as a process: killed under load, started again, stopped while dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.governor_steps import set_up

from interlock.cli import main
from interlock.errors import BackendError
from interlock.guard.govern.governor.appetite import Appetite, Override, Window, sign
from interlock.guard.govern.governor.client import Client
from interlock.guard.govern.governor.server import folder

WIDE = Appetite(
    name="wide", windows=(Window(seconds=3600, orders=400, notional=1e9),), max_exposure=1e9,
    max_drawdown=1e6, overriders=("ann", "bob"),
)  # fmt: skip
ORDER = {"symbol": "A", "side": "buy", "quantity": 1, "price": 1.0}


def start(home: Path, *limited: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*limited, sys.executable, "-m", "interlock.cli", "governor", "serve", "--home", str(home)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"governing wide v1, signed by ann" in process.stdout.readline()
    return process


@pytest.fixture
def home(tmp_path: Path) -> Path:
    set_up(tmp_path, WIDE)
    return tmp_path


def test_kills_under_load_lose_nothing_and_count_nothing_twice(home: Path) -> None:
    process = start(home)
    answers: dict[str, bool] = {}
    lock = threading.Lock()

    def work(k: int) -> None:
        client = Client(home, timeout_s=2)
        for n in range(130):
            ident = f"{k}-{n}"
            for _ in range(200):
                try:
                    answer = client.ask({"id": ident, "orders": [ORDER]})
                except BackendError:
                    time.sleep(0.05)
                    continue
                with lock:
                    answers[ident] = answer["allowed"]
                break

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = start(home)
    for thread in threads:
        thread.join()
    status = Client(home, "admin").ask({"status": True})
    process.terminate()
    assert process.wait(10) == 0
    assert len(answers) == 520
    assert sum(answers.values()) == 400
    assert status["windows"][0]["orders"] == 400
    assert status["exposure"] == 400.0


def test_the_stop_holds_when_the_command_returns_alive_or_dead(home: Path) -> None:
    process = start(home)
    client = Client(home, timeout_s=2)
    assert client.ask({"id": "a", "orders": [ORDER]})["allowed"]
    assert main(["stop", "drill", "--home", str(home)]) == 0
    for ident in ("a", "b"):  # also what was allowed before
        assert client.ask({"id": ident, "orders": [ORDER]})["rule"] == "stopped"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(BackendError, match="did not answer"):
        client.ask({"id": "c", "orders": [ORDER]})
    assert main(["resume", "--home", str(home)]) == 0
    with pytest.raises(BackendError):
        Client(home).ask({"id": "d", "orders": [ORDER]})


def test_a_governor_that_hangs_denies(home: Path) -> None:
    process = start(home)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BackendError):
            Client(home, timeout_s=0.2).ask({"id": "a", "orders": [ORDER]})
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        process.wait(10)


def test_rubbish_on_the_socket_is_survived(home: Path) -> None:
    import socket

    process = start(home)
    for data in (b"", b"\xff" * 100, b"[" * 60_000, b"null", b'{"id": 5}', b'{"id": "\\ud800"}'):
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        raw.connect(str(folder(home) / "orders.sock"))
        raw.send(data)
        raw.close()
    client = Client(home, timeout_s=2)
    assert client.ask({"id": "a", "orders": [ORDER]})["allowed"]
    with pytest.raises(BackendError):
        client.ask({"id": "b", "orders": [ORDER] * 5000})
    # The orders socket takes orders alone: no prices, no overrides from the model's side.
    forged: Any = {"id": "c", "mark": {"prices": {"A": 0.01}, "equity": 1e9}}
    assert client.ask(forged)["rule"] == "form"
    process.terminate()
    process.wait(10)


def test_callers_without_end_keep_out_neither_the_risk_side_nor_spin(home: Path) -> None:
    import socket

    process = start(home, "prlimit", "--nofile=64")
    crowd = []
    for _ in range(100):
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        raw.connect(str(folder(home) / "orders.sock"))
        crowd.append(raw)
    admin = Client(home, "admin", timeout_s=10)
    assert admin.ask({"status": True})["ok"]
    used = cpu_s(process.pid)
    time.sleep(1)
    assert cpu_s(process.pid) - used < 0.2
    for raw in crowd:
        raw.close()
    assert Client(home, timeout_s=10).ask({"id": "a", "orders": [ORDER]})["allowed"]
    process.terminate()
    process.wait(10)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_home_with_too_long_a_path_is_told_in_words(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)
    set_up(home)
    command = [sys.executable, "-m", "interlock.cli", "governor", "serve", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert "error[governor-socket]" in done.stderr
    assert "Traceback" not in done.stderr


def test_signing_and_overriding_from_the_command_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = str(home / "people")
    assert main(["governor", "key", "ann", "--keys", people]) == 0
    public = tmp_path / "ann.json"
    public.write_text(capsys.readouterr().out)
    assert main(["governor", "trust", str(public), "--home", str(home)]) == 0
    process = start(home)
    body = Override(id="drill-0001", appetite_version=1, limit="max_drawdown", value=5,
                    duration_s=60, reason="drill")  # fmt: skip
    from interlock.crypto.keys import KeyStore

    one = tmp_path / "one.json"
    one.write_text(json.dumps(sign(KeyStore(Path(people)), "ann", body)))
    assert main(["governor", "override", str(one), "--home", str(home)]) == 10
    two = str(tmp_path / "two.json")
    sign_it = ["governor", "sign", str(one), "--as", "bob", "--keys", people]
    assert main([*sign_it, "--kind", "override", "--out", two]) == 0
    assert main(["governor", "override", two, "--home", str(home)]) == 0
    capsys.readouterr()
    assert main(["governor", "status", "--home", str(home)]) == 0
    assert json.loads(capsys.readouterr().out)["overrides"] == ["drill-0001"]
    process.terminate()
    process.wait(10)
    from interlock.guard.record import recorded

    with recorded(home) as ledger:
        (entry,) = [e for e in ledger.entries() if e.event == "override"]
    assert entry.header["signed_by"] == "ann, bob"


def test_a_client_outlives_a_restart_and_a_fork(home: Path) -> None:
    process = start(home)
    client = Client(home)
    assert client.ask({"id": "a", "orders": [ORDER]})["allowed"]
    process.kill()
    process.wait()
    with pytest.raises(BackendError):
        client.ask({"id": "dead", "orders": [ORDER]})
    process = start(home)
    assert client.ask({"id": "b", "orders": [ORDER]})["id"] == "b"
    process.kill()
    process.wait()
    process = start(home)
    assert client.ask({"id": "c", "orders": [ORDER]})["id"] == "c"  # the old connection is dead
    before = client._socket
    client._owner = -1  # as after a fork: the connection is another process's
    assert client.ask({"id": "d", "orders": [ORDER]})["id"] == "d"
    assert client._socket is not before
    process.kill()
    process.wait()
