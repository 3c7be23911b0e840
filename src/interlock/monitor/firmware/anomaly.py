"""How unlike its baseline a binary is: triage only. Integrity rests on signature and measurement.

Byte histogram and windowed entropy, scored by distance in the baselines' own spread. A small patch
is invisible to it; `benchmarks/firmware_anomaly.py` prints the area under the curve by patch size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BinaryBaseline", "features"]

Floats = npt.NDArray[np.float64]
WINDOW = 1024


def features(data: bytes) -> Floats:
    """Return 256 byte shares and five quantiles of the entropy of 1 KiB windows.

    Example:
        >>> features(bytes(2048))[[0, 1, -1]].tolist()
        [1.0, 0.0, 0.0]
    """
    raw = np.frombuffer(data or b"\x00", np.uint8)
    share = np.bincount(raw, minlength=256) / len(raw)
    entropies = []
    for start in range(0, len(raw), WINDOW):
        part = np.bincount(raw[start : start + WINDOW], minlength=256)
        p = part[part > 0] / part.sum()
        entropies.append(max(0.0, float(-(p * np.log2(p)).sum())))
    return np.concatenate([share, np.quantile(entropies, [0.05, 0.25, 0.5, 0.75, 0.95])])


@dataclass(frozen=True, slots=True)
class BinaryBaseline:
    """The spread of features over released images."""

    centre: Floats
    scale: Floats

    @classmethod
    def learn(cls, images: list[bytes]) -> BinaryBaseline:
        """Learn from released images."""
        table = np.array([features(image) for image in images])
        return cls(table.mean(axis=0), table.std(axis=0) + 1e-4)

    def score(self, data: bytes) -> float:
        """Return the root mean squared distance in spreads; larger is stranger."""
        z = (features(data) - self.centre) / self.scale
        return float(np.sqrt(np.mean(z * z)))
