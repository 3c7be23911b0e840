"""Each way of changing a ledger is found, and named."""

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import IntegrityError
from interlock.ledger import Ledger, audit
from interlock.ledger.identity import read_vkeys
from interlock.ledger.policy import WitnessPolicy
from interlock.ledger.tree import leaf_hash
from tests.unit.ledger.test_note import signer

Tamper = Callable[[Path, str], None]


def test_an_untouched_ledger_has_no_fault(filled: Path) -> None:
    report = audit(filled)
    assert report.ok
    assert (report.size, report.signed_size, report.checkpoints) == (20, 20, 6)


RENAME = "CAST(replace(CAST(header AS TEXT), 'j7', 'j8') AS BLOB)"
CHANGES = {
    "UPDATE entries SET payload = x'00' WHERE idx = 7": ("edited", "entry 7"),
    "UPDATE entries SET event = 'deny' WHERE idx = 7": ("edited", "entry 7"),
    f"UPDATE entries SET header = {RENAME} WHERE idx = 7": ("edited", "entry 7"),
    "DELETE FROM entries WHERE idx = 19": ("newest-deleted", "entries 19 to 19"),
    """DELETE FROM entries WHERE idx >= 10;
    DELETE FROM checkpoints WHERE size > 10""": ("newest-deleted", "entries 10 to 19"),
    "DELETE FROM entries; DELETE FROM checkpoints": ("newest-deleted", "entries 0 to 19"),
    "DELETE FROM entries WHERE idx = 7": ("deleted", "entry 7"),
    """DELETE FROM entries WHERE idx IN (7, 8);
    UPDATE entries SET idx = idx - 2 WHERE idx > 8""": ("deleted", "entries 7 to 8"),
    """UPDATE entries SET idx = -1 WHERE idx = 7;
    UPDATE entries SET idx = 7 WHERE idx = 8;
    UPDATE entries SET idx = 8 WHERE idx = -1""": ("reordered", "entry 8"),
    """INSERT INTO entries
    SELECT 20, event, leaf, header, payload FROM entries WHERE idx = 7""": (
        "duplicated",
        "entry 20",
    ),
    "UPDATE checkpoints SET frontier = zeroblob(64) WHERE size = 20": (
        "edited",
        "head of 20 entries",
    ),
    "UPDATE checkpoints SET root = zeroblob(32) WHERE size = 10": (
        "edited",
        "head of 10 entries",
    ),
    "UPDATE meta SET value = 'x' WHERE name = 'origin'": ("swapped", "database"),
    """UPDATE checkpoints SET
    note = replace(note, char(10) || '20' || char(10), char(10) || '21' || char(10))
    WHERE size = 20""": ("checkpoint-forged", "head of 20 entries"),
}


@pytest.mark.parametrize("script", CHANGES)
def test_a_change_in_the_database_is_named(filled: Path, tamper: Tamper, script: str) -> None:
    tamper(filled, script)
    assert CHANGES[script] in {(fault.kind, fault.where) for fault in audit(filled).faults}


def test_an_entry_rewritten_with_its_hash_is_found_by_the_signed_head(
    filled: Path, tamper: Tamper
) -> None:
    with Ledger.open(filled) as ledger:
        _, _, _, header, payload = ledger._store.row(12) or pytest.fail("no row")
    changed = header.replace(b"j12", b"j99")
    leaf = leaf_hash(changed + hashlib.sha256(payload).digest())
    tamper(
        filled,
        f"UPDATE entries SET header = x'{changed.hex()}', leaf = x'{leaf.hex()}' WHERE idx = 12",
    )
    report = audit(filled)
    assert [(f.kind, f.where) for f in report.faults] == [("rewritten", "entries 10 to 19")]


def test_an_inserted_entry_with_a_new_history_after_it_is_a_fork(filled: Path) -> None:
    copy = filled.with_name("copy")
    shutil.copytree(filled, copy)
    for home, word in ((filled, "one"), (copy, "two")):
        with Ledger.open(home) as ledger:
            ledger.append("a", {"branch": word}, {}).wait()
            ledger.append("a", {"branch": word}, {}).wait()
    shutil.copy(next((copy / "checkpoints").glob("*22.note")), filled / "checkpoints" / "99.note")
    assert [fault.kind for fault in audit(filled).faults] == ["forked"]


def test_a_clock_set_back_is_found_even_when_signed(home: Path, tamper: Tamper) -> None:
    now = [1_800_000_000_000_000_000]
    with Ledger.open(home, clock=lambda: now[0]) as ledger:
        ledger.append("a", {}, {}).wait()
        ledger._sequencer._last_ns = 0
        ledger._sequencer._checked_time = lambda _last, _size: now[0] - 10**12  # type: ignore[method-assign]
        ledger.append("a", {}, {}).wait()
    assert [(f.kind, f.where) for f in audit(home).faults] == [("clock-back", "entry 1")]


@pytest.mark.parametrize("keep", [0, 100, 4096, 9000])
def test_a_cut_file_is_found(filled: Path, keep: int) -> None:
    path = filled / "ledger.db"
    path.write_bytes(path.read_bytes()[:keep])
    assert not audit(filled).ok
    with pytest.raises(IntegrityError):
        Ledger.open(filled)


def test_another_ledgers_database_is_found(filled: Path, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "other") as other:
        for _ in range(20):
            other.append("a", {}, {}).wait()
    shutil.copy(tmp_path / "other" / "ledger.db", filled / "ledger.db")
    assert "swapped" in {fault.kind for fault in audit(filled).faults}
    with pytest.raises(IntegrityError) as caught:
        Ledger.open(filled)
    assert caught.value.code == "ledger-swapped"


def test_an_old_copy_of_the_database_is_found_and_not_written_to(home: Path) -> None:
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()
    old = (home / "ledger.db").read_bytes()
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()
    (home / "ledger.db").write_bytes(old)
    assert [f.kind for f in audit(home).faults] == ["newest-deleted"]
    with pytest.raises(IntegrityError) as caught:
        Ledger.open(home)
    assert caught.value.code == "ledger-truncated"
    (home / "ledger.db").unlink()
    with pytest.raises(IntegrityError):
        Ledger.open(home)
    assert not (home / "ledger.db").exists()


def test_a_ledger_cut_while_open_takes_nothing_more(home: Path, tamper: Tamper) -> None:
    ledger = Ledger.open(home)
    for _ in range(3):
        ledger.append("a", {}, {}).wait()
    tamper(home, "DELETE FROM entries WHERE idx = 2")
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            ledger.append("a", {}, {}).wait()
        assert caught.value.code == "ledger-truncated"
    with pytest.raises(IntegrityError):
        ledger.checkpoint()
    with pytest.raises(IntegrityError):
        ledger.close()


def test_a_home_replaced_whole_is_found_only_with_keys_from_elsewhere(
    filled: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.vkeys"
    shutil.copy(filled / "ledger.vkeys", kept)
    shutil.rmtree(filled)
    with Ledger.open(filled) as ledger:
        ledger.append("a", {}, {}).wait()
    assert main(["verify", "--home", str(filled)]) == 0
    assert main(["verify", "--home", str(filled), "--keys", str(kept)]) == 7


def test_the_command_prints_faults_and_exits_7(
    filled: Path, tamper: Tamper, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--home", str(filled)]) == 0
    assert "OK: no change found" in capsys.readouterr().out
    tamper(filled, "DELETE FROM entries WHERE idx = 19")
    assert main(["verify", "--home", str(filled), "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["faults"][0]["kind"] == "newest-deleted"
    assert main(["verify", "--home", str(filled / "nothing")]) == 4


def test_a_flipped_bit_is_found_or_was_in_unused_space(filled: Path) -> None:
    """Every bit that belongs to an entry, its index or a head is covered."""
    path = filled / "ledger.db"

    def content() -> list[object]:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA query_only=ON")
        queries = (
            "SELECT * FROM entries NOT INDEXED ORDER BY idx",
            "SELECT idx FROM entries INDEXED BY entries_event WHERE event = 'admit' ORDER BY idx",
            "SELECT * FROM checkpoints",
        )
        try:
            return [connection.execute(query).fetchall() for query in queries]
        finally:
            connection.close()

    before, raw, rng = content(), path.read_bytes(), random.Random(3)
    found = 0
    for _ in range(120):
        changed = bytearray(raw)
        changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        for suffix in ("-wal", "-shm"):
            (filled / f"ledger.db{suffix}").unlink(missing_ok=True)
        if audit(filled).ok:
            assert content() == before
        else:
            found += 1
    assert found > 20


def strip_heads(home: Path, tamper: Tamper) -> None:
    tamper(home, "DELETE FROM checkpoints")
    shutil.rmtree(home / "checkpoints")


def rewrite(home: Path, tamper: Tamper, index: int) -> None:
    """Change an entry and its leaf so that they fit each other."""
    connection = sqlite3.connect(home / "ledger.db")
    query = "SELECT header, payload FROM entries WHERE idx = ?"
    header, payload = connection.execute(query, (index,)).fetchone()
    connection.close()
    changed = header.replace(b"admit", b"admiT")
    assert changed != header
    leaf = leaf_hash(changed + hashlib.sha256(payload).digest())
    tamper(
        home,
        f"UPDATE entries SET header = x'{changed.hex()}', leaf = x'{leaf.hex()}', "
        f"event = 'admiT' WHERE idx = {index}",
    )


def test_entries_that_lost_all_their_heads_are_a_fault(
    filled: Path, tamper: Tamper, capsys: pytest.CaptureFixture[str]
) -> None:
    strip_heads(filled, tamper)
    rewrite(filled, tamper, 5)
    assert [(f.kind, f.where) for f in audit(filled).faults] == [("unsigned", "all entries")]
    assert main(["verify", "--home", str(filled)]) == 7
    assert "unsigned" in capsys.readouterr().out


def test_a_head_over_nothing_covers_no_entry(home: Path, tamper: Tamper) -> None:
    Ledger.open(home).close()
    with Ledger.open(home) as ledger:
        ledger.append("admit", {}, {}).wait()
    tamper(home, "DELETE FROM checkpoints WHERE size > 0")
    for path in (home / "checkpoints").glob("*1.note"):
        path.unlink()
    assert [f.kind for f in audit(home).faults] == ["unsigned"]


@pytest.mark.parametrize("opened", [Ledger.open, Ledger.read])
def test_a_ledger_that_lost_its_heads_is_not_opened(
    filled: Path, tamper: Tamper, opened: Callable[[Path], object]
) -> None:
    strip_heads(filled, tamper)
    with pytest.raises(IntegrityError) as caught:
        opened(filled)
    assert caught.value.code == "ledger-unsigned"
    assert not (filled / "checkpoints").exists()


def test_heads_kept_as_files_bind_the_one_who_appends(filled: Path, tamper: Tamper) -> None:
    tamper(filled, "DELETE FROM checkpoints WHERE size > 10")
    rewrite(filled, tamper, 15)
    with pytest.raises(IntegrityError) as caught:
        Ledger.open(filled)
    assert caught.value.code == "ledger-frontier"


def test_entries_after_the_last_head_are_counted_and_said(
    filled: Path, tamper: Tamper, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(filled, "DELETE FROM checkpoints WHERE size > 10")
    next((filled / "checkpoints").glob("*20.note")).unlink()
    report = audit(filled)
    assert report.ok
    assert (report.unsigned, report.signed_size) == (10, 10)
    assert main(["verify", "--home", str(filled)]) == 0
    out = capsys.readouterr().out
    assert "UNSIGNED 10 newest entries" in out
    assert "OK: no change found in the 10 signed entries" in out


def test_the_first_entry_has_its_head_before_it_is_acknowledged(home: Path) -> None:
    ledger = Ledger.open(home)
    try:
        ledger.append("admit", {}, {}).wait()
        report = audit(home)
        assert report.ok
        assert (report.size, report.signed_size, report.unsigned) == (1, 1, 0)
    finally:
        ledger.close()


@pytest.mark.parametrize("script", ["= 1000 WHERE idx = 19", "= -5 WHERE idx = 0", "= idx + 100"])
def test_renumbered_entries_are_found(filled: Path, tamper: Tamper, script: str) -> None:
    tamper(filled, f"UPDATE entries SET idx {script}")
    assert "renumbered" in {fault.kind for fault in audit(filled).faults}
    assert main(["verify", "--home", str(filled)]) == 7


def test_a_wiped_ledger_does_not_satisfy_a_quorum(
    filled: Path, tamper: Tamper, tmp_path: Path
) -> None:
    keys = read_vkeys(filled / "ledger.vkeys")
    strip_heads(filled, tamper)
    tamper(filled, "DELETE FROM entries")
    witness = signer(4, "w1").key
    policy = WitnessPolicy.parse(f"witness w1 {witness}\nquorum w1\n")
    assert [f.kind for f in audit(filled, keys, policy).faults] == ["unwitnessed"]
    (tmp_path / "policy").write_text(f"witness w1 {witness}\nquorum w1\n")
    words = ["--keys", str(filled / "ledger.vkeys"), "--policy", str(tmp_path / "policy")]
    assert main(["verify", "--home", str(filled), *words]) == 7
    assert audit(filled, keys, WitnessPolicy.parse("quorum none\n")).ok


def test_a_future_format_is_not_called_good(filled: Path, tamper: Tamper) -> None:
    tamper(filled, "UPDATE meta SET value = '2' WHERE name = 'format'")
    assert [f.kind for f in audit(filled).faults] == ["future-format"]
    assert main(["verify", "--home", str(filled)]) == 7


TRIGGER = """CREATE TRIGGER t AFTER INSERT ON entries BEGIN
    DELETE FROM entries WHERE idx = new.idx; END"""
PLANTED = {
    TRIGGER: "trigger t",
    "CREATE TABLE more (x)": "table more",
    "CREATE VIEW v AS SELECT * FROM entries": "view v",
    "DROP INDEX entries_event": "no index entries_event",
}


@pytest.mark.parametrize("script", PLANTED)
@pytest.mark.parametrize("opened", [Ledger.open, Ledger.read])
def test_a_planted_object_is_named_and_the_ledger_not_opened(
    filled: Path, tamper: Tamper, script: str, opened: Callable[[Path], object]
) -> None:
    tamper(filled, script)
    assert ("planted", PLANTED[script]) in {(f.kind, f.got) for f in audit(filled).faults}
    with pytest.raises(IntegrityError) as caught:
        opened(filled)
    assert caught.value.code == "ledger-planted"


def test_a_trigger_planted_while_open_loses_nothing_acknowledged(
    home: Path, tamper: Tamper
) -> None:
    ledger = Ledger.open(home)
    ledger.append("a", {}, {}).wait()
    tamper(home, TRIGGER)
    with pytest.raises(IntegrityError) as caught:
        ledger.append("a", {}, {}).wait()
    assert caught.value.code == "ledger-planted"
    with pytest.raises(IntegrityError):
        ledger.close()
    tamper(home, "DROP TRIGGER t")
    with Ledger.open(home) as again:
        assert len(again) == 1
        assert again.verify().ok


def test_nothing_is_added_to_a_database_with_damaged_pages(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        for n in range(40):
            ledger.append("a", {"n": n}, {"x": "y" * 2000}).wait()
    path = home / "ledger.db"
    whole = path.read_bytes()
    for page in range(3, len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        with pytest.raises(IntegrityError):
            Ledger.open(home).close()
    path.write_bytes(whole)
    Ledger.open(home).close()
