"""A fused kernel as a released detector: learnt once on rows in control, checked, then only loaded.

The weights keep the names of the channels and the centre in full precision, so that they fit one
stream and no other, whatever reference its samples are sent against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.frames import Frame

__all__ = ["learn", "scorer_for"]

LEVEL, SHIFT_SD = 0.99, 3.0
LEAST_KNOWN = 0.5
#: Less than this is no detector: share of shifted blocks found, and of quiet ones told as odd.
LEAST_FOUND, MOST_FALSE = 0.9, 0.1
#: Further apart, in sd, the last third has another level than the first two.
MOST_DRIFT_SD = 0.5
Weights = dict[str, npt.NDArray[Any]]


def learn(
    rows: npt.NDArray[np.float64], channels: tuple[str, ...], *, block: int
) -> tuple[Weights, dict[str, float]]:
    """Return the weights of a fused kernel and the figures of its validation.

    Learnt on the first two thirds of the rows, validated on the rest, as it is and with a shift of
    three sd planted in one channel after the other.

    Args:
        rows: in control, one column a channel.
        channels: their names.
        block: rows a summary.

    Raises:
        InputError: too few rows, or the validation shows that it would be no use.
    """
    usable = len(rows) // 3 // block
    if rows.ndim != 2 or rows.shape[1] != len(channels) or usable < 20:
        raise InputError(
            "a detector needs more rows in control to learn from",
            code="monitor-fit",
            got=f"{rows.shape} rows and channels",
            expected=f"at least {60 * block} rows of {len(channels)} channels",
            fix="give a longer file, or a smaller --block",
        )
    known = np.isfinite(rows).mean(axis=0)
    if not (known > LEAST_KNOWN).all():
        raise InputError(
            "a channel has too few samples to learn from",
            code="monitor-fit",
            got=", ".join(n for n, share in zip(channels, known, strict=True) if share < 1)[:200],
            expected=f"samples in more than {LEAST_KNOWN:g} of its rows",
            fix="leave the channel out of the file, or mend its sensor",
        )
    centre = np.nanmedian(rows, axis=0)
    moved = (rows - centre).astype(np.float32)
    past, rest = moved[: 2 * usable * block], moved[2 * usable * block :][: usable * block]
    scorer = FusedScorer(len(channels), block=block).fit(past)
    usual = scorer.score(past).features()
    limit = np.quantile(usual, LEVEL, axis=0)
    false = float((scorer.score(rest).features() > limit).mean())
    spread, found = scorer.weights()["sd"], []
    drift = np.abs(np.nanmedian(rest, axis=0) - scorer.weights()["centre"]) / spread
    for c in range(len(channels)):
        shifted = rest.copy()
        shifted[:, c] += SHIFT_SD * spread[c]
        odd = scorer.score(shifted).features()[:, [c, len(channels) + c]]
        found.append((odd > limit[[c, len(channels) + c]]).any(axis=1).mean())
    validation = {
        "rows": float(len(rest)),
        "false_share": round(false, 4),
        "shift_found": round(float(min(found)), 4),
        "drift_sd": round(float(drift.max()), 4),
    }
    if not (false <= MOST_FALSE and min(found) >= LEAST_FOUND and drift.max() <= MOST_DRIFT_SD):
        raise InputError(
            "the validation run speaks against this detector; it was not released",
            code="monitor-validation",
            got=f"{false:.3f} of quiet blocks odd, {min(found):.3f} of shifted blocks found,"
            f" the level moved by {drift.max():.2f} sd",
            expected=f"at most {MOST_FALSE}, at least {LEAST_FOUND} and at most {MOST_DRIFT_SD} sd"
            " in each channel",
            fix="give rows in control: the last third has to look like the first two",
        )
    scorer.rest()
    weights = scorer.weights()
    weights["centre"] = weights["centre"] + centre
    return weights | {"channels": np.array(channels), "block": np.array(block)}, validation


def scorer_for(weights: Weights) -> Callable[[Frame], FusedScorer]:
    """Return what makes the scorer of a stream from released weights, given its first frame."""

    def make(frame: Frame) -> FusedScorer:
        names = tuple(str(n) for n in weights["channels"])
        if names != frame.spec.channels:
            raise InputError(
                "the detector was learnt on other channels",
                code="monitor-rows",
                got=", ".join(frame.spec.channels)[:200],
                expected=", ".join(names)[:200],
                fix="watch the stream it was learnt on, or release one for this stream",
            )
        reference = 0.0 if frame.reference is None else np.nan_to_num(frame.reference)
        scorer = FusedScorer(len(names), block=int(weights["block"]))
        return scorer.load(weights | {"centre": weights["centre"] - reference})

    return make
