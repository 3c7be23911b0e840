"""Databases of older and newer versions, on SQLite and on PostgreSQL."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, inspect, text

from interlock.access.schema import Schema, migrate, prepare, version
from interlock.access.store import SCHEMA as ACCESS
from interlock.access.store import AccessStore, open_database
from interlock.cli import main
from interlock.errors import InterlockError, StorageError
from interlock.gateway.migration import migrate_home
from interlock.gateway.rows import SCHEMA
from interlock.gateway.serve import Options, running
from interlock.guard.state import State
from tests.integration.gateway.kit import bell, kit

#: The queue as version 1 made it, with a job of that time.
OLD = Path(__file__).with_name("gateway-1.sql").read_text("utf-8").split(";\n")[:-1]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 'gateway.db'}"
    else:
        info = conninfo_to_dict(request.getfixturevalue("database"))
        name = info.pop("dbname")
        yield f"postgresql+psycopg:///{name}?{urlencode(info)}"


@pytest.fixture
def old(url: str, tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "home").mkdir(mode=0o700)
    engine = open_database(url)
    with engine.begin() as db:
        for statement in OLD:
            db.execute(text(statement))
    yield engine
    engine.dispose()


def at(engine: Engine) -> int:
    with engine.begin() as db:
        return version(db, SCHEMA)


def columns(engine: Engine) -> set[str]:
    return {c["name"] for c in inspect(engine).get_columns("gateway_job")}


def test_an_older_database_is_refused_then_migrated_then_used(
    old: Engine, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    options = {} if url.startswith("sqlite") else {"database": url}
    with pytest.raises(StorageError, match="older version") as caught, kit(home, **options):
        pass
    assert caught.value.code == "schema-older"
    assert "interlock migrate" in str(caught.value.fix)
    assert columns(old).isdisjoint({"trace", "run"})
    arguments = ["migrate", str(home), *(["--database", url] if options else [])]
    assert main(arguments) == 0
    assert "gateway: version 1 -> 3" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "gateway: version 3\n" in capsys.readouterr().out
    with kit(home, **options) as made:
        assert made.call("ada", "GET", "/v1/jobs/j1").json()["state"] == "cancelled"
        assert made.run("ada", bell())[1]["outcome"] == "RELEASE"


def test_a_newer_database_is_refused_by_everything(old: Engine, url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = {} if url.startswith("sqlite") else {"database": url}
    migrate(old, SCHEMA)
    with old.begin() as db:
        db.execute(text("UPDATE interlock_schema SET version = 4 WHERE part = 'gateway'"))
    for opening in (lambda: kit(home, **options).__enter__(), lambda: prepare(old, SCHEMA),
                    lambda: migrate_home(home, options.get("database"))):  # fmt: skip
        with pytest.raises(StorageError) as caught:
            opening()
        assert caught.value.code == "schema-newer"
    assert at(old) == 4


KILLED = """
import os, signal, sys
from sqlalchemy import event
from interlock.access.schema import migrate
from interlock.access.store import open_database
from interlock.gateway.rows import SCHEMA
engine = open_database(sys.argv[1])
left = int(sys.argv[2])
@event.listens_for(engine, "after_cursor_execute")
def after(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
migrate(engine, SCHEMA)
print("ended")
"""


def test_a_migration_killed_at_any_statement_has_not_begun(old: Engine, url: str) -> None:
    old.dispose()
    for left in range(1, 40):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, url, str(left)], capture_output=True, check=False
        )
        if done.stdout:
            break
        assert done.returncode == -9, done.stderr
        assert at(old) == 1
        assert columns(old).isdisjoint({"trace", "run"})
        assert not inspect(old).has_table("interlock_schema")
        old.dispose()
    assert left > 5
    assert at(old) == 3
    assert {"trace", "run"} <= columns(old)


def test_a_statement_that_fails_takes_back_those_before_it(old: Engine) -> None:
    more = ("CREATE TABLE more (a INTEGER)", "NO SQL")
    broken = Schema(part=SCHEMA.part, first=SCHEMA.first, versions=(*SCHEMA.versions, more))
    with pytest.raises(StorageError):
        migrate(old, broken)
    assert at(old) == 1
    assert not inspect(old).has_table("more")


def test_a_new_database_is_of_the_newest_version(url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    engine = open_database(url)
    prepare(engine, SCHEMA)
    AccessStore(engine)
    prepare(engine, SCHEMA)
    assert at(engine) == SCHEMA.newest
    with engine.begin() as db:
        assert version(db, ACCESS) == ACCESS.newest
    engine.dispose()


def test_nothing_is_migrated_under_a_running_gateway(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(Options(home=home, workers=0)), pytest.raises(InterlockError) as caught:
        migrate_home(home, None)
    assert caught.value.code == "gateway-runs"
    with pytest.raises(InterlockError) as caught:
        migrate_home(tmp_path / "none", None)
    assert caught.value.code == "migrate-home"


def test_counters_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    State(tmp_path)
    State(tmp_path)
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError) as caught:
        State(tmp_path)
    assert caught.value.code == "state-newer"
