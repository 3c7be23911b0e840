"""EWMA, two-sided CUSUM and PCA residual of every row in one pass over memory.

The pass returns one summary a block: per channel the peak of |EWMA|, of the upper and of the lower
CUSUM, and over channels the peak and the mean of the PCA residual Q (Jackson and Mudholkar 1979).
The EWMA goes on from block to block. CUSUMs begin anew: one that went on would climb for ever after
a shift that became the new baseline, or stay where a single wild sample put it, and tell nothing.
Memory does not grow with rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError
from interlock.monitor.frames import NO_VALUE

__all__ = ["BlockSummary", "FusedScorer"]

Floats = npt.NDArray[np.float32]
LANES, RANK = 16, 3
#: Fewer samples than this tell nothing of a channel.
LEAST = 16
#: Up to here (in sd) a centre is taken away in the same operation that divides by the sd, for a
#: rounding of 2.4e-4 sd, as the samples themselves have. Further out it is taken away exactly.
NEAR = 4096.0
#: The smallest sd; its inverse is still a float32.
SMALLEST = 1e-30


@cache
def _kernel(tiles: int, turns: int, near: bool) -> Any:
    from interlock.monitor.detectors._simd import make_kernel

    return make_kernel(tiles, turns, near)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSummary:
    """Peaks of each block: `ewma`, `up`, `down` (blocks, channels) in sd; `q_max`, `q_mean`.

    `missing` counts samples (blocks, channels); a channel without any in a block is `silent` there.
    """

    ewma: Floats
    up: Floats
    down: Floats
    q_max: Floats
    q_mean: Floats
    missing: npt.NDArray[np.int64]
    silent: npt.NDArray[np.bool_]

    def features(self) -> npt.NDArray[np.float64]:
        """Return (blocks, 2 * channels + 1): EWMA peak, larger CUSUM peak, mean Q, in logs.

        Those of a silent channel are NaN: it has no value, not an ordinary one.
        """
        parts = (self.ewma, np.maximum(self.up, self.down), self.q_mean[:, None])
        found: npt.NDArray[np.float64] = np.log(np.concatenate(parts, axis=1, dtype=float) + 1e-6)
        if self.silent.any():
            found[:, :-1][np.tile(self.silent, 2)] = np.nan
        return found


@dataclass(slots=True)
class FusedScorer:
    """Screens rows of up to 4096 channels; fitted once on data in control.

    Args:
        channels: number of channels.
        block: rows a summary; a multiple of 4.
        weight: EWMA weight; smaller sees smaller, longer shifts.
        slack: CUSUM reference value in sd; half the shift to be found fastest.
        clip: in a batch with samples that are missing or overflow, those further out than this
            many sd count as this far.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scorer = FusedScorer(3, block=64).fit(rng.standard_normal((4096, 3)))
        >>> rows = rng.standard_normal((128, 3), dtype=np.float32)
        >>> rows[64:, 1] += 3
        >>> summary = scorer.score(rows)
        >>> bool(summary.up[1, 1] > 5 * summary.up[0, 1]), summary.ewma.shape
        (True, (2, 3))
    """

    channels: int
    block: int = 256
    weight: float = 0.1
    slack: float = 0.5
    clip: float = 1e6
    _learnt: dict[str, npt.NDArray[np.float64]] = field(init=False)
    _con: Floats = field(init=False)
    _state: Floats = field(init=False)
    _near: bool = field(init=False)

    def __post_init__(self) -> None:
        sound = 0 < self.weight <= 1 and self.slack >= 0 and self.clip > 0
        if self.channels < 1 or self.block < 4 or self.block % 4 or not sound:
            raise InputError(
                "the fused scorer cannot be laid out so",
                code="monitor-block",
                got=f"{self.channels} channels, block {self.block}, weight {self.weight},"
                f" slack {self.slack}, clip {self.clip}",
                expected="at least one channel, a block that is a multiple of 4, 0 < weight <= 1",
                fix="use block=256 and the other defaults",
            )
        c = self.channels
        self._take(np.zeros(c), np.ones(c), np.zeros((RANK, c)))

    @property
    def width(self) -> int:
        """Channels rounded up to whole vectors."""
        return -(-self.channels // LANES) * LANES

    def fit(self, rows: npt.ArrayLike) -> FusedScorer:
        """Learn centre, scale (robust) and the three leading components from rows in control.

        Missing samples tell nothing. Of a channel with fewer than 16 nothing is learnt (0, sd 1).
        """
        data = np.asarray(rows, dtype=np.float64)
        if data.ndim != 2 or data.shape[1] != self.channels or len(data) < LEAST:
            raise InputError(
                "the fused scorer needs rows in control to learn from",
                code="monitor-fit",
                got=str(data.shape),
                expected=f"(at least {LEAST}, {self.channels})",
                fix="pass calibration rows of the same channels",
            )
        known = np.abs(data) < NO_VALUE
        known &= known.sum(axis=0) >= LEAST
        centre, spread = np.zeros(self.channels), np.ones(self.channels)
        for c in np.flatnonzero(known.any(axis=0)):
            column = data[known[:, c], c]
            centre[c] = np.median(column)
            sd = 1.4826 * np.median(np.abs(column - centre[c]))
            spread[c] = sd if sd > 0 else max(column.std(), 1e-12)
        spread = np.maximum(spread, SMALLEST)
        z = np.clip((np.where(known, data, centre) - centre) / spread, -8, 8)
        _, vectors = np.linalg.eigh(np.cov(z, rowvar=False).reshape(self.channels, -1))
        lead = np.zeros((RANK, self.channels))
        leading = vectors[:, ::-1][:, : min(RANK, self.channels - 1)].T
        lead[: len(leading)] = leading
        self._take(centre, spread, lead)
        return self

    def _take(
        self,
        centre: npt.NDArray[np.float64],
        sd: npt.NDArray[np.float64],
        lead: npt.NDArray[np.float64],
    ) -> None:
        """Lay the constants out as the kernel wants them."""
        # Rounded as they were always stored, so that a released detector scores as when learnt.
        found = {"centre": centre, "sd": sd, "lead": lead}
        self._learnt = {n: a.astype(np.float32).astype(np.float64) for n, a in found.items()}
        centre, sd, lead = self._learnt.values()
        c, scale = self.channels, (1.0 / sd).astype(np.float32)
        self._near = bool((np.abs(centre) <= NEAR * sd).all())
        self._con = np.zeros((5 + RANK, self.width), np.float32)
        self._con[0, :c] = -centre * scale if self._near else -centre
        self._con[1, :c] = scale
        self._con[2] = 1.0 - self.weight
        self._con[3] = self.slack
        self._con[4] = 1.0 - self._con[2].astype(np.float64)
        self._con[5:, :c] = lead
        self._state = np.zeros(self.width, np.float32)

    def rest(self) -> None:
        """Forget the rows seen; what was learnt stays."""
        self._state[:] = 0.0

    def weights(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return what was learnt: centre, spread and the leading components."""
        return {name: array.copy() for name, array in self._learnt.items()}

    def load(self, weights: Mapping[str, npt.NDArray[Any]]) -> FusedScorer:
        """Take up what `weights` gave, instead of learning.

        Raises:
            InputError: it is of other channels, or no numbers.
        """
        c = self.channels
        shapes = {"centre": (c,), "sd": (c,), "lead": (RANK, c)}
        found = {name: weights.get(name) for name in shapes}
        right = all(
            a is not None
            and a.shape == shapes[n]
            and a.dtype.kind in "fiu"
            and (np.abs(a) < NO_VALUE).all()
            for n, a in found.items()
        )
        if not right or not (np.asarray(found["sd"]) >= SMALLEST).all():
            raise InputError(
                "the weights do not fit the fused scorer",
                code="monitor-fit",
                got=str({n: None if a is None else a.shape for n, a in found.items()}),
                expected=f"numbers below {NO_VALUE:g} of shapes {shapes}, spreads of at least"
                f" {SMALLEST:g}",
                fix="release the detector again",
            )
        centre, sd, lead = (np.asarray(a, np.float64) for a in found.values())
        self._take(centre, sd, lead)
        return self

    def score(self, rows: Floats) -> BlockSummary:
        """Score whole blocks; the EWMA carries over to the next call.

        Rows beyond the last whole block are refused: the caller keeps them for the next batch.
        """
        if rows.ndim != 2 or rows.shape[1] != self.channels or len(rows) % self.block:
            raise InputError(
                "rows do not make whole blocks",
                code="monitor-block-rows",
                got=str(rows.shape),
                expected=f"(a multiple of {self.block}, {self.channels})",
                fix="keep the remainder for the next batch",
            )
        data = np.ascontiguousarray(rows, dtype=np.float32)
        if self.width != self.channels:
            padded = np.zeros((len(data), self.width), np.float32)
            padded[:, : self.channels] = data
            data = padded
        blocks = len(data) // self.block
        c, w = self.channels, self.width
        out = np.empty((blocks, 3 * w + 2 * LANES), np.float32)
        missing = np.zeros((blocks, c), np.int64)
        start = self._state.copy()
        kernel = _kernel(w // LANES, 1 if self.block % 16 else 4, self._near)
        kernel(data, self._con, self._state, out, self.block)
        sums = out[:, 3 * w + LANES]
        if not np.isfinite(sums).all():
            self._state[:] = start
            data, missing = self._repaired(data, blocks)
            kernel(data, self._con, self._state, out, self.block)
        return BlockSummary(
            ewma=out[:, :c],
            up=out[:, w : w + c],
            down=out[:, 2 * w : 2 * w + c],
            q_max=out[:, 3 * w],
            q_mean=sums / np.float32(self.block),
            missing=missing,
            silent=missing == self.block,
        )

    def _repaired(self, data: Floats, blocks: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Put the centre where a sample is missing and clip what would overflow."""
        centre, limit = np.zeros((2, self.width), np.float32)
        centre[: self.channels] = self._learnt["centre"]
        limit[: self.channels] = np.minimum(self.clip * self._learnt["sd"], NO_VALUE)
        missing = ~(np.abs(data) < NO_VALUE)  # as infinity and NaN are
        data = np.clip(np.where(missing, centre, data), centre - limit, centre + limit)
        return data, missing.reshape(blocks, self.block, -1).sum(axis=1)[:, : self.channels]
