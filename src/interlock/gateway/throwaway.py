"""Throwaway environments: a home with a tenant, keys and simulated devices, and its end."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from interlock.access import keys
from interlock.access.store import AccessStore, open_database
from interlock.crypto import files
from interlock.errors import UsageError
from interlock.gateway.store import GatewayStore, Tenant
from interlock.ledger import Ledger
from interlock.types import Principal

__all__ = ["Environment", "down", "up"]

MARK = "environment.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What was made.

    Attributes:
        home: its folder; everything of it is in there.
        tenant: a name nothing else has.
        key_file: holds an API key of the tenant's one principal, mode 0600.
        expires: seconds since 1970, from when the key is refused.
    """

    home: Path
    tenant: str
    key_file: Path
    expires: float


class _Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interlock_environment: int
    home: str


def up(parent: Path | None = None, *, lifetime_s: float = 8 * 3600.0) -> Environment:
    """Make an environment in a fresh folder; all of it or nothing.

    Args:
        parent: where to make the folder; the system's folder for temporary files by default.
        lifetime_s: after this its key is refused, whether it was taken down or not.
    """
    try:
        if parent is not None:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="interlock-env-", dir=parent)).resolve()
    except OSError as error:
        raise files.storage_error(parent or Path(tempfile.gettempdir()), error) from error
    try:
        # First: what is there is an environment, and can be taken down, from now on.
        files.write_private(home / MARK, msgspec.json.encode(_Mark(1, str(home))))
        tenant = f"env-{secrets.token_hex(6)}"
        devices = {
            "aer_simulator": {"provider": "aer", "tenant": tenant},
            "fake_manila": {"provider": "twin", "device": "manila", "tenant": tenant},
        }
        # JSON is YAML, too.
        files.write_private(
            home / "backends.yaml", json.dumps({"backends": devices}, indent=1).encode()
        )
        with Ledger.open(home) as ledger:
            engine = open_database(f"sqlite:///{home / 'gateway.db'}")
            GatewayStore(engine, ledger).set_tenant(Tenant(name=tenant))
            engine.dispose()
            ledger.append("environment", {"tenant": tenant}, {"devices": sorted(devices)}).wait()
        owner = Principal(id="owner", tenant=tenant)
        expires = time.time() + lifetime_s
        # Its own, whatever the environment says: a shared database would keep the key.
        access = AccessStore(open_database(f"sqlite:///{home / 'access.db'}"))
        _, key = keys.issue(access, owner, lifetime_s=lifetime_s)
        access.close()
        files.write_private(home / "key", key.encode())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return Environment(home=home, tenant=tenant, key_file=home / "key", expires=expires)


def down(home: Path) -> None:
    """Destroy an environment: its keys first, so that a half of it is of no use to anybody.

    Raises:
        UsageError: `up` did not make it, or a gateway runs on it; nothing is removed.
    """
    home = home.absolute()
    mark = home / MARK
    try:
        found = msgspec.json.decode(mark.read_bytes(), type=_Mark)
        # Resolved: a copy, or a link to one, is not what was made.
        known = found == _Mark(1, str(home.resolve())) and not home.is_symlink()
    except (OSError, msgspec.MsgspecError):
        known = False
    if not known:
        raise UsageError(
            "this is no throwaway environment",
            code="env-unknown",
            got=str(home),
            expected="a folder that `interlock env up` made, where it made it",
            fix="remove anything else by hand, on purpose",
        )
    held = []
    try:
        for lock in sorted(home.glob("gateway-*.lock")):
            held.append(os.open(lock, os.O_RDWR))
            try:
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    "a gateway runs on this environment",
                    code="env-runs",
                    got=lock.name,
                    expected="no process that uses it",
                    fix="stop it, then take the environment down",
                ) from error
        try:
            if (home / "keys").exists():
                shutil.rmtree(home / "keys")
            for path in sorted(home.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != mark:
                    path.unlink()
            mark.unlink()  # last: until then it can be taken down again
            home.rmdir()
        except OSError as error:
            raise files.storage_error(home, error) from error
    finally:
        for fd in held:
            os.close(fd)
