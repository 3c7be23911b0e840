"""EWMA, two-sided CUSUM and PCA residual of every row in one pass over memory.

The pass returns one summary a block: per channel the peak of |EWMA|, of the upper and of the lower
CUSUM, and over channels the peak and the mean of the PCA residual Q (Jackson and Mudholkar 1979).
A block whose summary stands out is looked at again, row by row. Memory does not grow with rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = ["BlockSummary", "FusedScorer"]

Floats = npt.NDArray[np.float32]
LANES, RANK = 16, 3
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
    """Peaks of each block: `ewma`, `up`, `down` (blocks, channels) in sd; `q_max`, `q_mean`."""

    ewma: Floats
    up: Floats
    down: Floats
    q_max: Floats
    q_mean: Floats
    missing: npt.NDArray[np.int64]

    def features(self) -> npt.NDArray[np.float64]:
        """Return (blocks, 2 * channels + 1): EWMA peak, larger CUSUM peak, mean Q, in logs."""
        parts = (self.ewma, np.maximum(self.up, self.down), self.q_mean[:, None])
        return np.log(np.concatenate(parts, axis=1).astype(np.float64) + 1e-6)


@dataclass(slots=True)
class FusedScorer:
    """Screens rows of up to 4096 channels; fitted once on data in control.

    Args:
        channels: number of channels.
        block: rows a summary; a multiple of 4.
        weight: EWMA weight; smaller sees smaller, longer shifts.
        slack: CUSUM reference value in sd; half the shift to be found fastest.
        clip: samples further out than this many sd count as this far.

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
        if self.channels < 1 or self.block < 4 or self.block % 4:
            raise InputError(
                "the fused scorer cannot be laid out so",
                code="monitor-block",
                got=f"{self.channels} channels, block {self.block}",
                expected="at least one channel and a block that is a multiple of 4",
                fix="use block=256",
            )
        c = self.channels
        self._take(np.zeros(c), np.ones(c), np.zeros((RANK, c)))

    @property
    def width(self) -> int:
        """Channels rounded up to whole vectors."""
        return -(-self.channels // LANES) * LANES

    def fit(self, rows: npt.ArrayLike) -> FusedScorer:
        """Learn centre, scale (robust) and the three leading components from rows in control."""
        data = np.asarray(rows, dtype=np.float64)
        if data.ndim != 2 or data.shape[1] != self.channels or len(data) < 16:
            raise InputError(
                "the fused scorer needs rows in control to learn from",
                code="monitor-fit",
                got=str(data.shape),
                expected=f"(at least 16, {self.channels})",
                fix="pass calibration rows of the same channels",
            )
        data = data[np.isfinite(data).all(axis=1)]
        centre = np.median(data, axis=0)
        spread = 1.4826 * np.median(np.abs(data - centre), axis=0)
        spread = np.where(spread > 0, spread, np.maximum(data.std(axis=0), 1e-12))
        spread = np.maximum(spread, SMALLEST)
        z = np.clip((data - centre) / spread, -8, 8)
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
        self._state = np.zeros((3, self.width), np.float32)

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
            a is not None and a.shape == shapes[n] and np.isfinite(a).all()
            for n, a in found.items()
        )
        if not right or not (np.asarray(found["sd"]) >= SMALLEST).all():
            raise InputError(
                "the weights do not fit the fused scorer",
                code="monitor-fit",
                got=str({n: None if a is None else a.shape for n, a in found.items()}),
                expected=f"finite numbers of shapes {shapes}, spreads of at least {SMALLEST:g}",
                fix="release the detector again",
            )
        centre, sd, lead = (np.asarray(a, np.float64) for a in found.values())
        self._take(centre, sd, lead)
        return self

    def score(self, rows: Floats) -> BlockSummary:
        """Score whole blocks; state carries over to the next call.

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
        missing = np.zeros(blocks, np.int64)
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
        )

    def _repaired(self, data: Floats, blocks: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Put the centre where a sample is missing and clip what would overflow."""
        centre, limit = np.zeros((2, self.width), np.float32)
        centre[: self.channels] = self._learnt["centre"]
        limit[: self.channels] = self.clip * self._learnt["sd"]
        missing = np.isnan(data)
        data = np.clip(np.where(missing, centre, data), centre - limit, centre + limit)
        return data, missing.reshape(blocks, -1).sum(axis=1)
