"""The risk side: people, the limits they sign, and the governor's process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from interlock.crypto.keys import KeyStore
from interlock.guard.govern.governor.appetite import Appetite, Window, public_keys, sign
from interlock.guard.govern.governor.client import Client
from interlock.guard.govern.governor.server import folder

OFFICER, SECOND = "risk-officer", "head-of-desk"
APPETITE = Appetite(
    name="market case",
    windows=(
        Window(seconds=1.0, orders=3, notional=30_000),
        Window(seconds=20.0, orders=12, notional=60_000),
    ),
    max_exposure=50_000,
    max_drawdown=1_500,
    overriders=(OFFICER, SECOND),
    max_override_s=300,
)


def sign_limits(home: Path, appetite: Appetite = APPETITE) -> None:
    """Let the risk officer sign, and the home trust the officer's keys."""
    keys = KeyStore(home.parent / f"{home.name}-people")
    where = folder(home)
    where.mkdir(parents=True)
    signers = {name: public_keys(keys, name) for name in (OFFICER, SECOND)}
    (where / "signers.json").write_bytes(msgspec.json.encode(signers))
    (where / "appetite.json").write_bytes(msgspec.json.encode(sign(keys, OFFICER, appetite)))


class Governor:
    """The governor as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "interlock.cli", "governor", "serve", "--home", str(self.home)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.says = self._process.stdout.readline().strip()
        if not self.says:
            raise SystemExit("the governor did not start")
        self._admin = Client(self.home, "admin", timeout_s=5)

    def mark(self, prices: dict[str, float], equity: float) -> None:
        """Tell it the market's prices and the desk's equity."""
        self._admin.ask({"mark": {"prices": prices, "equity": equity}})

    def status(self) -> dict[str, Any]:
        """Ask for limits and use."""
        return self._admin.ask({"status": True})

    def kill(self) -> None:
        """Kill it without warning."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """End it."""
        self._admin.close()
        self._process.terminate()
        self._process.wait()


def latency(home: Path, count: int) -> dict[str, float]:
    """Time decisions of a governor's process over its socket, and the disk alone, in ms."""
    wide = Appetite(
        name="timing", windows=(Window(seconds=60, orders=10**7, notional=1e14),),
        max_exposure=1e14, max_drawdown=1e6,
    )  # fmt: skip
    sign_limits(home, wide)
    governor = Governor(home)
    client = Client(home, timeout_s=5)
    asked, disk = [], []
    # As the governor does: the time to wait for a CPU is not the governor's.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    for n in range(count):
        side = "buy" if n % 2 else "sell"
        order = {"symbol": "ARVEN", "side": side, "quantity": 1, "price": 100.0}
        began = time.perf_counter()
        assert client.ask({"id": str(n), "orders": [order]})["allowed"]
        asked.append(time.perf_counter() - began)
        time.sleep(0.001)
    governor.end()
    probe = os.open(home / "probe", os.O_CREAT | os.O_WRONLY, 0o600)
    os.pwrite(probe, bytes(200 * count), 0)
    os.fsync(probe)
    for n in range(count):
        began = time.perf_counter()
        os.pwrite(probe, b"x" * 200, 200 * n)
        os.fdatasync(probe)
        disk.append(time.perf_counter() - began)
        time.sleep(0.001)
    os.close(probe)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    asked.sort()
    disk.sort()
    at = lambda values, q: values[int(q * (len(values) - 1))] * 1e3  # noqa: E731
    return {
        "p50": at(asked, 0.5), "p99": at(asked, 0.99), "disk_p50": at(disk, 0.5),
        "disk_p99": at(disk, 0.99), "count": count,
    }  # fmt: skip
