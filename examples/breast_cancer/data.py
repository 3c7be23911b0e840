"""The data both models see: four features in the range of a rotation angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

QUBITS = 4


@dataclass(frozen=True)
class Sets:
    """Rows are tumours; labels are +1 (malignant) and -1 (benign)."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load() -> Sets:
    """Return the split; the reduction is fitted on the training part alone."""
    raw = load_breast_cancer()
    labels = 1 - 2 * raw.target
    train_x, test_x, train_y, test_y = train_test_split(
        raw.data, labels, test_size=0.3, random_state=11, stratify=labels
    )
    reduce = make_pipeline(StandardScaler(), PCA(QUBITS, random_state=0), StandardScaler())
    reduce.fit(train_x)

    def angles(rows: np.ndarray) -> np.ndarray:
        return np.pi / 2 + np.arctan(reduce.transform(rows))

    return Sets(angles(train_x), train_y, angles(test_x), test_y)
