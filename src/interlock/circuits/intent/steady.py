"""Gates that are nearly one with round angles, as that one.

Small rotations put between the gates of an attack change its outcome little and hide what it
computes from an exact analysis. Rounded away, they leave what was there before.
"""

from __future__ import annotations

import cmath
import math
from typing import TypeAlias

import numpy as np

from interlock.circuits.intent.gates import Gate, gate_of

__all__ = ["NEAR", "steadied", "steadied_pair"]

#: How far an angle may be from a round one, in rad: less than half of the smaller step.
NEAR = 0.09
#: Steps of round angles; those of a compiled x with four controls are multiples.
_POLAR, _PHASE = math.pi / 8, math.pi / 16

Small: TypeAlias = tuple[complex, complex, complex, complex]


def steadied(gate: Small) -> Small:
    """Return a single-qubit gate with each near-round Euler angle made round, up to a phase.

    Example:
        >>> [round(abs(x), 6) + 0.0 for x in steadied((1, -0.01j, -0.01j, 1))]
        [1.0, 0.0, 0.0, 1.0]
    """
    a, b, c, d = gate
    theta = _round(2 * math.atan2(abs(c), abs(a)), _POLAR)
    cos, sin = math.cos(theta / 2), math.sin(theta / 2)
    if sin < 1e-9:
        return 1, 0, 0, cmath.exp(1j * _round(cmath.phase(d) - cmath.phase(a), _PHASE))
    if cos < 1e-9:
        return 0, cmath.exp(1j * _round(cmath.phase(b) - cmath.phase(c), _PHASE)), 1, 0
    phi = _round(cmath.phase(c) - cmath.phase(a), _PHASE)
    lam = _round(cmath.phase(-b) - cmath.phase(a), _PHASE)
    left, right = cmath.exp(1j * phi), cmath.exp(1j * lam)
    return cos, -sin * right, sin * left, cos * left * right


def steadied_pair(gate: Gate) -> Gate | None:
    """Return a wider gate with its near-round phases made round; None where it is nearly nothing.

    Only a gate that is nearly diagonal is changed.
    """
    matrix = gate.matrix
    diagonal = np.diag(matrix)
    if np.abs(matrix - np.diag(diagonal)).max() > NEAR:
        return gate
    phases = np.angle(diagonal / diagonal[0])
    if np.abs(phases).max() < NEAR:
        return None
    rounded = np.array([_round(float(p), _PHASE) for p in phases])
    return gate_of(np.diag(np.exp(1j * rounded)))


def _round(angle: float, step: float) -> float:
    near = round(angle / step) * step
    return near if abs(angle - near) < NEAR else angle
