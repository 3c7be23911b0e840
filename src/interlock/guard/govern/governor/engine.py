"""The governor's decisions: a deterministic machine over integers.

Amounts are whole millionths, so that sums are exact whatever the order. Time is an argument, in
nanoseconds of a clock that never goes back. The same messages at the same times give the same
answers and the same state, which is how a restart recovers it from the journal.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from interlock.guard.govern.governor.appetite import Appetite, Override

__all__ = ["Engine", "Order", "is_symbol", "parse_orders", "to_units"]

UNIT = 1_000_000
REMEMBERED = 200_000
_MAX = 1e12
_MAX_ORDERS = 1000
_KEYS = {"symbol", "side", "quantity", "price"}


@dataclass(frozen=True, slots=True)
class Order:
    """One order in whole units: `quantity` signed (buy > 0), `price` in millionths."""

    symbol: str
    quantity: int
    price: int

    @property
    def notional(self) -> int:
        """Absolute notional in units, rounded up."""
        return -(-abs(self.quantity) * self.price // UNIT)


def to_units(value: Any) -> int | None:
    """Return a positive finite amount in millionths, or None.

    Example:
        >>> to_units(1.5), to_units(float("nan")), to_units(True), to_units(-1)
        (1500000, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value <= _MAX:  # NaN and infinity are not in there
        return None
    return max(1, math.ceil(value * UNIT)) if isinstance(value, float) else value * UNIT


def is_symbol(value: Any) -> bool:
    """Return whether a value is a symbol: 1 to 32 printable ASCII characters, no blank.

    Look-alikes and invisible characters would make two symbols of one.
    """
    return isinstance(value, str) and 0 < len(value) <= 32 and all("!" <= c <= "~" for c in value)


def parse_orders(raw: Any) -> list[Order] | None:
    """Return orders, or None when any of them is not one.

    A key more (a currency, an order type) could change what the order means, so it is none.
    """
    if not isinstance(raw, list) or not 0 < len(raw) <= _MAX_ORDERS:
        return None
    orders = []
    for one in raw:
        if not isinstance(one, Mapping) or set(one) != _KEYS:
            return None
        symbol, side = one["symbol"], one["side"]
        quantity, price = to_units(one["quantity"]), to_units(one["price"])
        if not is_symbol(symbol) or side not in ("buy", "sell") or not quantity or not price:
            return None
        orders.append(Order(symbol.upper(), quantity if side == "buy" else -quantity, price))
    return orders


@dataclass(slots=True)
class _Rolling:
    """Orders and notional of one window."""

    length: int
    events: deque[tuple[int, int, int]] = field(default_factory=deque)
    orders: int = 0
    notional: int = 0

    def expire(self, now: int) -> None:
        # An event counts as long as its age is at most the window, so "per second" holds for
        # every closed interval of that length.
        while self.events and self.events[0][0] < now - self.length:
            _, orders, notional = self.events.popleft()
            self.orders -= orders
            self.notional -= notional

    def add(self, now: int, orders: int, notional: int) -> None:
        self.events.append((now, orders, notional))
        self.orders += orders
        self.notional += notional


class Engine:
    """State and decisions of one governor.

    Example:
        >>> from interlock.guard.govern.governor.appetite import Appetite, Window
        >>> limits = Appetite(name="a", windows=(Window(seconds=1, orders=1, notional=100),),
        ...                   max_exposure=1000, max_drawdown=10)
        >>> engine = Engine(limits)
        >>> order = [{"symbol": "X", "side": "buy", "quantity": 1, "price": 50}]
        >>> engine.decide(0, "a", order)["rule"], engine.decide(1, "b", order)["rule"]
        (None, 'windows.0.orders')
    """

    def __init__(self, appetite: Appetite) -> None:
        self.time = 0
        self.positions: dict[str, int] = {}
        self.prices: dict[str, int] = {}
        self.equity: int | None = None
        self.peak: int | None = None
        self.marked: int | None = None
        #: When an equal order was last allowed, oldest first.
        self.recent: dict[tuple[str, int, int], int] = {}
        self.answers: OrderedDict[str, tuple[str, str | None]] = OrderedDict()
        self.overrides: dict[str, tuple[str, int, int]] = {}
        self.spent: set[str] = set()
        self.windows: list[_Rolling] = []
        self.appetite = appetite
        self.adopt(appetite)

    def adopt(self, appetite: Appetite) -> None:
        """Take new limits. What was counted stays counted; overrides of the old version end.

        A new window longer than every old one starts with what the longest old one remembers.
        """
        longest = max(self.windows, key=lambda w: w.length, default=None)
        events = list(longest.events) if longest else []
        self.appetite = appetite
        self.overrides = {}
        self.windows = [_Rolling(int(w.seconds * 1e9)) for w in appetite.windows]
        for window in self.windows:
            for event in events:
                window.add(*event)

    def advance(self, now: int) -> int:
        """Move time forward; a clock that goes back moves nothing."""
        self.time = max(self.time, now)
        for window in self.windows:
            window.expire(self.time)
        oldest = self.time - int(self.appetite.duplicate_s * 1e9)
        while self.recent and self.recent[next(iter(self.recent))] < oldest:
            del self.recent[next(iter(self.recent))]
        return self.time

    def lapse(self) -> None:
        """End what holds for a time: overrides, and marks that would count as fresh."""
        self.overrides = {}
        self.marked = None

    def limit(self, name: str) -> int:
        """Return a limit now, override included; counts are plain, amounts in units."""
        for what, value, until in self.overrides.values():
            if what == name and self.time < until:
                return value
        if name.startswith("windows."):
            _, index, part = name.split(".")
            window = self.appetite.windows[int(index)]
            return window.orders if part == "orders" else int(window.notional * UNIT)
        return int(getattr(self.appetite, name) * UNIT)

    def exposure(self, changes: Mapping[str, int] | None = None) -> int:
        """Return gross exposure in units, as if positions had changed."""
        positions = {**self.positions, **(changes or {})}
        return sum(-(-abs(q) * self.prices[s] // UNIT) for s, q in positions.items() if q)

    def decide(
        self, now: int, ident: str, raw: Any, *, stopped: str | None = None
    ) -> dict[str, Any]:
        """Decide a batch of orders, all or none; the same id again gets the same answer."""
        self.advance(now)
        digest = hashlib.sha256(msgspec.json.encode(raw, order="deterministic")).hexdigest()
        if ident in self.answers:
            known, rule = self.answers[ident]
            return self._answer(ident, rule if known == digest else "id-reused", again=True)
        orders = parse_orders(raw)
        rule = "form" if orders is None else self._refusal(orders, stopped)
        if rule is None and orders is not None:
            self._take(orders)
        self.answers[ident] = (digest, rule)
        if len(self.answers) > REMEMBERED:
            self.answers.popitem(last=False)
        return self._answer(ident, rule, again=False)

    @staticmethod
    def _answer(ident: str, rule: str | None, *, again: bool) -> dict[str, Any]:
        return {"id": ident, "allowed": rule is None, "rule": rule, "again": again}

    def _refusal(self, orders: list[Order], stopped: str | None) -> str | None:
        if stopped is not None:
            return "stopped"
        if self.appetite.duplicate_s:
            keys = {(o.symbol, o.quantity, o.price) for o in orders}
            if len(keys) < len(orders) or not keys.isdisjoint(self.recent):
                return "duplicate"
        count, notional = len(orders), sum(o.notional for o in orders)
        for index, window in enumerate(self.windows):
            if window.orders + count > self.limit(f"windows.{index}.orders"):
                return f"windows.{index}.orders"
            if window.notional + notional > self.limit(f"windows.{index}.notional"):
                return f"windows.{index}.notional"
        before = self.exposure()
        reduces = self._reduces(orders)
        changes, prices = self._after(orders)
        kept, self.prices = self.prices, prices
        after = self.exposure(changes)
        self.prices = kept
        if after > self.limit("max_exposure") and not (reduces and after <= before):
            return "max_exposure"
        if not reduces and self._mark_is_old():
            return "mark-age"
        down = 0 if self.peak is None or self.equity is None else self.peak - self.equity
        if down > self.limit("max_drawdown") and not reduces:
            return "max_drawdown"
        return None

    def _mark_is_old(self) -> bool:
        most = self.appetite.max_mark_age_s
        return most is not None and (
            self.marked is None or self.time - self.marked > int(most * 1e9)
        )

    def _reduces(self, orders: list[Order]) -> bool:
        held = dict(self.positions)
        for order in orders:
            has = held.get(order.symbol, 0)
            if has * order.quantity >= 0 or abs(order.quantity) > abs(has):
                return False
            held[order.symbol] = has + order.quantity
        return True

    def _after(self, orders: list[Order]) -> tuple[dict[str, int], dict[str, int]]:
        changes: dict[str, int] = {}
        prices = dict(self.prices)
        for order in orders:
            has = changes.get(order.symbol, self.positions.get(order.symbol, 0))
            changes[order.symbol] = has + order.quantity
            # The model chooses the price of its order; it must not thereby lower an exposure.
            prices[order.symbol] = max(prices.get(order.symbol, 0), order.price)
        return changes, prices

    def _take(self, orders: list[Order]) -> None:
        changes, self.prices = self._after(orders)
        self.positions.update(changes)
        self.positions = {s: q for s, q in self.positions.items() if q}
        for window in self.windows:
            window.add(self.time, len(orders), sum(o.notional for o in orders))
        if self.appetite.duplicate_s:
            for order in orders:
                key = (order.symbol, order.quantity, order.price)
                self.recent.pop(key, None)
                self.recent[key] = self.time

    def mark(self, now: int, prices: Mapping[str, Any], equity: Any) -> bool:
        """Take prices and equity from the market side; return whether they could be read."""
        self.advance(now)
        units = {str(s).upper(): to_units(p) for s, p in prices.items()}
        real = isinstance(equity, int | float) and not isinstance(equity, bool)
        if any(u is None for u in units.values()) or not real or not -1e15 <= equity <= 1e15:
            return False
        self.marked = self.time
        self.prices.update({s: u for s, u in units.items() if u is not None})
        self.equity = math.floor(equity * UNIT)
        self.peak = self.equity if self.peak is None else max(self.peak, self.equity)
        return True

    def override_fault(self, body: Override) -> str | None:
        """Return why an override cannot be taken, or None. An id is used once."""
        if body.id in self.spent:
            return "used"
        if body.appetite_version != self.appetite.version:
            return "version"
        if body.duration_s > self.appetite.max_override_s:
            return "duration"
        index = body.limit.split(".")
        if index[0] == "windows" and int(index[1]) >= len(self.windows):
            return "limit"
        return None

    def override(self, now: int, body: Override) -> str | None:
        """Take an override in place of an earlier one of that limit; return why not, or None."""
        self.advance(now)
        fault = self.override_fault(body)
        if fault is not None:
            return fault
        scale = 1 if body.limit.endswith("orders") else UNIT
        until = self.time + int(body.duration_s * 1e9)
        self.overrides = {k: o for k, o in self.overrides.items() if o[0] != body.limit}
        self.overrides[body.id] = (body.limit, int(body.value * scale), until)
        self.spent.add(body.id)
        return None

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain values."""
        return {
            "time": self.time,
            "appetite": msgspec.to_builtins(self.appetite),
            "positions": dict(self.positions),
            "prices": dict(self.prices),
            "equity": self.equity,
            "peak": self.peak,
            "marked": self.marked,
            "recent": [[*key, at] for key, at in self.recent.items()],
            "answers": [[k, *v] for k, v in self.answers.items()],
            "overrides": {k: list(v) for k, v in self.overrides.items()},
            "spent": sorted(self.spent),
            "windows": [[list(e) for e in w.events] for w in self.windows],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Engine:
        """Return the engine a snapshot describes."""
        engine = cls(msgspec.convert(state["appetite"], Appetite))
        engine.time = state["time"]
        engine.positions, engine.prices = dict(state["positions"]), dict(state["prices"])
        engine.equity, engine.peak = state["equity"], state["peak"]
        engine.marked = state.get("marked")
        engine.recent = {(s, q, p): at for s, q, p, at in state.get("recent", ())}
        engine.answers = OrderedDict((k, (d, r)) for k, d, r in state["answers"])
        engine.overrides = {k: (w, v, u) for k, (w, v, u) in state["overrides"].items()}
        engine.spent = set(state["spent"])
        for window, events in zip(engine.windows, state["windows"], strict=True):
            for event in events:
                window.add(*event)
        return engine
