"""Backup and restore of a gateway whose ledger and queue are in PostgreSQL."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from interlock.cli import main
from interlock.crypto import files
from interlock.errors import IntegrityError, InterlockError
from interlock.ledger import Ledger, audit
from interlock.ledger.backup import backup
from tests.integration.gateway.kit import bell, kit


def url_of(address: str) -> str:
    info = conninfo_to_dict(address)
    return f"postgresql+psycopg:///{info.pop('dbname')}?{urlencode(info)}"


@pytest.fixture
def other(database: str) -> Iterator[str]:
    """Another empty database of the same server."""
    info = conninfo_to_dict(database)
    name = f"{info['dbname']}_b"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    yield make_conninfo(database, dbname=name)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path, database: str) -> Path:
    made = files.private_dir(tmp_path / "home")
    files.write_private(made / "ledger.url", database.encode())
    return made


def test_it_comes_back_in_files_and_in_another_database(
    home: Path, database: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = url_of(database)
    with kit(home, database=url) as made:
        job, outcome = made.run("ada", bell())
        made.run("sol", bell(), idempotency_key="once")
        key = made.key("ada")
        made.gateway.guard.ledger.erase("south/sol")
    file = tmp_path / "backup"
    assert main(["backup", str(home), str(file), "--database", url]) == 0
    digest = capsys.readouterr().out.split("sha256 ")[1].split()[0]
    assert key.encode() not in file.read_bytes()
    entries = audit(home).size
    vkeys = ["--keys", str(home / "ledger.vkeys"), "--sha256", digest]

    plain = tmp_path / "plain"
    assert main(["restore", str(file), str(plain), *vkeys]) == 0
    assert not (plain / "ledger.url").exists()
    assert audit(plain).size == entries
    moved = tmp_path / "moved"
    where = ["--ledger-database", other, "--database", url_of(other)]
    assert main(["restore", str(file), str(moved), *vkeys, *where]) == 0
    kept = {"access.db", "gateway.db", "ledger.db", "steps.db"}
    assert not kept & {p.name for p in (*home.iterdir(), *moved.iterdir())}
    assert not (moved / "keys" / "subjects").exists() or not any(
        (moved / "keys" / "subjects").iterdir()
    )
    assert audit(moved).size == entries
    for place, options in ((plain, {}), (moved, {"database": url_of(other)})):
        with kit(place, **options) as again:
            again.tokens["ada"] = key  # issued before the backup
            seen = again.call("ada", "GET", f"/v1/jobs/{job}/result").json()
            assert seen == outcome
            assert again.call("ada", "GET", f"/v1/receipts/{outcome['receipt']['id']}").is_success
            reply = again.call("sol", "POST", "/v1/jobs", bell(), idempotency_key="once")
            assert reply.status_code == 200  # known: not a second job
            gone = again.call("sol", "GET", f"/v1/jobs/{reply.json()['id']}/result").json()
            assert gone["outcome"] == "ERASED"
            assert again.run("ada", bell())[1]["outcome"] == "RELEASE"
        assert audit(place).ok
    assert audit(home).size == entries  # the first was not touched

    # What is there is not written over.
    third = tmp_path / "third"
    for options in (["--ledger-database", other], ["--database", url_of(other)]):
        assert main(["restore", str(file), str(third), *options]) != 0
        assert "restore-database" in capsys.readouterr().err
        assert not third.exists()


def test_it_is_one_moment_while_others_write(home: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with Ledger.open(home) as ledger:
        ledger.append("release", {"job": "first"}, {"n": 1}, subject="ada").wait()

        def write() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                ledger.append("release", {"job": f"j{n}"}, {"n": n}, subject=f"s{n}").wait()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for n in range(3):
                assert backup(home, tmp_path / f"b{n}")[1].ok
        finally:
            stop.set()
            thread.join()


def test_a_ledger_that_was_changed_gives_no_backup(
    home: Path, database: str, tmp_path: Path
) -> None:
    with Ledger.open(home) as ledger:
        for n in range(3):
            ledger.append("release", {"job": f"j{n}"}, {"n": n}).wait()
    with psycopg.connect(database) as admin:
        admin.execute("UPDATE interlock.entries SET event = 'deny' WHERE idx = 1")
    with pytest.raises(IntegrityError) as caught:
        backup(home, tmp_path / "b")
    assert caught.value.code == "backup-ledger"
    assert not (tmp_path / "b").exists()


def test_a_server_that_is_away_gives_no_backup(home: Path, tmp_path: Path) -> None:
    with Ledger.open(home) as ledger:
        ledger.append("release", {"job": "j"}, {"n": 1}).wait()
    files.write_private(home / "ledger.url", b"postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(InterlockError) as caught:
        backup(home, tmp_path / "b")
    assert caught.value.code == "storage-io"
    assert {p.name for p in tmp_path.iterdir()} == {"home"}


def test_a_revocation_in_the_database_stops_a_job_that_waits(home: Path, database: str) -> None:
    with kit(home, database=url_of(database), workers=0) as made:
        view = made.call("ada", "POST", "/v1/jobs", bell()).json()
        revoked = {"kind": "principal", "value": "ada", "reason": "left"}
        assert made.call("adm", "POST", "/v1/revocations", revoked).is_success
    with kit(home, database=url_of(database)) as made:
        for _ in range(100):
            row = made.gateway.store.job(view["id"], "north")
            assert row is not None
            if row.state == "failed":
                break
            time.sleep(0.1)
        assert row.outcome is not None
        assert row.outcome["outcome"] == "DENY"
        assert "revoked" in str(row.outcome["error"])
