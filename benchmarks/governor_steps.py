"""A million random steps against the governor's machine, its journal and its clock.

    python -m benchmarks.governor_steps [steps] [seed]
    python -m benchmarks.governor_steps load [seconds]

Steps: orders from many callers, replays of old ids with the same and with another body, market
prices and equity, the wall and boot clock moved, the process killed (also in the middle of a
write) and started again, reboots, the stop set and lifted, overrides. An independent model keeps
every allowed order and checks after each one that no window, exposure or drawdown was breached and
that nothing was lost or counted twice. `load` measures decisions of a real process over its socket,
beside busy processes: `python -m benchmarks.governor_steps load SECONDS BUSY`.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from interlock.crypto.keys import KeyStore
from interlock.guard.govern.governor import engine, journal, server
from interlock.guard.govern.governor.appetite import Appetite, Override, Window, public_keys, sign
from interlock.guard.govern.governor.client import Client
from interlock.guard.govern.governor.server import Governor, folder
from interlock.guard.state import STOP_FILE

APPETITE = Appetite(
    name="desk",
    windows=(
        Window(seconds=1.0, orders=5, notional=2_000),
        Window(seconds=60.0, orders=100, notional=20_000),
    ),
    max_exposure=10_000,
    max_drawdown=500,
    overriders=("ann", "bob"),
    max_override_s=600,
)


DUPLICATE_S = 0.5


def set_up(home: Path, appetite: Appetite = APPETITE) -> KeyStore:
    keys = KeyStore(home / "people")
    where = folder(home)
    where.mkdir(parents=True)
    signers = {name: public_keys(keys, name) for name in ("ann", "bob", "eve")}
    (where / "signers.json").write_bytes(msgspec.json.encode(signers))
    (where / "appetite.json").write_bytes(msgspec.json.encode(sign(keys, "ann", appetite)))
    return keys


@dataclass
class Model:
    """What was let out, kept by another hand, in floats and true elapsed time."""

    positions: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    recent: deque[tuple[float, float, int, float, int]] = field(default_factory=deque)
    count: int = 0
    notional: float = 0.0
    equity: float | None = None
    peak: float | None = None
    raised: list[tuple[str, float, int]] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    equal: dict[tuple[Any, ...], float] = field(default_factory=dict)
    #: The furthest the clock was when the governor read it, and when it wrote something down.
    seen: int = 0
    written: int = 0

    def asked(self, clock: int, *, wrote: bool) -> None:
        self.seen = max(self.seen, clock)
        self.written = self.seen if wrote else self.written

    def restarted(self, clock: int, *, same_boot: bool) -> None:
        """Only what was written is known, and an override lives on only if the clock runs on."""
        if not same_boot or clock < self.written:
            self.raised = []
            self.written = clock
        self.seen = max(self.written, clock)

    def limit(self, name: str, base: float) -> float:
        values = [(v, until) for what, v, until in self.raised if what == name]
        return values[-1][0] if values and self.seen < values[-1][1] else base

    def gross(self) -> float:
        return sum(abs(q) * self.prices[s] for s, q in self.positions.items())

    def allowed(self, now: float, orders: list[dict[str, Any]], stopped: bool) -> None:
        if stopped:
            self.breaches.append("acted while stopped")
        before = self.gross()
        grows = False
        for o in orders:
            same = tuple(o[k] for k in ("symbol", "side", "quantity", "price"))
            if now - self.equal.get(same, -1e9) < DUPLICATE_S - 1e-6:
                self.breaches.append("duplicate")
            self.equal[same] = now
            held = self.positions.get(o["symbol"], 0.0)
            moved = o["quantity"] if o["side"] == "buy" else -o["quantity"]
            grows |= held * moved >= 0 or abs(moved) > abs(held) + 1e-9
            self.positions[o["symbol"]] = held + moved
            self.prices[o["symbol"]] = max(self.prices.get(o["symbol"], 0.0), o["price"])
        volume = sum(o["quantity"] * o["price"] for o in orders)
        self.count += len(orders)
        self.notional += volume
        self.recent.append((now, now, len(orders), volume, 0))
        while self.recent and self.recent[0][0] < now - 61:
            self.recent.popleft()
        for index, window in enumerate(APPETITE.windows):
            inside = [r for r in self.recent if r[0] >= now - window.seconds]
            most = self.limit(f"windows.{index}.orders", window.orders)
            if sum(r[2] for r in inside) > most:
                self.breaches.append(f"orders in window {index}")
            most = self.limit(f"windows.{index}.notional", window.notional)
            if sum(r[3] for r in inside) > most + 1e-6:
                self.breaches.append(f"notional in window {index}")
        gross = self.gross()
        most = self.limit("max_exposure", APPETITE.max_exposure)
        if gross > most + 1e-3 and (grows or gross > before + 1e-3):
            self.breaches.append(f"exposure {gross}")
        down = 0.0 if self.peak is None or self.equity is None else self.peak - self.equity
        if grows and down > self.limit("max_drawdown", APPETITE.max_drawdown) + 1e-6:
            self.breaches.append("drawdown")


def run(steps: int, seed: int) -> Counter[str]:
    """Take the steps and return what happened; `breach` must be 0."""
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder_name:
        home = Path(folder_name)
        appetite = msgspec.structs.replace(APPETITE, duplicate_s=DUPLICATE_S)
        keys = set_up(home, appetite)
        model = Model()
        elapsed, shift, boot = 1_000.0, 0.0, 0
        clock = lambda: int((elapsed + shift) * 1e9)  # noqa: E731 - reads the moving variables
        real_fsync = os.fdatasync
        kept = engine.REMEMBERED, server.COMPACT_AFTER, journal.DURABLE
        engine.REMEMBERED, server.COMPACT_AFTER = 2_000, 3_000  # so that both happen often
        os.fdatasync = lambda _: None  # the test kills a process, not the power
        journal.DURABLE = 0
        governor = Governor(home, clock_ns=clock, boot="boot-0")
        asked: deque[tuple[str, list[dict[str, Any]], bool]] = deque(maxlen=300)
        lost: list[tuple[str, list[dict[str, Any]], bool]] = []
        idents = itertools.count()

        def restart(new_boot: bool, reset: bool) -> Governor:
            nonlocal boot, shift
            boot += new_boot
            if new_boot:
                # A machine may have been up for long before its governor starts.
                shift = rng.choice([0.0, 1e6]) - elapsed * reset
            elif reset:
                # In one boot a clock may go back, and never runs ahead of time.
                shift = min(shift, -elapsed)
            model.restarted(clock(), same_boot=not new_boot)
            return Governor(home, clock_ns=clock, boot=f"boot-{boot}")

        def ask(ident: str, orders: list[dict[str, Any]]) -> bool:
            answer = governor.orders([{"id": ident, "orders": orders}])[0]
            model.asked(clock(), wrote=not answer["again"])
            if answer["allowed"] and answer["again"] and (home / STOP_FILE).exists():
                model.breaches.append("allowed again while stopped")
            if answer["allowed"] and not answer["again"]:
                model.allowed(elapsed, orders, (home / STOP_FILE).exists())
            return bool(answer["allowed"])

        try:
            for _ in range(steps):
                dice = rng.random()
                if dice < 0.62:
                    orders = [
                        {
                            "symbol": rng.choice("ABCD"), "side": rng.choice(["buy", "sell"]),
                            "quantity": round(rng.expovariate(0.2) + 0.01, rng.choice([0, 2, 6])),
                            "price": round(rng.uniform(5, 90), 2),
                        }
                        for _ in range(rng.choice([1, 1, 1, 2, 3]))
                    ]  # fmt: skip
                    orders = [o for o in orders if o["quantity"] > 0] or [{"symbol": "A"}]
                    if asked and rng.random() < 0.1:
                        orders = asked[-1][1]  # the same order once more, under a new id
                    ident = f"o{next(idents)}"
                    if "side" not in orders[0]:
                        tally["malformed"] += 1
                        assert not ask(ident, orders)
                        continue
                    tally["orders"] += 1
                    allowed = ask(ident, orders)
                    tally["allowed"] += allowed
                    asked.append((ident, orders, allowed))
                elif dice < 0.72 and asked:
                    ident, orders, was = rng.choice(asked)
                    tally["replays"] += 1
                    count = model.count
                    if rng.random() < 0.3:
                        assert not ask(ident, [{**orders[0], "quantity": 1.2345678}])
                    elif (home / STOP_FILE).exists():
                        ask(ident, orders)
                    else:
                        assert ask(ident, orders) is was
                    if model.count != count:
                        tally["breach"] += 1
                elif dice < 0.90:
                    elapsed += rng.choice([0.0, 0.001, 0.05, 0.3, 1.0, 20.0, 70.0])
                elif dice < 0.93:
                    tally["marks"] += 1
                    prices = {s: round(rng.uniform(5, 90), 2) for s in "ABCD"}
                    equity = round((model.peak or 1000.0) - rng.expovariate(1 / 120), 2)
                    assert governor.admin({"mark": {"prices": prices, "equity": equity}})["ok"]
                    model.asked(clock(), wrote=True)
                    model.prices.update(prices)
                    model.equity = equity
                    model.peak = equity if model.peak is None else max(model.peak, equity)
                elif dice < 0.96:
                    tally["clock jumps"] += 1
                    shift += rng.choice(
                        [-0.5, -2.0, -2.0, -300.0]
                    )  # backwards; forwards is elapsed time
                elif dice < 0.985:
                    tally["stops"] += 1
                    path = home / STOP_FILE
                    path.unlink() if path.exists() and rng.random() < 0.9 else path.touch()
                elif dice < 0.999:
                    (home / STOP_FILE).unlink(missing_ok=True)
                elif rng.random() < 0.8:
                    tally["kills"] += 1
                    # Killed without closing; half of the time a write was cut short, and half of
                    # the time the answer to an order on disk was never sent.
                    if rng.random() < 0.5 and not (home / STOP_FILE).exists():
                        ident = f"o{next(idents)}"
                        orders = [{"symbol": "A", "side": "buy", "quantity": 1, "price": 10.0}]
                        lost.append((ident, orders, ask(ident, orders)))
                    governor.close()
                    if rng.random() < 0.5:
                        with (folder(home) / "journal").open("r+b") as file:
                            file.seek(len(file.read().rstrip(b"\0")))
                            file.write(b'00000000 [{"kind": "orders", "t')
                    governor = restart(rng.random() < 0.3, rng.random() < 0.3)
                    for ident, orders, was in lost:
                        if not (home / STOP_FILE).exists():
                            assert ask(ident, orders) is was
                    lost = []
                else:
                    tally["overrides"] += 1
                    value = rng.choice([12_000, 11_000, 8_000])
                    body = Override(
                        id=f"override-{next(idents)}", appetite_version=1, limit="max_exposure",
                        value=value, duration_s=5, reason="drill",
                    )  # fmt: skip
                    one = sign(keys, "ann", body)
                    assert not governor.admin({"override": one})["ok"]
                    two = sign(keys, "bob", body, one["signatures"])
                    assert governor.admin({"override": two})["ok"]
                    assert not governor.admin({"override": two})["ok"]
                    # A clock that went back stands still; it never runs ahead.
                    model.asked(clock(), wrote=True)
                    model.raised.append(("max_exposure", value, model.seen + 5 * 10**9))
                tally["breach"] += len(model.breaches)
                model.breaches.clear()
                governor.now()  # who read the time must not find it earlier at the next order
                model.asked(clock(), wrote=False)
            for symbol, held in model.positions.items():
                off = abs(governor.engine.positions.get(symbol, 0) / 1e6 - held)
                tally["lost or double"] += off > 1e-5 * max(1, model.count)
        finally:
            os.fdatasync = real_fsync
            engine.REMEMBERED, server.COMPACT_AFTER, journal.DURABLE = kept
            governor.close()
    tally["steps"] = steps
    return tally


def load(seconds: float, clients: int = 4, *, real_time: bool = False) -> list[float]:
    """Return the latencies of a real process under load from several clients, in seconds.

    Args:
        seconds: how long to ask.
        clients: threads that ask.
        real_time: clients wait for no CPU either, so that the governor's own part is seen.
    """
    appetite = Appetite(
        name="load", windows=(Window(seconds=60, orders=10**7, notional=1e14),),
        max_exposure=1e14, max_drawdown=1e6,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        set_up(home, appetite)
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "governor", "serve", "--home", name],
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            spent: list[float] = []

            def work(k: int) -> None:
                if real_time:
                    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
                client = Client(home, timeout_s=5)
                end = time.perf_counter() + seconds
                mine = []
                for n in itertools.count():
                    side = "buy" if n % 2 else "sell"
                    order = {"symbol": f"S{k}", "side": side, "quantity": 1, "price": 10.0}
                    started = time.perf_counter()
                    assert client.ask({"id": f"{k}-{n}", "orders": [order]})["allowed"]
                    mine.append(time.perf_counter() - started)
                    time.sleep(0.002)
                    if started > end:
                        break
                spent.extend(mine[20:])

            threads = [threading.Thread(target=work, args=(k,)) for k in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sorted(spent)
        finally:
            process.terminate()
            process.wait()


def decisions(count: int) -> tuple[list[float], list[float]]:
    """Return latencies of decisions with their write, and of bare writes between them."""
    with tempfile.TemporaryDirectory() as name:
        set_up(Path(name))
        governor = Governor(Path(name))
        governor.scheduling = server._ahead_of_others()
        file = os.open(Path(name) / "bare", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(file, bytes(1 << 20))
        os.fsync(file)
        spent, bare = [], []
        for n in range(count):
            order = {"symbol": "S", "side": "buy", "quantity": 1, "price": 10.0}
            started = time.perf_counter()
            governor.orders([{"id": str(n), "orders": [order]}])
            spent.append(time.perf_counter() - started)
            governor.journal.write_ahead()
            started = time.perf_counter()
            os.pwrite(file, b"x" * 200, n * 200 % 10**6)
            os.fdatasync(file)
            bare.append(time.perf_counter() - started)
            time.sleep(0.0005)
        governor.close()
        os.close(file)
        return sorted(spent), sorted(bare)


def told(name: str, spent: list[float]) -> None:
    p50, p99, p999 = (spent[int(q * (len(spent) - 1))] * 1e3 for q in (0.5, 0.99, 0.999))
    print(
        f"{name}: {len(spent)}, p50 {p50:.3f} ms, p99 {p99:.3f} ms, p99.9 {p999:.3f} ms, "
        f"max {spent[-1] * 1e3:.2f} ms",
        flush=True,
    )


def timed(seconds: float, busy: int) -> None:
    """Print latencies while this many other processes want the CPU."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        print(f"{busy} busy processes beside, load {os.getloadavg()[0]:.1f}")
        # In a child, so that this process keeps its own priority.
        code = (
            "from benchmarks.governor_steps import decisions, told; spent, bare = decisions(5000); "
            "told('bare fdatasync', bare); told('decisions with their fdatasync', spent)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        for clients in (1, 4):
            told(
                f"over the socket, {clients} clients in real time",
                load(seconds, clients, real_time=True),
            )
            told(f"over the socket, {clients} ordinary clients", load(seconds, clients))
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
        timed(seconds, int(sys.argv[3]) if len(sys.argv) > 3 else 2 * (os.cpu_count() or 1))
        return
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    started = time.perf_counter()
    tally = run(steps, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(", ".join(f"{k} {tally[k]}" for k in ("steps", "orders", "allowed", "replays", "marks",
          "clock jumps", "stops", "kills", "overrides", "malformed")))  # fmt: skip
    print(f"breaches {tally['breach']}, lost or double-counted {tally['lost or double']}, "
          f"{time.perf_counter() - started:.0f} s")  # fmt: skip
    if tally["breach"] or tally["lost or double"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
