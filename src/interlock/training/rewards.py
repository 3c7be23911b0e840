"""The entropy-spike penalty as a Gymnasium wrapper and as a TRL reward function. Experimental."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from interlock.training.spikes import SpikeTracker, Weight, weight_at

__all__ = ["EntropySpikeWrapper", "trl_reward"]


class EntropySpikeWrapper(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Subtracts `weight * spike` from the reward and reports entropy and spike in `info`.

    `info` then has `output_entropy`, `entropy_spike`, `spike_weight` and `raw_reward`; an
    `entanglement` the environment tells stays apart from them.

    Args:
        env: the environment; its `info` must hold the entropy of the decision that was taken.
        key: where in `info`.
        weight: a number, or a function of the steps taken; 0 watches without changing the reward.
        tracker: what a spike is measured against; kept over episodes.
    """

    def __init__(
        self,
        env: Any,
        *,
        key: str = "decision_entropy",
        weight: Weight = 0.0,
        tracker: SpikeTracker | None = None,
    ) -> None:
        super().__init__(env)
        self._key, self._weight, self._steps = key, weight, 0
        self._tracker = tracker or SpikeTracker()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step; a missing or impossible entropy raises, it is not taken for calm."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        entropy = float(info[self._key])
        spike = self._tracker.update(entropy)
        weight = weight_at(self._weight, self._steps)
        self._steps += 1
        info = {
            **info, "output_entropy": entropy, "entropy_spike": spike, "spike_weight": weight,
            "raw_reward": reward,
        }  # fmt: skip
        return observation, float(reward) - weight * spike, terminated, truncated, info


def trl_reward(
    *,
    weight: Weight = 0.0,
    column: str = "decision_entropy",
    entanglement_column: str = "entanglement",
    entropy_of: Callable[[Any], float | None] | None = None,
    tracker: SpikeTracker | None = None,
) -> Callable[..., list[float | None]]:
    """Return a reward function for TRL's trainers: minus `weight * spike` for each completion.

    `None` leaves a completion out, as TRL understands it, when its entropy is not known. Logged
    apart: the means of `output_entropy`, `entropy_spike` and, where it is told, `entanglement`.

    Args:
        weight: a number, or a function of the trainer's step (without a trainer, of the calls);
            0 watches without changing the reward.
        column: of the data set, with one entropy a completion.
        entanglement_column: of the data set; it is logged and changes no reward.
        entropy_of: computes it from a completion instead, for instance by running the circuit the
            completion describes.
        tracker: what a spike is measured against.

    Example:
        >>> reward = trl_reward(weight=1.0, tracker=SpikeTracker(warm_up=1))
        >>> reward(completions=["a", "b", "c"], decision_entropy=[0.5, 0.5, None])
        [-0.0, -0.0, None]
    """
    against = tracker or SpikeTracker()
    calls = itertools.count()

    def entropy_spike(
        completions: Sequence[Any],
        *,
        trainer_state: Any = None,
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
        if log_metric is not None:
            kept = [h for h, s in zip(entropies, spikes, strict=True) if s is not None]
            entangled = columns.get(entanglement_column) or ()
            _log(log_metric, output_entropy=kept, entropy_spike=spikes, entanglement=entangled)
        call = next(calls)
        step = call if trainer_state is None else int(trainer_state.global_step)
        now = weight_at(weight, step)
        return [None if s is None else -now * s for s in spikes]

    return entropy_spike


def _log(log_metric: Callable[[str, float], None], **quantities: Sequence[float | None]) -> None:
    """Log the mean of each quantity over the completions where it is known."""
    for name, values in quantities.items():
        known = [float(v) for v in values if v is not None]
        if known:
            log_metric(name, sum(known) / len(known))
