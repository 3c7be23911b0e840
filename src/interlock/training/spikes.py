"""Entropy spikes of a decision register, as something to watch and, if you must, to penalise.

Experimental. As a penalty it has cost accuracy, so its weight is 0 unless you raise it. Three
quantities are kept apart, because none stands for another: the output entropy (of the measured
distribution; a decohered state and a uniform superposition both read 1), the entanglement
(Meyer and Wallach, 2002; pure states only), and the spike, `max(0, (H - EWMA) / sigma - k)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interlock.guard.stats.entropy import SpikeTracker, miller_madow

__all__ = [
    "EntropySpikeLoss",
    "SpikeReport",
    "SpikeTracker",
    "Weight",
    "linear_schedule",
    "meyer_wallach",
    "miller_madow",
    "output_entropy",
    "weight_at",
]

#: A weight, or a schedule: the weight as a function of the step.
Weight = float | Callable[[int], float]


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


def linear_schedule(start: int, end: int, weight: float) -> Callable[[int], float]:
    """Return a weight that rises from 0 at step `start` to `weight` at step `end`.

    Example:
        >>> [linear_schedule(0, 10, 1.0)(s) for s in (0, 5, 20)]
        [0.0, 0.5, 1.0]
    """
    return lambda step: weight * min(1.0, max(0.0, (step - start) / max(1, end - start)))


def weight_at(weight: Weight, step: int) -> float:
    """Return the weight a schedule, or a plain number, gives a step.

    Raises:
        ValueError: it is negative, which would reward spikes, or no finite number.
    """
    value = float(weight(step) if callable(weight) else weight)
    if not 0 <= value < math.inf:
        raise ValueError(f"a weight of {value} at step {step}, expected 0 or a positive number")
    return value


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
        weight: Weight = 0.0,
        *,
        tracker: SpikeTracker | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.tracker = tracker or SpikeTracker()
        self.step = 0
        self.report: SpikeReport | None = None

    def get_extra_state(self) -> dict[str, Any]:
        """Return step and baseline, so that a checkpoint goes on with its schedule."""
        return {"step": self.step, "tracker": list(self.tracker.state)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        mean, variance, seen = state["tracker"]
        self.step = int(state["step"])
        self.tracker.state = float(mean), float(variance), int(seen)

    def forward(self, probabilities: Tensor, state: Tensor | None = None) -> Tensor:
        """Return `weight * spike` of the batch's mean entropy; `report` has the parts.

        Args:
            probabilities: distributions of the decision register, shape (batch, outcomes).
            state: amplitudes, shape (batch, 2**n), to report entanglement.
        """
        entropy = output_entropy(probabilities).mean()
        weight = weight_at(self.weight, self.step)
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
