"""What can be told of a Qiskit primitive or backend without running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qiskit.providers import BackendV2

__all__ = [
    "backend_of",
    "default_precision",
    "default_shots",
    "level_of",
    "name_of",
    "named",
    "seed_of",
]

DEFAULT_SHOTS = 1024
DEFAULT_PRECISION = 0.015625


def default_shots(sampler: Any) -> int:
    """Return the shots a sampler would use by itself."""
    candidates = (
        getattr(sampler, "default_shots", None),
        getattr(getattr(sampler, "options", None), "default_shots", None),
    )
    return next((int(c) for c in candidates if isinstance(c, int) and c > 0), DEFAULT_SHOTS)


def default_precision(estimator: Any) -> float | None:
    """Return the precision an estimator would use by itself, None for an exact one."""
    candidates = (
        getattr(estimator, "default_precision", None),
        getattr(getattr(estimator, "options", None), "default_precision", None),
    )
    found = (float(c) for c in candidates if isinstance(c, int | float) and c >= 0)
    return next(found, DEFAULT_PRECISION) or None


def backend_of(target: Any) -> Any:
    """Return the backend behind a primitive, or the primitive itself."""
    target = getattr(target, "interlock_wrapped", target)
    if isinstance(target, BackendV2):
        return target
    for name in ("backend", "_backend", "mode"):
        found = getattr(target, name, None)
        found = found() if callable(found) and not isinstance(found, BackendV2) else found
        if isinstance(found, BackendV2):
            return found
    return target


def name_of(target: Any) -> str:
    """Return the name of the backend behind a primitive."""
    return named(backend_of(target))


def named(backend: Any) -> str:
    """Return the name of a backend, or of its class."""
    name = getattr(backend, "name", None)
    return str(name) if isinstance(name, str) and name else backend.__class__.__name__


def seed_of(target: Any, backend: Any, options: Mapping[str, Any] = {}) -> int | None:
    """Return the seed the device will be given, as far as the SDK tells.

    Args:
        target: a primitive or backend.
        backend: the one behind it.
        options: run options.
    """
    places = (
        options.get("seed_simulator"),
        getattr(target, "seed", None),
        getattr(target, "_seed", None),
        getattr(getattr(target, "options", None), "seed_simulator", None),
        getattr(getattr(target, "_options", None), "seed_simulator", None),
        getattr(getattr(backend, "options", None), "seed_simulator", None),
    )
    for seed in places:
        if isinstance(seed, int) and not isinstance(seed, bool):
            return int(seed)
    return None


def level_of(target: Any, backend: Any) -> str:
    """Return the level of isolation a primitive, or the backend behind it, runs jobs at."""
    for place in (target, backend):
        level = getattr(place, "isolation_level", None)
        # Anybody can set an attribute; only our own runners are believed.
        ours = type(place).__module__.startswith("interlock.backends.")
        if ours and isinstance(level, str):
            return level
    return "none"
