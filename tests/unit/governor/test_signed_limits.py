"""What people sign while it runs: overrides and what ends them, and newer appetites."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks.governor_steps import APPETITE, set_up

from interlock.errors import BackendError, PolicyError
from interlock.guard.govern.governor.appetite import Appetite, Override, sign
from interlock.guard.govern.governor.server import Governor, folder
from tests.unit.governor.test_governor import Clock, an_order, propose


def an_override(**changes: Any) -> Override:
    values = {
        "id": "override-1", "appetite_version": 1, "limit": "windows.0.orders", "value": 8,
        "duration_s": 10, "reason": "index rebalance",
    }  # fmt: skip
    return Override(**{**values, **changes})


def test_an_override_needs_two_people_ends_by_itself_and_is_used_once(tmp_path: Path) -> None:
    keys = set_up(tmp_path)
    clock, told = Clock(), []
    governor = Governor(
        tmp_path, clock_ns=clock, boot="b", record=lambda what, who: told.append((what, who))
    )
    body = an_override()
    one = sign(keys, "ann", body)
    outsider = sign(keys, "eve", body, one["signatures"])
    copied = {**one, "signatures": {**one["signatures"], "bob": one["signatures"]["ann"]}}
    for wrong in (one, outsider, copied):
        assert not governor.admin({"override": wrong})["ok"]
    two = sign(keys, "bob", body, one["signatures"])
    assert [list(what) for what, _ in told] == [["appetite"]]  # the first limits are on record
    assert governor.admin({"override": two})["ok"]
    assert told[1][1] == ("ann", "bob")
    assert [propose(governor, f"a{i}") for i in range(9)] == [None] * 8 + ["windows.0.orders"]
    assert governor.status()["overrides"] == ["override-1"]
    clock.ns += 11 * 10**9
    assert [propose(governor, f"b{i}") for i in range(6)] == [None] * 5 + ["windows.0.orders"]
    assert not governor.admin({"override": two})["ok"]
    for changes in ({"appetite_version": 2}, {"duration_s": 601}, {"limit": "windows.5.orders"}):
        body = an_override(id=f"other-{changes!s:.30}", **changes)
        both = sign(keys, "bob", body, sign(keys, "ann", body)["signatures"])
        assert not governor.admin({"override": both})["ok"]
    assert len(told) == 2  # what was refused is not on record as if it had happened
    governor.close()


def test_a_later_override_takes_the_place_of_an_earlier_one_of_that_limit(tmp_path: Path) -> None:
    keys = set_up(tmp_path)
    clock = Clock()
    governor = Governor(tmp_path, clock_ns=clock, boot="b")
    for number, (limit, value, seconds) in enumerate(
        [("windows.0.orders", 9, 60), ("windows.0.notional", 3000, 60), ("windows.0.orders", 6, 5)]
    ):
        body = an_override(
            id=f"override-{number}", limit=limit, value=value, duration_s=seconds
        )  # fmt: skip
        both = sign(keys, "bob", body, sign(keys, "ann", body)["signatures"])
        assert governor.admin({"override": both})["ok"]
    for _ in range(2):
        assert governor.status()["overrides"] == ["override-1", "override-2"]
        governor.close()
        governor = Governor(tmp_path, clock_ns=clock, boot="b")  # and after a restart
    assert [propose(governor, f"a{i}") for i in range(7)] == [None] * 6 + ["windows.0.orders"]
    clock.ns += 6 * 10**9  # the one that was replaced does not come back
    assert [propose(governor, f"b{i}") for i in range(6)] == [None] * 5 + ["windows.0.orders"]
    governor.close()


def test_an_override_that_cannot_be_ledgered_does_not_happen(tmp_path: Path) -> None:
    keys = set_up(tmp_path)

    def broken(_: Any, __: Any) -> None:
        raise BackendError("no ledger", code="ledger-timeout")

    with pytest.raises(BackendError):
        Governor(tmp_path, record=broken)  # nor do limits nobody can look up later
    Governor(tmp_path).close()
    governor = Governor(tmp_path, record=broken)
    body = an_override()
    both = sign(keys, "bob", body, sign(keys, "ann", body)["signatures"])
    assert not governor.admin({"override": both})["ok"]
    assert governor.status()["overrides"] == []
    governor.close()


def with_an_override(home: Path, clock: Clock) -> Governor:
    keys = set_up(home, msgspec.structs.replace(APPETITE, max_mark_age_s=60))
    governor = Governor(home, clock_ns=clock, boot="b")
    assert governor.admin({"mark": {"prices": {}, "equity": 1000}})["ok"]
    body = an_override(limit="max_exposure", value=12_000)
    both = sign(keys, "bob", body, sign(keys, "ann", body)["signatures"])
    assert governor.admin({"override": both})["ok"]
    for name in "ABCDE":  # 9,500 of 10,000, 1,900 at a time
        assert propose(governor, f"up {name}", an_order(quantity=190)) is None
        clock.ns += 1_100_000_000
    return governor


def test_an_override_that_time_has_ended_does_not_come_back_with_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    governor = with_an_override(tmp_path, clock)
    clock.ns += 20 * 10**9
    ended = governor.now()
    clock.ns -= 300 * 10**9
    assert governor.now() == ended
    assert propose(governor, "over", an_order(quantity=100)) == "max_exposure"
    governor.close()


@pytest.mark.parametrize(
    ("boot", "back", "stays"), [("b", 0, True), ("b", 10**12, False), ("c", 0, False)]
)
def test_an_override_ends_where_time_did_not_run_on(
    tmp_path: Path, boot: str, back: int, stays: bool
) -> None:
    clock = Clock()
    with_an_override(tmp_path, clock).close()
    clock.ns -= back
    # The second restart, which runs on from the first, must not bring it back.
    Governor(tmp_path, clock_ns=clock, boot=boot).close()
    governor = Governor(tmp_path, clock_ns=clock, boot=boot)
    clock.ns += 1_100_000_000  # so that the window of a second is free
    assert governor.status()["overrides"] == (["override-1"] if stays else [])
    assert propose(governor, "shrinks", an_order(side="sell")) is None
    assert propose(governor, "small") == (None if stays else "mark-age")
    assert governor.admin({"mark": {"prices": {}, "equity": 1000}})["ok"]
    assert propose(governor, "over", an_order(quantity=100)) == (None if stays else "max_exposure")
    governor.close()


def test_a_newer_appetite_is_adopted_and_an_older_one_is_not(tmp_path: Path) -> None:
    keys = set_up(tmp_path)
    governor = Governor(tmp_path, clock_ns=Clock(), boot="b")
    for i in range(5):
        assert propose(governor, f"a{i}") is None
    newer = msgspec.structs.replace(
        APPETITE, version=2, windows=(msgspec.structs.replace(APPETITE.windows[0], orders=6),)
    )
    assert not governor.admin({"appetite": sign(keys, "ann", APPETITE)})["ok"]
    assert governor.admin({"appetite": sign(keys, "ann", newer)})["ok"]
    assert propose(governor, "b") is None
    assert propose(governor, "c") == "windows.0.orders"  # what was counted stays counted
    governor.close()


def test_an_older_appetite_on_file_does_not_come_back_with_a_restart(tmp_path: Path) -> None:
    keys = set_up(tmp_path)
    path = folder(tmp_path) / "appetite.json"
    first = path.read_bytes()
    governor = Governor(tmp_path)
    newer = msgspec.structs.replace(APPETITE, version=2, max_exposure=10, owners=("bob",))
    assert governor.admin({"appetite": sign(keys, "ann", newer)})["ok"]
    governor.close()
    for old in (first, msgspec.json.encode(sign(keys, "ann", newer_than(newer, version=2)))):
        path.write_bytes(old)
        with pytest.raises(PolicyError, match="may not follow") as refused:
            Governor(tmp_path)
        assert refused.value.code == "appetite-rollback"
    path.write_bytes(msgspec.json.encode(sign(keys, "ann", newer)))
    governor = Governor(tmp_path)
    assert governor.engine.appetite == newer
    # The next one is for its owner to sign.
    third = newer_than(newer, version=3)
    assert not governor.admin({"appetite": sign(keys, "ann", third)})["ok"]
    governor.close()
    path.write_bytes(msgspec.json.encode(sign(keys, "eve", third)))
    with pytest.raises(PolicyError, match="may not follow"):
        Governor(tmp_path)
    path.write_bytes(msgspec.json.encode(sign(keys, "bob", third)))
    told: list[Any] = []
    Governor(tmp_path, record=lambda what, who: told.append((what, who))).close()
    assert [(what["appetite"]["version"], who) for what, who in told] == [(3, ("bob",))]


def newer_than(appetite: Appetite, version: int) -> Appetite:
    return msgspec.structs.replace(appetite, version=version, max_exposure=1e9)
