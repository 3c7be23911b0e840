"""What is installed, what works, and how to mend what does not."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from interlock.crypto.files import no_room
from interlock.errors import InterlockError
from interlock.forks import entered
from interlock.guard.policy import load_policy
from interlock.guard.state import State

__all__ = ["Check", "examine"]

#: Seconds to wait for a database another program writes to.
LOCK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        state: `ok`; `absent`, for an optional part that is not installed; `bad`, must be mended.
        found: what was found.
        fix: how to mend it, or None.
    """

    name: str
    state: Literal["ok", "absent", "bad"]
    found: str
    fix: str | None = None


def examine(home: Path, policy: str | None = None) -> Iterator[Check]:
    """Look at everything and yield one check at a time."""
    yield Check(name="interlock", state="ok", found=metadata.version("interlock"))
    yield Check(
        name="python",
        state="ok" if sys.version_info >= (3, 11) else "bad",
        found=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    yield from _extras()
    yield _isolation()
    yield _policy(policy)
    yield from _home(home)


def _extras() -> Iterator[Check]:
    for extra, names in sorted(requirements().items()):
        missing = [n for n in names if not _installed(n)]
        if missing:
            yield Check(
                name=f"extra {extra}",
                state="absent",
                found="not installed: " + ", ".join(missing),
                fix=f"pip install 'interlock[{extra}]'",
            )
        else:
            found = ", ".join(f"{n} {metadata.version(n)}" for n in names)
            yield Check(name=f"extra {extra}", state="ok", found=found)


def requirements() -> dict[str, list[str]]:
    """Return extra -> the distributions it asks for, without those of other extras."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("interlock") or ():
        match = re.match(r"([A-Za-z0-9._-]+).*;.*extra == ['\"]([\w-]+)['\"]", line)
        if match and match[1] != "interlock" and match[2] != "dev":
            names = found.setdefault(match[2], [])
            if match[1] not in names:
                names.append(match[1])
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _isolation() -> Check:
    from interlock.confine import Level, probe

    try:
        reached = probe()
    except (InterlockError, OSError) as error:
        return Check(name="isolation", state="bad", found=str(error), fix="see the message")
    missing = "; ".join(reached.missing)
    return Check(
        name="isolation",
        state="ok" if reached.level is Level.CONFINED else "bad",
        found=f"{reached.level.name.lower()}{f', without {missing}' if missing else ''}",
        fix=None
        if reached.level is Level.CONFINED
        else "a kernel with Landlock and seccomp, and the library libseccomp2",
    )


def _policy(policy: str | None) -> Check:
    try:
        loaded = load_policy(policy)
    except InterlockError as error:
        return Check(name="policy", state="bad", found=error.message, fix=error.fix)
    controls = sum(len(c) for c in loaded.bound.values())
    return Check(
        name="policy",
        state="ok",
        found=f"{loaded.name}, {controls} controls, sha256 {loaded.sha256[:16]}",
    )


def _home(home: Path) -> Iterator[Check]:
    if not home.exists():
        yield Check(
            name="home",
            state="absent",
            found=f"{home} does not exist yet",
            fix="the first guarded job makes it",
        )
        return
    mode = home.stat().st_mode & 0o777
    private = mode & 0o077 == 0
    yield Check(
        name="home",
        state="ok" if private else "bad",
        found=f"{home}, mode {mode:o}",
        fix=None if private else f"chmod 700 {home}: others can read it",
    )
    yield _stop(home)
    yield _keys(home)
    yield _ledger(home)


def _stop(home: Path) -> Check:
    try:
        reason = State(home).stopped()
    except InterlockError as error:
        return Check(name="state", state="bad", found=f"{error.message}: {error.got}",
                     fix=error.fix)  # fmt: skip
    if reason is None:
        return Check(name="stop", state="ok", found="not stopped")
    return Check(name="stop", state="bad", found=f"stopped: {reason}", fix="interlock resume")


def _keys(home: Path) -> Check:
    from interlock.crypto.keys import KeyStore
    from interlock.ledger.identity import Identity

    if not (home / "ledger.vkeys").exists():
        return Check(name="keys", state="absent", found="none was made yet",
                     fix="the first guarded job makes them")  # fmt: skip
    try:
        store = KeyStore.reading(home / "keys")
        if store is None:
            return Check(name="keys", state="bad", found=f"nothing opens those in {home / 'keys'}",
                         fix="restore the folder from a copy")  # fmt: skip
        origin = Identity(home, store).origin
        count = len(store.inventory())
    except InterlockError as error:
        return Check(name="keys", state="bad", found=f"{error.message}: {error.got}",
                     fix=error.fix)  # fmt: skip
    return Check(name="keys", state="ok", found=f"{count}, of {origin}")


def _ledger(home: Path) -> Check:
    from interlock.ledger import audit

    if not (home / "ledger.db").exists() and not any((home / "checkpoints").glob("*.note")):
        return Check(name="ledger", state="absent", found="no job was recorded yet",
                     fix="the first guarded job makes it")  # fmt: skip
    try:
        report = audit(home)
    except InterlockError as error:
        return Check(name="ledger", state="bad", found=f"{error.message}: {error.got}",
                     fix=error.fix)  # fmt: skip
    if not report.ok:
        first = report.faults[0]
        return Check(name="ledger", state="bad", found=f"{first.kind}: {first.where}",
                     fix="interlock verify shows every fault")  # fmt: skip
    if held := _held(home / "ledger.db"):
        return Check(name="ledger", state="bad", found=f"nothing can be written: {held}",
                     fix="free some space on the disk; jobs are denied until then"
                     if no_room(home / "ledger.db")
                     else "end the program that holds it; jobs are denied until then")  # fmt: skip
    return Check(
        name="ledger",
        state="ok",
        found=f"{report.size} entries, {report.signed_size} under a signed head, nothing changed",
    )


def _held(path: Path) -> str | None:
    """Return why nothing can be written to a database now, if so; writes nothing."""
    if not os.access(path, os.W_OK):
        return None  # a copy to look at
    with entered():
        try:
            db = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw", uri=True, timeout=LOCK_S, isolation_level=None
            )
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
            finally:
                db.close()
        except sqlite3.Error as error:
            return str(error)
    return None
