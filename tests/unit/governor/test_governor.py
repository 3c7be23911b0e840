"""Signatures, limits, overrides, the journal under damage, and the control in front of it."""

import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks.governor_steps import APPETITE, set_up

from interlock.errors import BackendError, IntegrityError, InterlockError, PolicyError, StorageError
from interlock.guard.control import check_control
from interlock.guard.govern.governor import control
from interlock.guard.govern.governor import journal as journal_module
from interlock.guard.govern.governor.appetite import Appetite, Override, sign, verify
from interlock.guard.govern.governor.control import GovernorControl, GovernorSettings
from interlock.guard.govern.governor.engine import Engine, parse_orders
from interlock.guard.govern.governor.server import Governor, folder
from interlock.guard.result import Result
from interlock.guard.state import stop
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask


class Clock:
    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns


def an_order(**changes: Any) -> dict[str, Any]:
    return {"symbol": "A", "side": "buy", "quantity": 1, "price": 10.0, **changes}


def propose(governor: Governor, ident: str, *orders: dict[str, Any]) -> str | None:
    answer = governor.orders([{"id": ident, "orders": list(orders) or [an_order()]}])[0]
    assert answer["allowed"] is (answer["rule"] is None)
    rule: str | None = answer["rule"]
    return rule


@pytest.fixture
def home(tmp_path: Path) -> Path:
    set_up(tmp_path)
    return tmp_path


def test_windows_roll_and_exposure_and_drawdown_hold(home: Path) -> None:
    clock = Clock()
    governor = Governor(home, clock_ns=clock, boot="b")
    assert [propose(governor, f"a{i}") for i in range(6)] == [None] * 5 + ["windows.0.orders"]
    clock.ns += 10**9
    assert propose(governor, "edge") == "windows.0.orders"  # aged exactly one window: still counts
    clock.ns += 1
    assert propose(governor, "b", an_order(quantity=150, price=10)) is None
    clock.ns += 10**12
    assert propose(governor, "c", an_order(quantity=201)) == "windows.0.notional"
    for i in range(4):
        clock.ns += 61 * 10**9
        assert propose(governor, f"d{i}", an_order(quantity=199)) is None
    clock.ns += 61 * 10**9
    assert propose(governor, "e", an_order(quantity=60)) == "max_exposure"
    assert propose(governor, "f", an_order(side="sell", quantity=60)) is None
    assert governor.admin({"mark": {"prices": {"A": 10.0}, "equity": 1000}})["ok"]
    assert governor.admin({"mark": {"prices": {"A": 10.0}, "equity": 499}})["ok"]
    clock.ns += 61 * 10**9
    assert propose(governor, "g", an_order(symbol="B")) == "max_drawdown"
    assert propose(governor, "h", an_order(side="sell")) is None
    governor.close()


def test_a_model_cannot_lower_its_exposure_by_naming_a_low_price() -> None:
    engine = Engine(APPETITE)
    engine.mark(0, {"A": 100.0}, 0)
    low = [an_order(quantity=150, price=0.01)]
    assert engine.decide(1, "a", low)["rule"] == "max_exposure"


@pytest.mark.parametrize(
    "orders",
    [
        None, [], {}, "buy", [None], [an_order(quantity=0)], [an_order(quantity=-1)],
        [an_order(quantity=True)], [an_order(price="10")], [an_order(price=1e300)],
        [an_order(symbol="")], [an_order(symbol=" A")], [an_order(side="hold")],
        [an_order()] * 1001, [an_order(quantity=float("inf"))], [an_order(quantity=10**40)],
    ],
)  # fmt: skip
def test_what_is_no_order_is_refused(orders: Any) -> None:
    assert parse_orders(orders) is None


def test_a_batch_is_all_or_none_and_a_replay_gets_the_same_answer(home: Path) -> None:
    clock = Clock()
    governor = Governor(home, clock_ns=clock, boot="b")
    batch = [an_order()] * 6
    assert propose(governor, "batch", *batch) == "windows.0.orders"
    assert governor.engine.positions == {}
    clock.ns += 10**12
    assert propose(governor, "batch", *batch) == "windows.0.orders"
    assert propose(governor, "one") is None
    assert propose(governor, "one") is None
    assert governor.engine.positions == {"A": 10**6}
    assert propose(governor, "one", an_order(quantity=2)) == "id-reused"
    governor.close()


def test_a_restart_remembers_and_a_reboot_or_clock_set_back_empties_no_window(home: Path) -> None:
    clock = Clock()
    governor = Governor(home, clock_ns=clock, boot="b")
    for i in range(5):
        assert propose(governor, f"a{i}") is None
    governor.close()
    for ns, boot in ((clock.ns, "b"), (5, "b"), (10**18, "other"), (0, "third")):
        clock.ns = ns
        governor = Governor(home, clock_ns=clock, boot=boot)
        assert propose(governor, f"{ns}{boot}") == "windows.0.orders"
        assert propose(governor, "a0") is None  # a replay, not a new order
        governor.close()
    assert governor.engine.positions == {"A": 5 * 10**6}


def test_only_one_governor_holds_a_home(home: Path) -> None:
    governor = Governor(home)
    with pytest.raises(StorageError, match="another governor"):
        Governor(home)
    governor.close()


def test_a_torn_last_line_is_dropped_and_other_damage_stops_it(home: Path) -> None:
    governor = Governor(home)
    assert propose(governor, "a") is None
    assert propose(governor, "b") is None
    governor.close()
    journal = folder(home) / "journal"
    whole = journal.read_bytes().rstrip(b"\0")
    start, last = whole[: whole.rindex(b"\n", 0, -1) + 1], whole.splitlines(keepends=True)[-1]
    for end, orders in (
        (whole + b"0123", 2),
        (whole + b"0123" + bytes(5000), 2),
        (whole + b'00000000 [{"id":\0\0\0"b"}]\n' + bytes(900), 2),
        (whole[:-1], 2),  # whole, but for its newline
        (start + last[:30] + bytes(1 << 20), 1),
        (start + last[:30] + bytes(20) + last[50:] + bytes(1 << 20), 1),
    ):
        journal.write_bytes(end)
        for _ in range(2):  # what was torn is gone for good
            governor = Governor(home)
            assert governor.engine.positions == {"A": orders * 10**6}
            governor.close()
    hole = whole.index(b'"id":"a"')
    for damaged in (
        whole[:hole] + bytes(8) + whole[hole + 8 :] + bytes(1 << 20),
        whole[:-1] + b"x",
        whole[:-1] + b"x" + bytes(1 << 20),
        start + last.replace(b'"id":"b"', b'"id":"z"') + bytes(1 << 20),
        whole.replace(b'"id":"a"', b'"id":"z"'),
        whole[50:],
        whole.replace(b"\n", b"\n\n", 1),
    ):
        journal.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            Governor(home)


def test_a_journal_of_the_older_form_is_read(home: Path) -> None:
    governor = Governor(home)
    assert propose(governor, "a") is None
    governor.close()
    journal = folder(home) / "journal"
    old = b""
    for line in journal.read_bytes().rstrip(b"\0").splitlines():
        for record in msgspec.json.decode(line[9:]):
            body = msgspec.json.encode(record)
            old += b"%08x " % zlib.crc32(body) + body + b"\n"
    journal.write_bytes(old)
    governor = Governor(home)
    assert governor.engine.positions == {"A": 10**6}
    assert propose(governor, "b") is None
    governor.close()
    governor = Governor(home)
    assert governor.engine.positions == {"A": 2 * 10**6}
    governor.close()


def test_room_is_written_ahead(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "AHEAD", 4096)
    governor = Governor(home)
    journal = folder(home) / "journal"
    for i in range(60):
        propose(governor, f"a{i}")
        if i % 4 == 0:
            governor.journal.write_ahead()
            assert journal.stat().st_size - governor.journal._end >= 2048
    assert journal.stat().st_size > 8192
    before = governor.engine.snapshot()
    governor.close()
    governor = Governor(home)
    assert governor.engine.snapshot()["answers"] == before["answers"]
    governor.close()


def test_a_decision_that_cannot_be_persisted_is_not_answered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    governor = Governor(home)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="cannot persist"):
        governor.orders([{"id": "a", "orders": [an_order()]}])
    governor.close()


def test_compaction_keeps_the_state(home: Path) -> None:
    clock = Clock()
    governor = Governor(home, clock_ns=clock, boot="b")
    for i in range(4):
        propose(governor, f"a{i}")
    governor.admin({"mark": {"prices": {"A": 11.0}, "equity": 5}})
    before = governor.engine.snapshot()
    governor.journal.compact(governor.engine, governor._start())
    governor.close()
    governor = Governor(home, clock_ns=clock, boot="b")
    assert governor.engine.snapshot() == before
    assert propose(governor, "a0") is None
    assert governor.engine.positions == before["positions"]
    governor.close()


def test_the_stop_holds_everything_also_one_set_while_deciding(home: Path) -> None:
    governor = Governor(home)
    stop(home, "drill")
    assert propose(governor, "a") == "stopped"
    (home / "STOP").unlink()
    assert propose(governor, "a") == "stopped"  # the answer on record
    real = governor.journal.append
    governor.journal.append = lambda r: (real(r), stop(home, "now"))  # type: ignore[assignment, func-returns-value]
    answer = governor.orders([{"id": "b", "orders": [an_order()]}])[0]
    assert answer["rule"] == "stopped"
    assert not answer["allowed"]
    assert propose(governor, "b") == "stopped"  # nor is it let out by asking again
    governor.close()


def test_an_appetite_nobody_trusted_signed_or_that_was_changed_is_refused(home: Path) -> None:
    path = folder(home) / "appetite.json"
    signed = msgspec.json.decode(path.read_bytes())
    for change in (
        {**signed, "signatures": {}},
        {**signed, "signatures": {"mallory": signed["signatures"]["ann"]}},
        {**signed, "signatures": {"bob": signed["signatures"]["ann"]}},
        {**signed, "body": {**signed["body"], "max_exposure": 1e9}},
        {**signed, "signatures": {"ann": {"ed25519": signed["signatures"]["ann"]["ed25519"]}}},
        {**signed, "body": {**signed["body"], "windows": []}},
        {"body": signed["body"]},
        [],
    ):
        path.write_bytes(msgspec.json.encode(change))
        with pytest.raises((IntegrityError, PolicyError)):
            Governor(home)
    path.unlink()
    with pytest.raises(PolicyError):
        Governor(home)


@pytest.mark.parametrize(
    "message",
    [
        None, 5, [], {}, {"mark": 1}, {"mark": {"prices": {"A": -1}, "equity": 1}},
        {"mark": {"prices": {}, "equity": "x"}}, {"override": 1}, {"appetite": None},
    ],
)  # fmt: skip
def test_a_strange_message_changes_nothing(home: Path, message: Any) -> None:
    governor = Governor(home, clock_ns=Clock(), boot="b")
    before = governor.engine.snapshot()
    assert not governor.admin(message)["ok"]
    assert not governor.orders([message])[0]["allowed"]
    assert {**governor.engine.snapshot(), "time": 0} == {**before, "time": 0}
    governor.close()


def through_control(home: Path, answer: Any, **fields: Any) -> Any:
    class Said:
        def ask(self, message: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return {"id": message["id"], **answer}

    original, control._client = control._client, lambda *_: Said()  # type: ignore[assignment, return-value]
    try:
        request = a_request(home, decode=lambda _: fields or {"orders": [an_order()]},
                            result=Result(items=()))  # fmt: skip
        return ask(GovernorControl(), request, GovernorSettings())
    finally:
        control._client = original  # type: ignore[assignment]


def test_the_control_lets_out_only_what_the_governor_allows(tmp_path: Path) -> None:
    yes = {"allowed": True, "rule": None}
    assert through_control(tmp_path, yes).decision is Decision.ALLOW
    assert through_control(tmp_path, yes, orders=[]).decision is Decision.ALLOW
    for answer in ({"allowed": False, "rule": "max_exposure"}, {}, {"allowed": "yes"},
                   {"allowed": True, "id": "another"}):  # fmt: skip
        assert through_control(tmp_path, answer).decision is Decision.DENY
    with pytest.raises(InterlockError):
        through_control(tmp_path, BackendError("down", code="governor-down"))
    stop(tmp_path, "drill")
    assert through_control(tmp_path, yes).decision is Decision.DENY


def test_it_keeps_the_contract_of_a_control() -> None:
    evidence = {"id": "j", "orders": [an_order()], "answer": {"id": "j", "allowed": True},
                "stopped": None}  # fmt: skip
    check_control(GovernorControl(), a_job(), GovernorSettings(), evidence)


def test_a_signature_of_an_appetite_is_none_of_an_override(tmp_path: Path) -> None:
    keys = set_up(tmp_path)
    signed = sign(keys, "ann", APPETITE)
    signers = msgspec.json.decode((folder(tmp_path) / "signers.json").read_bytes())
    assert verify(signed, Appetite, signers, need=1)[1] == ("ann",)
    with pytest.raises(PolicyError):
        verify(signed, Override, signers, need=1)
    with pytest.raises(IntegrityError):
        verify(signed, Appetite, signers, need=2)


def test_a_machine_that_was_up_for_long_before_empties_no_window_at_the_second_start(
    home: Path,
) -> None:
    clock = Clock()
    for boot, ns, used in (("a", 60, 5), ("b", 7200, 0), ("b", 7201, 0), ("b", 7202, 0)):
        clock.ns = ns * 10**9
        governor = Governor(home, clock_ns=clock, boot=boot)
        answers = [propose(governor, f"{ns}-{i}") for i in range(6)]
        if boot == "a":
            assert answers == [None] * used + ["windows.0.orders"]
        elif ns == 7200:
            assert answers == ["windows.0.orders"] * 6
            # A kill right after the file was made small must not lose the clock either.
            governor.journal.compact(governor.engine, governor._start())
        governor.close()
    # Three starts later, two seconds have gone by on the clock, and no more.
    assert governor.engine.time == 62 * 10**9


@pytest.mark.parametrize("depth", [10, 500, 900, 980, 990, 995, 1500])
def test_nothing_a_model_sends_keeps_the_governor_from_starting_again(
    home: Path, depth: int
) -> None:
    governor = Governor(home)
    nested: Any = msgspec.json.decode("[" * min(depth, 900) + "]" * min(depth, 900))
    for _ in range(depth - 900):
        nested = [nested]
    for ident, orders in (("a", nested), ("b", [{**an_order(), "note": nested}]), ("c", [nested])):
        assert governor.orders([{"id": ident, "orders": orders}])[0]["rule"] == "form"
    governor.close()
    governor = Governor(home)
    assert propose(governor, "a", an_order()) in ("form", "id-reused")
    assert propose(governor, "d") is None
    governor.close()


def test_an_equal_order_within_the_window_is_a_duplicate(tmp_path: Path) -> None:
    set_up(tmp_path, msgspec.structs.replace(APPETITE, duplicate_s=10))
    clock = Clock()

    def restarted() -> Governor:
        return Governor(tmp_path, clock_ns=clock, boot="b")

    governor = restarted()
    assert propose(governor, "twice", an_order(), an_order()) == "duplicate"
    assert propose(governor, "a") is None
    assert propose(governor, "a") is None  # a replay is no duplicate
    assert propose(governor, "b", an_order(quantity=1.0)) == "duplicate"
    assert propose(governor, "c", an_order(symbol="a")) == "duplicate"
    assert propose(governor, "d", an_order(side="sell")) is None
    governor.close()
    governor = restarted()
    clock.ns += 10 * 10**9
    assert propose(governor, "e") == "duplicate"  # at the edge, and after a restart
    governor.journal.compact(governor.engine, governor._start())
    governor.close()
    governor = restarted()
    assert propose(governor, "f") == "duplicate"
    clock.ns += 1
    assert propose(governor, "g") is None
    assert len(governor.engine.recent) == 1
    governor.close()


def test_equity_that_was_never_told_or_long_ago_lets_positions_only_shrink(tmp_path: Path) -> None:
    set_up(tmp_path, msgspec.structs.replace(APPETITE, max_mark_age_s=60))
    clock = Clock()
    governor = Governor(tmp_path, clock_ns=clock, boot="b")
    assert propose(governor, "a") == "mark-age"
    assert governor.status()["marked_s_ago"] is None
    assert governor.admin({"mark": {"prices": {}, "equity": 1000}})["ok"]
    assert propose(governor, "b", an_order(quantity=2)) is None
    clock.ns += 60 * 10**9
    assert propose(governor, "c") is None
    clock.ns += 1
    assert propose(governor, "d") == "mark-age"
    assert propose(governor, "e", an_order(side="sell")) is None
    governor.close()


@pytest.mark.parametrize("equity", [10**400, 1e16, float("nan"), True, "1", None])
def test_an_equity_that_is_none_is_refused_and_survived(home: Path, equity: Any) -> None:
    governor = Governor(home)
    assert not governor.admin({"mark": {"prices": {}, "equity": equity}})["ok"]
    assert not governor.admin({"mark": {"prices": {"A": 10**400}, "equity": 1}})["ok"]
    governor.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "JPY"}, {"quantity": 10**400}, {"symbol": "A\u200b"}, {"symbol": "\u0410"},
        {"symbol": "A B"}, {"symbol": "\ufb01"}, {"symbol": "A" * 33},
    ],
)  # fmt: skip
def test_an_order_that_could_mean_another_thing_is_none(changes: dict[str, Any]) -> None:
    assert parse_orders([an_order(**changes)]) is None
