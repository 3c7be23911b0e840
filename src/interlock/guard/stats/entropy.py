"""Entropy of outputs, entanglement, and spikes in time: three things, never mixed.

Shannon entropy of the counts cannot tell a superposition from a decohered state: both read 1.
Entanglement needs the state, so it is a simulator's figure. A spike is a change in time of the
decision's entropy; it says that something changed, not what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

__all__ = ["SpikeTracker", "meyer_wallach", "miller_madow"]


def miller_madow(counts: Mapping[str, int], num_bits: int) -> float:
    """Return the normalised entropy of counts, with the Miller-Madow (1955) correction.

    Plug-in entropy is too low by about (outcomes seen - 1) / (2 shots) nats.

    Raises:
        ValueError: no shot or no bit.

    Example:
        >>> round(miller_madow({"0": 128, "1": 128}, 1), 3)
        1.0
    """
    total = sum(counts.values())
    if total <= 0 or num_bits < 1:
        raise ValueError("counts of at least one shot and one bit")
    plug_in = -sum(c / total * math.log(c / total) for c in counts.values() if c > 0)
    seen = sum(c > 0 for c in counts.values())
    return min(1.0, (plug_in + (seen - 1) / (2 * total)) / (num_bits * math.log(2)))


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


class SpikeTracker:
    """The exponentially weighted mean and deviation that a spike is measured against.

    Args:
        alpha: weight of the newest value.
        k: deviations that are no spike yet.
        warm_up: values before which nothing is a spike.
        floor: least deviation, so that a constant entropy does not make every change a spike.
    """

    def __init__(
        self, *, alpha: float = 0.1, k: float = 2.0, warm_up: int = 10, floor: float = 0.01
    ) -> None:
        if not 0 < alpha <= 1 or warm_up < 1 or floor <= 0:
            raise ValueError("0 < alpha <= 1, warm_up >= 1 and floor > 0")
        self.alpha, self.k, self.warm_up, self.floor = alpha, k, warm_up, floor
        self.mean, self.variance, self.seen = 0.0, 0.0, 0

    @property
    def state(self) -> tuple[float, float, int]:
        """Mean, variance and number of values seen; may be set to go on from a stored state."""
        return self.mean, self.variance, self.seen

    @state.setter
    def state(self, value: tuple[float, float, int]) -> None:
        self.mean, self.variance, self.seen = value

    def threshold(self) -> tuple[float, float] | None:
        """Return mean and deviation to measure against, or None while warming up."""
        if self.seen < self.warm_up:
            return None
        return self.mean, max(math.sqrt(self.variance), self.floor)

    def excess(self, entropy: float) -> float:
        """Return the spike of a value without taking it in."""
        if not math.isfinite(entropy):
            raise ValueError(f"an entropy of {entropy}")
        against = self.threshold()
        return 0.0 if against is None else max(0.0, (entropy - against[0]) / against[1] - self.k)

    def update(self, entropy: float) -> float:
        """Return the spike of a value, then take the value in.

        Example:
            >>> tracker = SpikeTracker(warm_up=3)
            >>> [round(tracker.update(h), 1) for h in (0.5, 0.5, 0.5, 0.5, 0.9)]
            [0.0, 0.0, 0.0, 0.0, 38.0]
        """
        spike = self.excess(entropy)
        step = self.alpha if self.seen else 1.0
        change = entropy - self.mean
        self.mean += step * change
        self.variance = (1 - step) * (self.variance + step * change * change)
        self.seen += 1
        return spike
