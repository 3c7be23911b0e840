"""The governor's process: one thread, two sockets, every answer on disk before it leaves.

`orders.sock` takes proposed orders, from the model's side. `admin.sock` takes market prices,
equity, overrides, new appetites and questions, from the risk side; give it another owner than the
model's user. Requests that wait together share one write to the disk.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import InterlockError, PolicyError, StorageError
from interlock.guard.govern.governor.appetite import Appetite, Override, read_signers, verify
from interlock.guard.govern.governor.engine import parse_orders
from interlock.guard.govern.governor.journal import COMPACT_AFTER, Journal, replay
from interlock.guard.state import STOP_FILE

__all__ = ["MAX_MESSAGE", "Governor", "boot_id", "folder", "serve"]

MAX_MESSAGE = 64 * 1024
#: Connections kept open on each socket; one more is closed at once.
MAX_CALLERS = 256
_BATCH = 64


def folder(home: Path) -> Path:
    """Return the governor's folder of a home."""
    return home / "governor"


def boot_id() -> str:
    """Return the identity of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class Governor:
    """The engine with its journal and its clock; sockets are apart, so that tests can step it.

    Time is CLOCK_BOOTTIME: setting the wall clock changes nothing, and sleep counts. After a
    reboot, or when the clock is behind the journal, time goes on from the last record, so that no
    window empties because of a restart; nobody knows how long it stood still, so what was to last
    for a time is over.
    """

    def __init__(
        self,
        home: Path,
        *,
        clock_ns: Callable[[], int] | None = None,
        boot: str | None = None,
        record: Callable[[dict[str, Any], tuple[str, ...]], None] | None = None,
    ) -> None:
        self.home = home
        self._stop_file = str(home / STOP_FILE)
        self._clock = clock_ns or (lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        self._record = record
        self.scheduling = "ordinary"
        where = folder(home)
        self._signers = read_signers(where / "signers.json")
        signed = _read(where / "appetite.json")
        appetite, self.signed_by = verify(signed, Appetite, self._signers, need=1)
        self.journal = Journal(where / "journal")
        try:
            self.engine, last_boot, offset = replay(self.journal.records, appetite)
            self.journal.records = []
            now, self._boot = self._clock(), boot or boot_id()
            behind = self.engine.time - now
            self._offset, lapsed = 0, False
            if last_boot == self._boot != "unknown" and offset is not None and offset >= behind:
                self._offset = offset
            elif last_boot:
                self._offset, lapsed = behind, True
                self.engine.lapse()
            changed = appetite != self.engine.appetite
            if changed:
                self._may_follow(appetite, self.signed_by)
            if changed or not last_boot:
                self._tell({"appetite": msgspec.to_builtins(appetite)}, self.signed_by)
            self.journal.append([self._start() | {"lapsed": lapsed}])
            if changed or not last_boot:
                self._adopt(appetite)
        except BaseException:
            self.journal.close()
            raise

    def _start(self) -> dict[str, Any]:
        return {"kind": "start", "boot": self._boot, "t": self.now(), "offset": self._offset}

    def now(self) -> int:
        """Return the governor's time in nanoseconds; no later answer lies before it."""
        return self.engine.advance(self._clock() + self._offset)

    def stopped(self) -> str | None:
        """Return why everything is stopped, or None; a stop file that cannot be read stops."""
        try:
            os.lstat(self._stop_file)  # asked twice a batch: no path is built for it
        except FileNotFoundError:
            return None
        except OSError as error:
            return type(error).__name__
        return "the stop is set"

    def orders(self, messages: list[Any]) -> list[dict[str, Any]]:
        """Decide messages `{id, orders}`; all answers are on disk when this returns."""
        stopped = self.stopped()
        answers, records = [], []
        for message in messages:
            ident = message.get("id") if isinstance(message, dict) else None
            raw = message.get("orders") if isinstance(message, dict) else None
            if not isinstance(ident, str) or not 0 < len(ident) <= 200:
                answers.append({"id": None, "allowed": False, "rule": "form", "again": False})
                continue
            now = self.now()
            if parse_orders(raw) is None:
                raw = None  # what is no order is not kept either: it could be anything
            answer = self.engine.decide(now, ident, raw, stopped=stopped)
            answers.append(answer)
            if not answer["again"]:
                records.append({
                    "kind": "orders", "t": now, "id": ident, "orders": raw,
                    "stopped": stopped, "rule": answer["rule"],
                })  # fmt: skip
        if records:
            self.journal.append(records)
        if self.journal.count > COMPACT_AFTER:
            self.journal.compact(self.engine, self._start())
        # A stop set while this was being decided still holds it back, and an answer given before
        # the stop is not given again.
        if self.stopped() is not None:
            answers = [{**a, "allowed": False, "rule": "stopped"} for a in answers]
        return answers

    def admin(self, message: Any) -> dict[str, Any]:
        """Take `{"mark"}`, `{"override"}`, `{"appetite"}` or `{"status"}`."""
        try:
            if "mark" in message:
                return self._mark(message["mark"])
            if "override" in message:
                return self._override(message["override"])
            if "appetite" in message:
                body, names = verify(message["appetite"], Appetite, self._signers, need=1)
                self._may_follow(body, names)
                self._tell({"appetite": msgspec.to_builtins(body)}, names)
                self._adopt(body)
                self.signed_by = names
                return {"ok": True}
            if "status" in message:
                return {"ok": True, **self.status()}
        except StorageError:
            raise
        except InterlockError as error:
            return {"ok": False, "why": f"{error.code}: {error.message} ({error.got})"}
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            return {"ok": False, "why": f"{type(error).__name__}: {error}"}
        return {"ok": False, "why": "not a request of the governor"}

    def _mark(self, mark: Any) -> dict[str, Any]:
        now = self.now()
        prices, equity = dict(mark["prices"]), mark["equity"]
        if not self.engine.mark(now, prices, equity):
            return {"ok": False, "why": "prices and equity must be finite numbers"}
        self.journal.append([{"kind": "mark", "t": now, "prices": prices, "equity": equity}])
        return {"ok": True}

    def _override(self, document: Any) -> dict[str, Any]:
        body, names = verify(document, Override, self._signers, need=1)
        allowed = [n for n in names if n in self.engine.appetite.overriders]
        if len(allowed) < 2:
            return {"ok": False, "why": f"two overriders must sign, got {allowed}"}
        refused = self.engine.override_fault(body)
        if refused is not None:
            return {"ok": False, "why": refused}
        self._tell({"override": msgspec.to_builtins(body)}, tuple(allowed))
        now = self.now()
        self.engine.override(now, body)
        self.journal.append([{"kind": "override", "t": now, "body": msgspec.to_builtins(body)}])
        return {"ok": True, "until_s": body.duration_s}

    def _tell(self, what: dict[str, Any], names: tuple[str, ...]) -> None:
        """Put it on the ledger first: what cannot be recorded does not happen."""
        if self._record is not None:
            self._record(what, names)

    def _may_follow(self, body: Appetite, names: tuple[str, ...]) -> None:
        """Refuse an appetite that is not newer, or that nobody signed who may."""
        held = self.engine.appetite
        wrong = None
        if body.version <= held.version:
            wrong = f"version {body.version}, which is not newer", f"a version above {held.version}"
        elif held.owners and not set(names) & set(held.owners):
            wrong = f"signed by {', '.join(names)}", f"one of {', '.join(held.owners)}"
        if wrong:
            raise PolicyError(
                "this appetite may not follow the one in force",
                code="appetite-rollback",
                got=wrong[0],
                expected=wrong[1],
                fix="put back the document that was adopted last, or sign a newer one",
            )

    def _adopt(self, appetite: Appetite) -> None:
        self.engine.adopt(appetite)
        self.journal.append([{"kind": "appetite", "body": msgspec.to_builtins(appetite)}])

    def status(self) -> dict[str, Any]:
        """Return limits, use and overrides in force."""
        now = self.now()
        return {
            "appetite": self.engine.appetite.name,
            "version": self.engine.appetite.version,
            "signed_by": list(self.signed_by),
            "stopped": self.stopped(),
            "scheduling": self.scheduling,
            "exposure": self.engine.exposure() / 1e6,
            "marked_s_ago": None
            if self.engine.marked is None
            else (now - self.engine.marked) / 1e9,
            "windows": [
                {"orders": w.orders, "notional": w.notional / 1e6} for w in self.engine.windows
            ],
            "overrides": [k for k, (*_, until) in self.engine.overrides.items() if now < until],
        }

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()


def _read(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise PolicyError(
            "there is no signed appetite",
            code="appetite-format",
            got=f"{path}: {error}",
            expected="a document that `interlock governor sign` wrote",
            fix="sign one and put it there",
        ) from error


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise StorageError(
            "the governor cannot listen",
            code="governor-socket",
            got=f"{path}: {error}",
            expected="a socket there; the system takes paths of up to 107 bytes",
            fix="choose a home with a shorter path, on a file system that has sockets",
        ) from error
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def serve(governor: Governor, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or a failure to persist. Dying is safe: clients then get no answer."""
    where = folder(governor.home)
    selector = selectors.DefaultSelector()
    for name in ("orders", "admin"):
        selector.register(_listen(where / f"{name}.sock"), selectors.EVENT_READ, ("accept", name))
    # Connections without end would leave no descriptor for the risk side.
    callers = min(MAX_CALLERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    governor.scheduling = _ahead_of_others()
    gc.collect()
    gc.freeze()
    gc.disable()
    if ready:
        ready()
    while not stopping:
        waiting: list[tuple[socket.socket, Any]] = []
        for key, _ in selector.select(timeout=0.2):
            what, name = key.data
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if what == "accept":
                with contextlib.suppress(OSError):
                    fresh, _ = connection.accept()
                    fresh.setblocking(False)
                    held = sum(k.data == ("serve", name) for k in selector.get_map().values())
                    if held < callers:
                        selector.register(fresh, selectors.EVENT_READ, ("serve", name))
                    else:
                        fresh.close()
                continue
            message = _receive(selector, connection)
            if message is _GONE:
                continue
            if name == "orders":
                waiting.append((connection, message))
            else:
                _send(selector, connection, governor.admin(message))
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            for (connection, _), answer in zip(
                batch, governor.orders([m for _, m in batch]), strict=True
            ):
                _send(selector, connection, answer)

        if not waiting:
            governor.journal.write_ahead()


def _ahead_of_others() -> str:
    """Let an answer not wait for a training run; return what the system granted.

    Real time is safe here: the process waits in `select` between requests, and the kernel keeps a
    part of every second for others.
    """
    with contextlib.suppress(OSError, AttributeError):
        how = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, how, os.sched_param(1))
        return "real time"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        return "raised"
    return "ordinary"


_GONE = object()


def _receive(selector: selectors.BaseSelector, connection: socket.socket) -> Any:
    try:
        data = connection.recv(MAX_MESSAGE + 1)
    except BlockingIOError:
        return _GONE
    except OSError:
        data = b""
    if not data:
        _drop(selector, connection)
        return _GONE
    try:
        return msgspec.json.decode(data) if len(data) <= MAX_MESSAGE else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _send(selector: selectors.BaseSelector, connection: socket.socket, answer: Any) -> None:
    try:
        connection.send(msgspec.json.encode(answer))
    except OSError:
        _drop(selector, connection)


def _drop(selector: selectors.BaseSelector, connection: socket.socket) -> None:
    with contextlib.suppress(KeyError):
        selector.unregister(connection)
    connection.close()
