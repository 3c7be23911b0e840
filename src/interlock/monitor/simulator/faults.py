"""Faults with ground truth, each a small function on a copy of the clean samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FAULTS", "Fault", "inject"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One injected fault: rows `start` to `stop` of the listed channels."""

    kind: str
    start: int
    stop: int
    channels: tuple[int, ...]


def _shift(part: Floats, size: float, _rng: np.random.Generator) -> Floats:
    return part + size


def _noise(part: Floats, size: float, rng: np.random.Generator) -> Floats:
    return part + rng.normal(0.0, size, part.shape)


def _frozen(part: Floats, _size: float, _rng: np.random.Generator) -> Floats:
    held: Floats = np.repeat(part[:1], len(part), axis=0)
    return held


def _spike(part: Floats, size: float, rng: np.random.Generator) -> Floats:
    return part + 4.0 * size * float(rng.choice([-1.0, 1.0]))


def _ramp(part: Floats, size: float, _rng: np.random.Generator) -> Floats:
    return part + np.linspace(0.0, 2.0 * size, len(part))[:, None]


def _replayed(part: Floats, _size: float, _rng: np.random.Generator) -> Floats:
    quarter = part[: max(1, len(part) // 4)]
    looped: Floats = np.tile(quarter, (5, 1))[: len(part)]
    return looped


def _radiation(part: Floats, size: float, rng: np.random.Generator) -> Floats:
    """A burst that hits all at once and decays, as in arXiv:2602.18388."""
    decay = np.exp(-np.arange(len(part)) / max(1.0, len(part) / 5.0))
    return part - 5.0 * size * rng.uniform(0.8, 1.2) * decay[:, None]


def _thermal(part: Floats, size: float, _rng: np.random.Generator) -> Floats:
    """A warm-up and a cool-down, shared by the channels."""
    phase = np.linspace(0.0, np.pi, len(part))
    return part + 2.0 * size * np.sin(phase)[:, None]


def _rotation(part: Floats, size: float, _rng: np.random.Generator) -> Floats:
    """Readout IQ rotation: pairs of channels (I, Q) turn by `size` * 0.3 rad."""
    angle = 0.3 * size
    out = part.copy()
    for k in range(0, part.shape[1] - 1, 2):
        i, q = part[:, k], part[:, k + 1]
        out[:, k] = np.cos(angle) * i - np.sin(angle) * q
        out[:, k + 1] = np.sin(angle) * i + np.cos(angle) * q
    return out


#: kind -> (function, default number of rows). The first five are the kinds recall is stated for.
FAULTS: dict[str, tuple[Callable[[Floats, float, np.random.Generator], Floats], int]] = {
    "shift": (_shift, 2000),
    "noise": (_noise, 2000),
    "frozen": (_frozen, 2000),
    "spike": (_spike, 3),
    "ramp": (_ramp, 2000),
    "clock-step": (_shift, 2000),
    "radiation": (_radiation, 500),
    "replayed": (_replayed, 2000),
    "rotation": (_rotation, 2000),
    "thermal": (_thermal, 4000),
}


def inject(
    clean: Floats,
    kind: str,
    start: int,
    *,
    channels: tuple[int, ...] = (0,),
    size: float = 2.0,
    rows: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> tuple[Floats, Fault]:
    """Return a copy of `clean` (rows, channels) with one fault, and what was done.

    Example:
        >>> data, fault = inject(np.zeros((10, 2)), "shift", 4, rows=3, channels=(1,))
        >>> data[:, 1].tolist()
        [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0]
        >>> fault.stop
        7
    """
    function, default = FAULTS[kind]
    stop = min(start + (rows if rows is not None else default), len(clean))
    out = clean.copy()
    columns = list(channels)
    out[start:stop, columns] = function(
        clean[start:stop, columns], size, np.random.default_rng(rng)
    )
    return out, Fault(kind=kind, start=start, stop=stop, channels=channels)
