"""Primitives that simulate in this process: their jobs run on the guard's own thread, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from interlock.circuits.faces import of_sdk, patched
from interlock.guard import threads

__all__ = ["lane_of", "ran"]

#: Primitives whose `run` does nothing but check the pubs, which were checked before, and call
#: `_run` on a new thread.
_LOCAL = frozenset({
    ("interlock.backends.twins", "TwinSampler"),
    ("qiskit.primitives.statevector_estimator", "StatevectorEstimator"),
    ("qiskit.primitives.statevector_sampler", "StatevectorSampler"),
    ("qiskit_aer.primitives.estimator_v2", "EstimatorV2"),
    ("qiskit_aer.primitives.sampler_v2", "SamplerV2"),
})  # fmt: skip


def ran(target: Any, given: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Run pubs or circuits on a primitive or backend, and return its result.

    A thread costs an eighth of a small job of a simulator. Subclasses and patched primitives
    may do more in their `run`, so that is what is called.
    """
    # An estimator's `run` gives pubs without a precision its own.
    if _is_local(target) and all(getattr(pub, "precision", 0.0) is not None for pub in given):
        return target._run(list(given))
    return target.run(list(given), **options).result()


#: Aer runs one job of a process at a time, and the others hold the interpreter while they compute.
_LANE = threads.Lane()


def lane_of(target: Any, backend: Any) -> threads.Lane | None:
    """Return the lane of a primitive's jobs; None for one that can have several under way.

    Args:
        target: the primitive.
        backend: the one behind it.
    """
    own = getattr(getattr(backend, "options", None), "executor", None)
    return _LANE if own is None and _is_local(target) else None


def _is_local(target: Any) -> bool:
    kind: Any = type(target)
    return _direct(kind, getattr(kind, "run", None)) and not patched(target, ("run", "_run"))


@lru_cache(maxsize=64)
def _direct(kind: Any, run: Any) -> bool:
    """Whether a class is one of these, with the `run` it came with."""
    return (
        (kind.__module__, kind.__name__) in _LOCAL
        and of_sdk(kind, "interlock", "qiskit", "qiskit_aer")
        and getattr(run, "__module__", None) == kind.__module__
        and not getattr(run, "interlock_wrapper", False)
        and callable(getattr(kind, "_run", None))
    )
