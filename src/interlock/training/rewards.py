"""The entropy-spike penalty as a Gymnasium wrapper and as a TRL reward function. Experimental."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from interlock.training.spikes import SpikeTracker

__all__ = ["EntropySpikeWrapper", "trl_reward"]


class EntropySpikeWrapper(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Subtracts `weight * spike` from the reward and reports entropy and spike in `info`.

    Args:
        env: the environment; its `info` must hold the entropy of the decision that was taken.
        key: where in `info`.
        weight: 0 watches without changing the reward.
        tracker: what a spike is measured against; kept over episodes.
    """

    def __init__(
        self,
        env: Any,
        *,
        key: str = "decision_entropy",
        weight: float = 0.0,
        tracker: SpikeTracker | None = None,
    ) -> None:
        super().__init__(env)
        self._key, self._weight = key, weight
        self._tracker = tracker or SpikeTracker()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step; a missing or impossible entropy raises, it is not taken for calm."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        entropy = float(info[self._key])
        spike = self._tracker.update(entropy)
        info = {**info, "entropy_spike": spike, "raw_reward": reward}
        return observation, float(reward) - self._weight * spike, terminated, truncated, info


def trl_reward(
    *,
    weight: float = 0.0,
    column: str = "decision_entropy",
    entropy_of: Callable[[Any], float | None] | None = None,
    tracker: SpikeTracker | None = None,
) -> Callable[..., list[float | None]]:
    """Return a reward function for TRL's trainers: minus `weight * spike` for each completion.

    `None` leaves a completion out, as TRL understands it, when its entropy is not known.

    Args:
        weight: 0 watches without changing the reward.
        column: of the data set, with one entropy a completion.
        entropy_of: computes it from a completion instead, for instance by running the circuit the
            completion describes.
        tracker: what a spike is measured against.

    Example:
        >>> reward = trl_reward(weight=1.0, tracker=SpikeTracker(warm_up=1))
        >>> reward(completions=["a", "b", "c"], decision_entropy=[0.5, 0.5, None])
        [-0.0, -0.0, None]
    """
    against = tracker or SpikeTracker()

    def entropy_spike(
        completions: Sequence[Any],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        entropies = (
            columns.get(column) if entropy_of is None else [entropy_of(c) for c in completions]
        )
        if entropies is None or len(entropies) != len(completions):
            raise ValueError(f"the column {column!r} must have one entropy a completion")
        spikes = [
            against.update(float(h)) if h is not None and math.isfinite(float(h)) else None
            for h in entropies
        ]
        known = [s for s in spikes if s is not None]
        if log_metric is not None and known:
            log_metric("entropy_spike", sum(known) / len(known))
        return [None if s is None else -weight * s for s in spikes]

    return entropy_spike
