"""The one place that imports numba, so that a missing extra says its name."""

from __future__ import annotations

from interlock.errors import SetupError

__all__ = ["njit"]

try:
    from numba import njit
except ImportError as error:
    raise SetupError(
        "telemetry detection needs numba",
        code="monitor-extra",
        got=str(error),
        expected="the extra `monitor`",
        fix="pip install 'interlock[monitor]'",
    ) from error
