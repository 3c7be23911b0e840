"""Throwaway environments: they work, they end, and nothing of them stays."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from interlock.access import keys
from interlock.access.store import store_of
from interlock.errors import UsageError
from interlock.gateway import throwaway
from interlock.gateway.serve import Options, running
from interlock.ledger import audit
from tests.integration.gateway.kit import Kit, bell


def cli(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "interlock.cli", "env", *words],
                          capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
    return done.stdout


def processes() -> set[Path]:
    return {p for p in Path("/proc").iterdir() if p.name.isdigit()}


def test_a_job_runs_in_one_and_its_key_is_worth_nothing_elsewhere(tmp_path: Path) -> None:
    one, other = throwaway.up(tmp_path), throwaway.up(tmp_path)
    assert one.tenant != other.tenant
    with running(Options(home=one.home, workers=1, local=False)) as (gateway, _):
        kit = Kit(gateway)
        kit.tokens = {"owner": one.key_file.read_text(), "stranger": other.key_file.read_text()}
        with kit.client:
            assert kit.run("owner", bell())[1]["outcome"] == "RELEASE"
            names = kit.call("owner", "GET", "/v1/backends").json()["backends"]
            assert names == ["aer_simulator", "fake_manila"]
            assert kit.call("stranger", "GET", "/v1/jobs").status_code == 401
            with pytest.raises(UsageError) as caught:
                throwaway.down(one.home)
    assert caught.value.code == "env-runs"
    assert audit(one.home).ok
    throwaway.down(one.home)
    throwaway.down(other.home)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_database_named_outside_gets_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", f"sqlite:///{tmp_path / 'shared.db'}")
    throwaway.down(throwaway.up(tmp_path).home)
    assert list(tmp_path.iterdir()) == []


def test_a_key_ends_with_its_time(tmp_path: Path) -> None:
    made = throwaway.up(tmp_path, lifetime_s=60)
    store, key = store_of(made.home), made.key_file.read_text()
    assert keys.lookup(store, key) is not None
    store.clock = lambda: time.time() + 61
    assert keys.lookup(store, key) is None
    throwaway.down(made.home)


def test_only_what_up_made_is_destroyed(tmp_path: Path) -> None:
    made = throwaway.up(tmp_path)
    copy, link, plain = tmp_path / "copy", tmp_path / "link", tmp_path / "plain"
    shutil.copytree(made.home, copy)
    link.symlink_to(made.home)
    plain.mkdir()
    (plain / throwaway.MARK).write_text("{}")
    for home in (copy, link, plain, tmp_path / "missing"):
        with pytest.raises(UsageError) as caught:
            throwaway.down(home)
        assert caught.value.code == "env-unknown"
    assert (copy / "keys").exists()
    assert (made.home / "keys").exists()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (made.home / "to").symlink_to(outside)
    throwaway.down(made.home)
    assert (outside / "file").exists()


def test_what_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(throwaway.keys, "issue", broken)
    with pytest.raises(KeyboardInterrupt):
        throwaway.up(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_twenty_at_once_leave_nothing(tmp_path: Path) -> None:
    before = processes()

    def life(_: int) -> str:
        made = json.loads(cli("up", "--in", str(tmp_path)))
        assert Path(made["key_file"]).stat().st_mode & 0o077 == 0
        cli("down", made["home"])
        return str(made["tenant"])

    with ThreadPoolExecutor(20) as pool:
        tenants = list(pool.map(life, range(20)))
    assert len(set(tenants)) == 20
    assert list(tmp_path.iterdir()) == []
    for pid in processes() - before:
        try:
            words = (pid / "cmdline").read_bytes()
        except OSError:
            continue
        assert str(tmp_path).encode() not in words
