"""Sub-PCA: the residual of sliding windows outside their leading components, for suspicious spans.

The strongest simple baseline of the TSB-AD study (Liu and Paparrizos, 2024). Too slow for every
row; the fused pass says where to look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = ["SubPca"]

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class SubPca:
    """Learns from one span of rows (n, channels), scores others.

    Args:
        window: rows a window.
        keep: share of variance the kept components explain.

    Example:
        >>> t = np.arange(3000.0)[:, None]
        >>> model = SubPca(window=32).fit(np.sin(t[:2000] / 5))
        >>> span = np.sin(t[2000:] / 5)
        >>> span[500:520] = 0.0
        >>> 480 <= int(model.score(span).argmax()) <= 540
        True
    """

    window: int = 64
    keep: float = 0.9
    _centre: Floats = field(init=False)
    _scale: Floats = field(init=False)
    _mean: Floats = field(init=False)
    _lead: Floats = field(init=False)

    def _windows(self, rows: Floats) -> Floats:
        z = (np.nan_to_num(rows) - self._centre) / self._scale
        view = np.lib.stride_tricks.sliding_window_view(z, self.window, axis=0)
        return np.ascontiguousarray(view).reshape(len(view), -1)

    def fit(self, rows: Floats) -> SubPca:
        """Learn the leading components of the windows.

        Raises:
            InputError: fewer rows than two windows.
        """
        if rows.ndim != 2 or len(rows) < 2 * self.window:
            raise InputError(
                "too few rows for Sub-PCA",
                code="monitor-fit",
                got=str(rows.shape),
                expected=f"at least {2 * self.window} rows of (n, channels)",
                fix="pass more rows, or a shorter window",
            )
        self._centre = np.nanmean(rows, axis=0)
        self._scale = np.nanstd(rows, axis=0) + 1e-9
        table = self._windows(rows)
        self._mean = table.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(table, rowvar=False))
        share = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
        count = int(np.searchsorted(share, self.keep)) + 1
        self._lead = vectors[:, ::-1][:, :count]
        return self

    def score(self, rows: Floats) -> Floats:
        """Return one score a row: the mean residual of the windows that hold it."""
        if len(rows) < self.window:
            return np.zeros(len(rows))
        table = self._windows(rows) - self._mean
        residual = table - (table @ self._lead) @ self._lead.T
        of_window = np.sqrt((residual**2).mean(axis=1))
        total = np.convolve(of_window, np.ones(self.window))
        count = np.convolve(np.ones(len(of_window)), np.ones(self.window))
        mean: Floats = total / count
        return mean
