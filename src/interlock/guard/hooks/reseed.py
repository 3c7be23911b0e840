"""An SDK's own simulator as a classical baseline: it must draw the same each time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from interlock.guard.hooks.sdk_classes import is_sdk

__all__ = ["repeatable"]

SEED = 0


def repeatable(simulator: Any) -> Any:
    """Return a copy of an SDK's simulator that draws the same each time it answers.

    Cirq's and PennyLane's go on drawing from one generator, also when given a seed, and Braket's
    takes none. What is not an SDK's own is returned as it is, and so is a whole-number seed that
    the SDK honours. Where this finds nothing to seed, the control `baseline` sees that the answers
    differ.
    """
    if not is_sdk(type(simulator)):
        return simulator
    made = copy.copy(simulator)
    known = vars(made)
    if "_prng" in known:  # Cirq
        made._prng = np.random.RandomState(SEED)
    if "_rng" in known:  # PennyLane
        made._rng = np.random.default_rng(SEED)
    if "_seed" in known and not isinstance(known["_seed"], int):  # Qiskit's primitives, Aer's
        made._seed = SEED
    if "_delegate" in known:  # Braket
        made._delegate = _seeded(known["_delegate"])
    if hasattr(known.get("_options"), "seed_simulator") and made._options.seed_simulator is None:
        made._options = copy.copy(made._options)  # Aer's backend
        made._options.seed_simulator = SEED
    return made


def _seeded(delegate: Any) -> Any:
    made = copy.copy(delegate)
    begin = made.initialize_simulation

    def initialize_simulation(**options: Any) -> Any:
        simulation = begin(**options)
        simulation._rng_generator = np.random.default_rng(SEED)
        return simulation

    made.initialize_simulation = initialize_simulation
    return made
