"""The finance pack: each proposed order against the limits of one order.

The terms are those of SEC Rule 15c3-5 (17 CFR 240.15c3-5), paragraph (c): erroneous orders
(notional, quantity, price collar, duplicates) and restricted securities. What needs a memory
across processes (duplicate window, rate, exposure, drawdown) is the governor's; see
`govern.governor`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["FinanceControl", "FinanceSettings", "order_faults"]

_LARGEST = 1e15
Positive = Annotated[float, msgspec.Meta(gt=0)]


class FinanceSettings(Settings, frozen=True, kw_only=True):
    """Settings of `finance`.

    Attributes:
        field: the decoded field with the orders, each `{symbol, side, quantity, price}`.
        reference_field: the decoded field with reference prices by symbol. The collar trusts it,
            so decode it from the market, not from the model.
        max_quantity: units of one order.
        max_notional: quantity times price of one order.
        max_total_notional: over all orders of one output.
        max_orders: orders in one output.
        price_collar: largest relative distance from the reference price; null leaves it out.
        symbols: the only symbols allowed; empty for any.
        restricted: symbols that may not be traded.
        duplicates: how many equal orders one output may hold; over several outputs `duplicate_s`
            of the governor's appetite holds them.
        on_fail: what a violation leads to.
    """

    field: str = "orders"
    reference_field: str = "reference"
    max_quantity: Positive = 1_000.0
    max_notional: Positive = 100_000.0
    max_total_notional: Positive = 500_000.0
    max_orders: Annotated[int, msgspec.Meta(ge=1)] = 100
    price_collar: Positive | None = 0.05
    symbols: tuple[str, ...] = ()
    restricted: tuple[str, ...] = ()
    duplicates: Annotated[int, msgspec.Meta(ge=1)] = 1
    on_fail: Literal["block", "fallback", "hold"] = "block"


def _positive(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and 0 < value <= _LARGEST


def _is_symbol(text: str) -> bool:
    """One that only looks like a restricted one, or hides a character, is no symbol."""
    return 0 < len(text) <= 32 and all("!" <= c <= "~" for c in text)


def _shown(value: float) -> str:
    """Every digit: rounded, the nearest allowed value might not be allowed."""
    return repr(value).removesuffix(".0")


def order_faults(
    settings: FinanceSettings, order: Any, reference: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield (rule, got, expected, fix) of one order.

    Example:
        >>> bad = {"symbol": "A", "side": "buy", "quantity": 5000, "price": 10.0}
        >>> [f[0] for f in order_faults(FinanceSettings(), bad, {"A": 10.0})]
        ['quantity']
    """
    shape = "{symbol, side: buy|sell, quantity > 0, price > 0}"
    if not isinstance(order, Mapping) or set(order) - {"symbol", "side", "quantity", "price"}:
        yield "form", f"{order!r:.100}", shape, None
        return
    symbol, quantity, price = order.get("symbol"), order.get("quantity"), order.get("price")
    if (
        not isinstance(symbol, str)
        or not symbol
        or order.get("side") not in ("buy", "sell")
        or not _positive(quantity)
        or not _positive(price)
    ):
        yield "form", f"{order!r:.100}", shape, None
        return
    assert isinstance(quantity, int | float)
    assert isinstance(price, int | float)
    if not _is_symbol(symbol):
        yield "symbol", ascii(symbol)[:100], "1 to 32 printable ASCII characters, no blank", None
        return
    canonical = symbol.upper()
    if canonical in {s.upper() for s in settings.restricted}:
        yield "restricted", symbol, "a symbol that is not restricted", None
    elif canonical != symbol:
        yield "symbol", repr(symbol), repr(canonical), None
    if settings.symbols and symbol not in settings.symbols:
        yield "symbol", symbol, "one of " + ", ".join(settings.symbols), None
    if quantity > settings.max_quantity:
        most = settings.max_quantity
        yield "quantity", _shown(quantity), f"at most {_shown(most)}", _shown(most)
    if quantity * price > settings.max_notional:
        most = settings.max_notional
        fit = min(most / price, settings.max_quantity)
        fit = math.floor(fit) if fit >= 1 else fit * (1 - 1e-12)
        yield (
            "notional",
            _shown(quantity * price),
            f"at most {_shown(most)}",
            f"quantity {_shown(fit)}",
        )
    if settings.price_collar is not None:
        centre = reference.get(symbol)
        if not _positive(centre):
            yield "collar", f"no reference price for {symbol}", "a reference price", None
            return
        assert isinstance(centre, int | float)
        low, high = centre * (1 - settings.price_collar), centre * (1 + settings.price_collar)
        if not low <= price <= high:
            near = min(max(price, low), high)
            yield (
                "collar",
                _shown(price),
                f"{_shown(low)} to {_shown(high)}",
                f"price {_shown(near)}",
            )


class FinanceControl(Control):
    """Holds proposed orders to limits on one order and on one output."""

    id = "finance"
    stage = "filter"
    phase = 1
    Settings = FinanceSettings

    def gather(self, request: Request, settings: FinanceSettings) -> Evidence:
        """Take the orders and reference prices from the decoded output."""
        fields = fields_of(request)
        orders = fields.get(settings.field)
        reference = fields.get(settings.reference_field, {})
        return {"orders": orders, "reference": reference}

    def decide(self, job: Job, settings: FinanceSettings, evidence: Evidence) -> Verdict:
        """Check every order; an output without a list of orders is refused, an empty one is not."""
        orders, reference = evidence["orders"], evidence["reference"]
        findings: list[Finding] = []

        def say(rule: str, got: str, expected: str, fix: str | None, at: str | None) -> None:
            findings.append(
                Finding(
                    rule=f"filter.finance.{rule}",
                    message=f"an order breaks the {rule} limit",
                    got=got,
                    expected=expected,
                    fix=None if fix is None else f"the nearest allowed value is {fix}",
                    location=at,
                )
            )

        if not isinstance(orders, list) or not isinstance(reference, Mapping):
            say("form", type(orders).__name__, "a list of orders", None, None)
            return verdict(evidence, findings)
        if len(orders) > settings.max_orders:
            say("count", str(len(orders)), f"at most {settings.max_orders} orders", None, None)
            orders = orders[: settings.max_orders]
        seen: dict[tuple[Any, ...], int] = {}
        total = 0.0
        for index, order in enumerate(orders):
            faults = list(order_faults(settings, order, reference))
            for rule, got, expected, fix in faults:
                say(rule, got, expected, fix, f"order {index}")
            if not any(f[0] == "form" for f in faults):
                total += order["quantity"] * order["price"]
                # 1 and 1.0 are one quantity, so the same order.
                key = tuple(order[k] for k in ("symbol", "side", "quantity", "price"))
                seen[key] = seen.get(key, 0) + 1
                if seen[key] == settings.duplicates + 1:
                    most = f"at most {settings.duplicates} equal orders"
                    say("duplicate", " ".join(map(str, key)), most, None, f"order {index}")
        if total > settings.max_total_notional:
            most = f"at most {_shown(settings.max_total_notional)}"
            say("total", _shown(total), most, None, None)
        return verdict(evidence, findings, _worst(settings.on_fail))


def _worst(on_fail: str) -> Decision:
    return Decision.DENY if on_fail == "block" else Decision[on_fail.upper()]
