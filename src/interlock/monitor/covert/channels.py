"""Legitimate pulse timing, and six published ways to hide bits in it.

Intervals in nanoseconds. IPTC: Cabuk, Brodley, Shields 2004. TRCTC: Cabuk 2006. MBCTC: Gianvecchio
et al. 2008. Jitterbug: Shah, Molina, Blaze 2006. Pair swap and LSB are quieter ones for pulses.
All are simulated: no cloud backend exposes pulse times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["CHANNELS", "embed", "legitimate"]

Floats = npt.NDArray[np.float64]
SCALE_NS = 1000.0
WINDOW_NS = 64.0


def legitimate(count: int, *, rng: np.random.Generator | int | None = None) -> Floats:
    """Return `count` intervals of honest control: lognormal, correlated by slow scheduling load.

    Example:
        >>> legitimate(3, rng=0).round().tolist()
        [971.0, 1072.0, 1132.0]
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng(rng)
    phi = 0.8
    start = rng.standard_normal() * phi
    load = lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], rng.standard_normal(count), zi=[start])[0]
    gaps: Floats = SCALE_NS * np.exp(0.12 * load + 0.06 * rng.standard_normal(count))
    return gaps


def _iptc(gaps: Floats, bits: npt.NDArray[np.int64], _rng: np.random.Generator) -> Floats:
    return np.full(len(gaps), SCALE_NS) * np.where(bits == 1, 0.8, 1.25)


def _trctc(gaps: Floats, bits: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    ordered = np.sort(gaps)
    half = len(gaps) // 2
    low, high = rng.choice(ordered[:half], len(gaps)), rng.choice(ordered[half:], len(gaps))
    return np.where(bits == 1, high, low)


def _mbctc(gaps: Floats, _bits: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    log = np.log(gaps)
    fitted: Floats = np.exp(rng.normal(log.mean(), log.std(), len(gaps)))
    return fitted


def _jitterbug(gaps: Floats, bits: npt.NDArray[np.int64], _rng: np.random.Generator) -> Floats:
    target = np.where(bits == 1, 0.0, WINDOW_NS / 2)
    return gaps + (target - gaps) % WINDOW_NS


def _pair_swap(gaps: Floats, bits: npt.NDArray[np.int64], _rng: np.random.Generator) -> Floats:
    out = gaps.copy()
    for k in range(0, len(gaps) - 1, 2):
        low, high = sorted((gaps[k], gaps[k + 1]))
        out[k], out[k + 1] = (high, low) if bits[k // 2] else (low, high)
    return out


def _lsb(gaps: Floats, bits: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Write one bit into the fine timing of 12 % of the pulses."""
    chosen = rng.random(len(gaps)) < 0.12
    return np.where(chosen, _jitterbug(gaps, bits, rng), gaps)


#: name -> (encoder, bits an interval)
Encoder = Callable[[Floats, npt.NDArray[np.int64], np.random.Generator], Floats]
CHANNELS: dict[str, tuple[Encoder, float]] = {
    "iptc": (_iptc, 1.0),
    "trctc": (_trctc, 1.0),
    "mbctc": (_mbctc, 1.0),
    "jitterbug": (_jitterbug, 1.0),
    "pair-swap": (_pair_swap, 0.5),
    "lsb": (_lsb, 0.12),
}


def embed(gaps: Floats, channel: str, *, rng: np.random.Generator | int | None = None) -> Floats:
    """Return intervals that carry random bits by a named channel."""
    rng = np.random.default_rng(rng)
    return CHANNELS[channel][0](gaps, rng.integers(0, 2, len(gaps)), rng)
