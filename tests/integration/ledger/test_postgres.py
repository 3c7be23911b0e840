"""The shared store on a real server: several writers, killed sequencers, lost connections."""

import contextlib
import os
import random
import shutil
import signal
import struct
import time
from pathlib import Path

import psycopg
import pytest

from interlock.cli import main
from interlock.crypto import files
from interlock.errors import IntegrityError, InterlockError, SetupError, StorageError
from interlock.ledger import Ledger, audit
from tests.integration.ledger.test_crash import acknowledged, child, drain

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def machines(tmp_path: Path, database: str) -> list[Path]:
    """Homes of three machines with the same keys."""
    homes = [tmp_path / f"machine{n}" for n in range(3)]
    Ledger.open(homes[0], database=database).close()
    for home in homes[1:]:
        home.mkdir(mode=0o700)
        shutil.copytree(homes[0] / "keys", home / "keys")
    return homes


def test_entries_proofs_heads_and_erasure(machines: list[Path], database: str) -> None:
    one, two = (Ledger.open(home, database=database) for home in machines[:2])
    first = one.append("a", {"n": 1}, {"x": [1, 2.5]}, subject="alice").wait()
    second = two.append("a", {"n": 2}, {"y": "é"}, subject="alice").wait()
    assert (first.index, second.index) == (0, 1)
    assert two.find(first.id).payload == {"x": [1, 2.5]}
    assert first.key == second.key
    one.prove(1).verify(second.leaf_hash, one.public_keys)
    two.rotate()
    assert one.append("a", {}, {}).wait().index == 3
    with pytest.raises(SetupError) as caught:
        one.checkpoint()
    assert caught.value.code == "ledger-keys"
    for path in (machines[1] / "keys").glob("log-*.1.key"):
        shutil.copy(path, machines[0] / "keys" / path.name)
    assert one.check_note(one.checkpoint()).size == 4
    time.sleep(1.1)
    one.erase("alice")
    time.sleep(1.1)
    assert two.find(first.id).payload is None
    again = two.append("a", {}, {"z": 1}, subject="alice").wait()
    assert one.find(again.id).payload == {"z": 1}
    assert again.key != first.key
    report = two.verify()
    assert report.ok, report.faults
    assert [e.index for e in one.entries("a")] == [0, 1, 3, 5]
    one.close()
    two.close()


def test_machines_with_other_keys_are_refused(tmp_path: Path, database: str) -> None:
    Ledger.open(tmp_path / "a", database=database).close()
    with pytest.raises(IntegrityError) as caught:
        Ledger.open(tmp_path / "b", database=database)
    assert caught.value.code == "ledger-swapped"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("UPDATE interlock.entries SET payload = 'x' WHERE idx = 2", "edited"),
        ("DELETE FROM interlock.entries WHERE idx = 2", "deleted"),
        ("DELETE FROM interlock.entries WHERE idx = 4", "newest-deleted"),
        ("UPDATE interlock.meta SET value = 'x' WHERE name = 'origin'", "swapped"),
    ],
)
def test_changes_in_the_database_are_named(
    machines: list[Path], database: str, script: str, kind: str
) -> None:
    ledger = Ledger.open(machines[0], database=database)
    for n in range(5):
        ledger.append("a", {"n": n}, {}).wait()
    ledger.checkpoint()
    with psycopg.connect(database) as other:
        other.execute(script)  # type: ignore[arg-type]
    assert kind in {fault.kind for fault in ledger.verify().faults}
    if kind == "newest-deleted":
        with pytest.raises(IntegrityError):
            ledger.append("a", {}, {}).wait()


@pytest.mark.slow
def test_killed_writers_on_three_machines_lose_nothing(machines: list[Path], database: str) -> None:
    rng = random.Random(5)
    promised: dict[int, tuple[str, int]] = {}

    def writer(home: Path, name: str) -> None:
        def work(pipe: int) -> None:
            ledger = Ledger.open(home, database=database)
            number = 0
            while True:
                entry = ledger.append("a", {"w": name, "n": number}, {}).wait(20)
                os.write(pipe, struct.pack(">QQ", entry.index, number))
                number += 1
                if number % 20 == 0:
                    ledger.checkpoint()

        running.append((name, *child(work)))

    for turn in range(12):
        running: list[tuple[str, int, int]] = []
        for n, home in enumerate(machines):
            writer(home, f"{turn}-{n}")
        time.sleep(rng.uniform(0.15, 0.35))
        for _, pid, _ in running:
            os.kill(pid, signal.SIGKILL)
        for name, pid, read in running:
            os.waitpid(pid, 0)
            promised |= {i: (name, n) for i, n in acknowledged(drain(read))}
    with Ledger.open(machines[1], database=database) as ledger:
        found = {e.index: (e.header["w"], e.header["n"]) for e in ledger.entries()}
        assert sorted(found) == list(range(len(ledger)))
        assert {i: found.get(i) for i in promised} == promised
        report = ledger.verify()
        assert report.ok, report.faults
    assert len(promised) > 100


def test_a_sequencer_that_dies_holding_the_lock_is_taken_over(
    machines: list[Path], database: str
) -> None:
    def hold(pipe: int) -> None:
        ledger = Ledger.open(machines[0], database=database)
        ledger._store.begin(time.monotonic() + 5)
        os.write(pipe, b"held")
        time.sleep(60)

    with Ledger.open(machines[1], database=database) as ledger:
        pid, read = child(hold)
        assert os.read(read, 10) == b"held"
        with pytest.raises(StorageError) as caught:
            ledger.append("a", {}, {}).wait(0.3)
        assert caught.value.code == "ledger-locked"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        assert ledger.append("a", {}, {}).wait(10).index == 0


def test_a_lost_connection_is_an_error_and_then_mended(machines: list[Path], database: str) -> None:
    with Ledger.open(machines[0], database=database) as ledger:
        ledger.append("a", {}, {}).wait()
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(StorageError):
            ledger.append("a", {}, {}).wait()
        assert ledger.append("a", {}, {}).wait().index == 1
        assert len(ledger) == 2
        assert ledger.verify().ok


def test_an_unreachable_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Ledger.open(tmp_path / "h", database="postgresql://nobody@127.0.0.1:9/none")
    assert caught.value.code == "storage-io"


def test_a_home_can_say_where_its_ledger_is(
    machines: list[Path], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = machines[0] / "ledger.url"
    url.write_text(database)
    url.chmod(0o644)
    with pytest.raises(SetupError):
        Ledger.open(machines[0])
    url.chmod(0o600)
    with Ledger.open(machines[0]) as ledger:
        receipt = ledger.append("a", {}, {}).wait().id
    home = ["--home", str(machines[0])]
    assert main(["verify", *home]) == 0
    assert main(["ledger", "prove", receipt, *home]) == 0
    with psycopg.connect(database) as other:
        other.execute("DELETE FROM interlock.entries")
    assert main(["verify", *home]) == 7
    capsys.readouterr()


FUNCTION = """CREATE FUNCTION public.drop_it() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RETURN NULL; END $$;"""
TRIGGER = (
    FUNCTION
    + """CREATE TRIGGER t BEFORE INSERT ON interlock.entries
    FOR EACH ROW EXECUTE FUNCTION public.drop_it()"""
)
PLANTED = {
    TRIGGER: "trigger t on entries",
    FUNCTION
    + """CREATE CONSTRAINT TRIGGER late AFTER INSERT ON interlock.subject_keys DEFERRABLE
    FOR EACH ROW EXECUTE FUNCTION public.drop_it()""": "trigger late on subject_keys",
    "CREATE RULE r AS ON INSERT TO interlock.checkpoints DO INSTEAD NOTHING": (
        "rule r on checkpoints"
    ),
    "ALTER TABLE interlock.entries ENABLE ROW LEVEL SECURITY": "row security on entries",
    "CREATE POLICY p ON interlock.entries USING (idx > 1)": "policy p on entries",
    "CREATE TABLE public.heir () INHERITS (interlock.entries)": "inheritance of entries",
    "ALTER TABLE interlock.entries ALTER event SET DEFAULT 'x'": "default in entries",
    "CREATE INDEX i ON interlock.entries (lower(event))": "expression in index i",
    "CREATE VIEW interlock.v AS SELECT * FROM interlock.entries": "view v",
    "CREATE TABLE interlock.more (x int)": "table more",
    "ALTER TABLE interlock.entries SET UNLOGGED": "unlogged entries",
    "ALTER TABLE interlock.entries DROP CONSTRAINT entries_pkey": "no primary key on entries",
    "ALTER TABLE interlock.entries ADD CONSTRAINT c CHECK (idx < 9)": "constraint c on entries",
    "CREATE FUNCTION interlock.f() RETURNS int LANGUAGE sql AS 'SELECT 1'": "function f",
}


@pytest.mark.parametrize("script", PLANTED)
def test_what_is_planted_is_named_and_the_ledger_not_opened(
    machines: list[Path], database: str, script: str
) -> None:
    home = machines[0]
    with Ledger.open(home, database=database) as ledger:
        ledger.append("a", {}, {}).wait()
    files.write_private(home / "ledger.url", database.encode())
    with psycopg.connect(database) as other:
        other.execute(script)  # type: ignore[arg-type]
    assert ("planted", PLANTED[script]) in {(f.kind, f.got) for f in audit(home).faults}
    assert main(["verify", "--home", str(home)]) == 7
    for opened in (Ledger.open, Ledger.read):
        with pytest.raises(IntegrityError) as caught:
            opened(home)
        assert caught.value.code == "ledger-planted"
        assert PLANTED[script] in str(caught.value.got)


def test_a_trigger_planted_while_open_acknowledges_nothing(
    machines: list[Path], database: str
) -> None:
    ledger = Ledger.open(machines[0], database=database)
    ledger.append("a", {}, {}).wait()
    with psycopg.connect(database) as other:
        other.execute(TRIGGER)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError) as caught:
        ledger.append("a", {}, {}).wait()
    assert caught.value.code == "ledger-planted"
    assert "planted" in {fault.kind for fault in ledger.verify().faults}
    with pytest.raises(IntegrityError):
        ledger.close()
    with psycopg.connect(database) as other:
        other.execute("DROP TRIGGER t ON interlock.entries")
    with Ledger.open(machines[0], database=database) as again:
        assert len(again) == 1
        assert again.append("a", {}, {}).wait().index == 1
        assert again.verify().ok


#: What is looked for at each commit does not name these: they cannot touch what is written.
IDLE = {"policy p on entries", "view v", "table more", "function f"}


@pytest.mark.parametrize("script", PLANTED)
def test_what_acts_is_found_at_the_next_commit_and_what_does_not_soon(
    machines: list[Path], database: str, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(machines[0], database=database)
    ledger.append("a", {}, {}).wait()
    with psycopg.connect(database) as other:
        other.execute(script)  # type: ignore[arg-type]
    if PLANTED[script] in IDLE:
        ledger.append("a", {}, {}).wait()
        monkeypatch.setattr("interlock.ledger.postgres._LOOK_S", 0.0)
    with pytest.raises(IntegrityError) as caught:
        ledger.append("a", {}, {}).wait()
    assert caught.value.code == "ledger-planted"
    with contextlib.suppress(InterlockError):
        ledger.close()


def test_a_flag_that_the_server_keeps_stops_nobody(machines: list[Path], database: str) -> None:
    with Ledger.open(machines[0], database=database) as ledger:
        with psycopg.connect(database) as other:
            other.execute(TRIGGER)  # type: ignore[arg-type]
            other.execute("DROP TRIGGER t ON interlock.entries")
            (kept,) = other.execute(
                "SELECT relhastriggers FROM pg_class WHERE oid = 'interlock.entries'::regclass"
            ).fetchall()
        assert kept == (True,)
        assert ledger.append("a", {}, {}).wait().index == 0


def test_upkeep_by_an_administrator_is_let_be(machines: list[Path], database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE INDEX ours ON interlock.entries (event)")
        other.execute("CREATE TABLE public.theirs (x int)")
        other.execute("REINDEX TABLE CONCURRENTLY interlock.entries")
        other.execute("VACUUM FULL interlock.entries")
        other.execute("CREATE PUBLICATION p FOR TABLE interlock.entries")
    with Ledger.open(machines[0], database=database) as ledger:
        assert ledger.append("a", {}, {}).wait().index == 0
        assert ledger.verify().ok
