"""Entropy of outputs, entanglement, and spikes in time: three things, never mixed.

Shannon entropy of the counts cannot tell a superposition from a decohered state: both read 1.
Entanglement needs the state, so it is a simulator's figure. A spike is a change in time of the
decision's entropy; it says that something changed, not what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

__all__ = ["Spike", "meyer_wallach", "output_entropy", "spike"]


def output_entropy(counts: Mapping[str, int], width: int) -> float:
    """Normalised Shannon entropy of counts with the Miller-Madow correction, at most 1.

    Plug-in entropy is too low by about (outcomes seen - 1) / (2 shots) nats (Miller 1955).

    Example:
        >>> output_entropy({"00": 500, "11": 500}, 2) == 0.5 + 1 / 2000 / math.log(4)
        True
    """
    shots = sum(counts.values())
    if shots <= 0 or width <= 0:
        return 0.0
    seen = [n / shots for n in counts.values() if n > 0]
    nats = -sum(p * math.log(p) for p in seen) + (len(seen) - 1) / (2 * shots)
    return min(1.0, nats / (width * math.log(2)))


def meyer_wallach(state: np.ndarray) -> float:
    """Mean entanglement of each qubit with the rest, in [0, 1], of a pure state.

    Meyer and Wallach, J. Math. Phys. 43, 4273, in Brennen's form: 2 (1 - mean purity).

    Args:
        state: amplitudes, length 2**n, n >= 2.

    Example:
        >>> round(meyer_wallach(np.array([1, 0, 0, 1]) / np.sqrt(2)), 6)
        1.0
    """
    width = int(state.size).bit_length() - 1
    purities = []
    tensor = np.asarray(state, dtype=complex).reshape((2,) * width)
    for qubit in range(width):
        rows = np.moveaxis(tensor, qubit, 0).reshape(2, -1)
        reduced = rows @ rows.conj().T
        purities.append(float(np.real(np.trace(reduced @ reduced))))
    return 2 * (1 - sum(purities) / width)


class Spike(msgspec.Struct, frozen=True, kw_only=True):
    """Running mean and variance of a decision's entropy, and the spike of the last value."""

    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    value: float = 0.0


def spike(state: Spike, entropy: float, *, memory: float = 0.1, slack: float = 3.0) -> Spike:
    """Return the state after one more value; `value` is max(0, (H - mean) / sigma - slack).

    The first eight values only teach: there is nothing to compare them with.

    Example:
        >>> s = Spike()
        >>> for h in (0.2, 0.21) * 10:
        ...     s = spike(s, h)
        >>> s.value, spike(s, 0.9).value > 10
        (0.0, True)
    """
    away = entropy - state.mean
    sigma = math.sqrt(max(state.variance, 1e-6))
    value = max(0.0, away / sigma - slack) if state.seen >= 8 else 0.0
    weight = max(memory, 1 / (state.seen + 1))
    return Spike(
        mean=state.mean + weight * away,
        variance=(1 - weight) * (state.variance + weight * away * away),
        seen=state.seen + 1,
        value=value,
    )
