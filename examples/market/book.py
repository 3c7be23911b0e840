"""A synthetic limit order book, zero-intelligence traders (Smith et al., Quant. Finance 3, 481).

Prices are whole ticks of 0.01. Each step, limit orders arrive, cancel, or take the other side. News
tilts who takes for a while; a burst makes everybody trade more and says nothing.
"""

from __future__ import annotations

import random
from collections import Counter

TICK = 0.01
DEPTH = 12


class Book:
    """One symbol.

    Args:
        price: where it starts.
        seed: of everything that happens in it.
    """

    def __init__(self, price: float, seed: int) -> None:
        self._rng = random.Random(seed)
        centre = round(price / TICK)
        self.bids = Counter({centre - k: 200 for k in range(1, DEPTH)})
        self.asks = Counter({centre + k: 200 for k in range(1, DEPTH)})
        self._last = centre
        self.tilt = 0.0

    @property
    def mid(self) -> float:
        """Middle of the best bid and ask."""
        return (max(self.bids) + min(self.asks)) / 2 * TICK

    def news(self, label: int) -> None:
        """Let news tilt the takers; it fades."""
        self.tilt = 0.35 * label

    def step(self, burst: bool = False) -> None:
        """One moment of other people's trading."""
        for _ in range(80 if burst else 16):
            dice = self._rng.random()
            buys = self._rng.random() < 0.5 + self.tilt
            if dice < 0.45:
                self._rest(buys=self._rng.random() < 0.5)
            elif dice < 0.80:
                side = self.bids if self._rng.random() < 0.5 else self.asks
                level = self._rng.choice(sorted(side))
                side[level] -= min(side[level], 10)
            else:
                self.take("buy" if buys else "sell", self._rng.randint(5, 40))
            self._refill()
        self.tilt *= 0.9

    def _rest(self, *, buys: bool) -> None:
        side, edge = (self.bids, min(self.asks)) if buys else (self.asks, max(self.bids))
        away = self._rng.randint(1, DEPTH)
        side[edge - away if buys else edge + away] += 15

    def _refill(self) -> None:
        for side in (self.bids, self.asks):
            for level in [k for k, v in side.items() if v <= 0]:
                del side[level]
        while len(self.bids) < 3:
            self.bids[min([*self.bids, min(self.asks, default=self._last)]) - 1] += 50
        while len(self.asks) < 3:
            self.asks[max([*self.asks, max(self.bids)]) + 1] += 50
        self._last = max(self.bids)

    def take(self, side: str, quantity: float, limit: float | None = None) -> tuple[float, float]:
        """Trade against what rests, never beyond the limit; return (filled, paid)."""
        levels, prices = (
            (self.asks, sorted(self.asks))
            if side == "buy"
            else (self.bids, sorted(self.bids, reverse=True))
        )
        filled = paid = 0.0
        for level in prices:
            price = level * TICK
            beyond = limit is not None and (price > limit if side == "buy" else price < limit)
            if beyond or filled >= quantity:
                break
            part = min(levels[level], quantity - filled)
            levels[level] -= part
            filled, paid = filled + part, paid + part * price
        self._refill()
        return filled, paid
