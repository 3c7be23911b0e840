"""Quality of anomaly scores: area under precision and recall, and its volume over buffers.

VUS-PR (Paparrizos et al., VLDB 2022): labels get soft edges of every width up to a limit, ranges
that were touched count as existing, and the areas are averaged, so that a score a little early or
late is not nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["soft_labels", "vus_pr"]

Floats = npt.NDArray[np.float64]


def soft_labels(labels: npt.NDArray[np.bool_], buffer: int) -> Floats:
    """Return labels with edges that fall off as sqrt(1 - distance / buffer).

    Example:
        >>> soft_labels(np.array([False, False, True, False]), 2).round(2).tolist()
        [0.0, 0.71, 1.0, 0.71]
    """
    out = labels.astype(float)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        for d in range(1, buffer):
            value = np.sqrt(1 - d / buffer)
            for k in (start - d, stop - 1 + d):
                if 0 <= k < len(out):
                    out[k] = max(out[k], value)
    return out


def vus_pr(
    scores: Floats,
    labels: npt.NDArray[np.bool_],
    *,
    buffer: int = 50,
    steps: int = 6,
    cuts: int = 200,
) -> float:
    """Return the volume under the precision-recall surface.

    Example:
        >>> labels = np.zeros(400, bool); labels[200:220] = True
        >>> round(vus_pr(soft_labels(labels, 10), labels, buffer=10), 3)
        0.998
        >>> round(vus_pr(labels * 1.0, labels, buffer=10), 3)
        0.892
    """
    if not labels.any():
        return float("nan")
    order = np.unique(np.linspace(0, len(scores) - 1, cuts).astype(int))
    thresholds = np.sort(scores)[::-1][order]
    areas = []
    for width in np.linspace(0, buffer, steps).astype(int):
        soft = soft_labels(labels, int(width))
        spans = np.flatnonzero(np.diff(np.concatenate([[0], (soft > 0).astype(int), [0]])))
        ranges = list(zip(spans[::2], spans[1::2], strict=True))
        positive = float(labels.sum() + soft.sum()) / 2
        recalls, precisions = [0.0], [1.0]
        for cut in thresholds:
            said = scores >= cut
            hit = float((said * soft).sum())
            existing = np.mean([said[a:b].any() for a, b in ranges])
            recalls.append(min(hit / positive, 1.0) * float(existing))
            precisions.append(hit / float(said.sum()))
        steps_r = np.diff(recalls)
        areas.append(float((steps_r * np.array(precisions[1:])).sum()))
    return float(np.mean(areas))
