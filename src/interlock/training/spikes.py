"""Entropy spikes of a decision register, as something to watch and, if you must, to penalise.

Experimental. As a penalty it has cost accuracy, so its weight is 0 unless you raise it. Three
quantities are kept apart, because none stands for another: the output entropy (of the measured
distribution; a decohered state and a uniform superposition both read 1), the entanglement
(Meyer and Wallach, 2002; pure states only), and the spike, `max(0, (H - EWMA) / sigma - k)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = [
    "EntropySpikeLoss",
    "SpikeReport",
    "SpikeTracker",
    "linear_schedule",
    "meyer_wallach",
    "miller_madow",
    "output_entropy",
]


def output_entropy(probabilities: Tensor) -> Tensor:
    """Return the Shannon entropy of distributions, as a share of the largest possible.

    Args:
        probabilities: shape (..., outcomes), rows that sum to one.

    Example:
        >>> output_entropy(torch.full((1, 4), 0.25)).item()
        1.0
    """
    p = probabilities.clamp_min(1e-12)
    return -(p * p.log()).sum(-1) / math.log(probabilities.shape[-1])


def miller_madow(counts: Mapping[str, int], num_bits: int) -> float:
    """Return the normalised entropy of counts, with the Miller-Madow (1955) correction.

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


def meyer_wallach(state: Tensor) -> Tensor:
    """Return the entanglement Q of pure states, 0 for products, 1 for GHZ.

    Args:
        state: complex amplitudes, shape (batch, 2**n).

    Example:
        >>> ghz = torch.zeros(1, 8, dtype=torch.complex64); ghz[0, 0] = ghz[0, 7] = 2 ** -0.5
        >>> round(meyer_wallach(ghz).item(), 4)
        1.0
    """
    batch, size = state.shape
    n = size.bit_length() - 1
    purity = torch.zeros(batch, device=state.device)
    for qubit in range(n):
        split = state.reshape(batch, 2**qubit, 2, -1).transpose(1, 2).reshape(batch, 2, -1)
        rho = split @ split.conj().transpose(1, 2)
        purity = purity + (rho @ rho).diagonal(dim1=1, dim2=2).sum(-1).real
    return 2 * (1 - purity / n)


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

    def threshold(self) -> tuple[float, float] | None:
        """Return mean and deviation to measure against, or None while warming up."""
        if self.seen < self.warm_up:
            return None
        return self.mean, max(math.sqrt(self.variance), self.floor)

    def excess(self, entropy: float) -> float:
        """Return the spike of a value without taking it in."""
        against = self.threshold()
        return 0.0 if against is None else max(0.0, (entropy - against[0]) / against[1] - self.k)

    def update(self, entropy: float) -> float:
        """Return the spike of a value, then take the value in.

        Example:
            >>> tracker = SpikeTracker(warm_up=3)
            >>> [round(tracker.update(h), 1) for h in (0.5, 0.5, 0.5, 0.5, 0.9)]
            [0.0, 0.0, 0.0, 0.0, 38.0]
        """
        if not math.isfinite(entropy):
            raise ValueError(f"an entropy of {entropy}")
        spike = self.excess(entropy)
        step = self.alpha if self.seen else 1.0
        change = entropy - self.mean
        self.mean += step * change
        self.variance = (1 - step) * (self.variance + step * change * change)
        self.seen += 1
        return spike


def linear_schedule(start: int, end: int, weight: float) -> Callable[[int], float]:
    """Return a weight that rises from 0 at step `start` to `weight` at step `end`.

    Example:
        >>> [linear_schedule(0, 10, 1.0)(s) for s in (0, 5, 20)]
        [0.0, 0.5, 1.0]
    """
    return lambda step: weight * min(1.0, max(0.0, (step - start) / max(1, end - start)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeReport:
    """One step, the three quantities apart.

    Attributes:
        entropy: mean output entropy of the batch.
        entanglement: mean Meyer-Wallach Q, or None when no state was given.
        spike: excess in deviations, 0 when there is none.
        weight: weight the penalty had.
    """

    entropy: float
    entanglement: float | None
    spike: float
    weight: float


class EntropySpikeLoss(nn.Module):
    """A penalty on entropy spikes to add to a loss. Experimental; its weight is 0 by default.

    Args:
        weight: a number, or a function of the step.
        tracker: what a spike is measured against.
    """

    def __init__(
        self,
        weight: float | Callable[[int], float] = 0.0,
        *,
        tracker: SpikeTracker | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.tracker = tracker or SpikeTracker()
        self.step = 0
        self.report: SpikeReport | None = None

    def forward(self, probabilities: Tensor, state: Tensor | None = None) -> Tensor:
        """Return `weight * spike` of the batch's mean entropy; `report` has the parts.

        Args:
            probabilities: distributions of the decision register, shape (batch, outcomes).
            state: amplitudes, shape (batch, 2**n), to report entanglement.
        """
        entropy = output_entropy(probabilities).mean()
        weight = self.weight(self.step) if callable(self.weight) else self.weight
        against = self.tracker.threshold()
        if against is None:
            penalty = entropy * 0.0
        else:
            mean, deviation = against
            penalty = torch.relu((entropy - mean) / deviation - self.tracker.k)
        value = float(entropy.detach())
        with torch.no_grad():
            entangled = None if state is None else float(meyer_wallach(state).mean())
        # In evaluation the baseline stays as training left it.
        spike = self.tracker.update(value) if self.training else self.tracker.excess(value)
        self.report = SpikeReport(entropy=value, entanglement=entangled, spike=spike, weight=weight)
        self.step += self.training
        return weight * penalty
