"""Errors of the interface, and the HTTP status of every error."""

from __future__ import annotations

from interlock.access.identity import UnauthenticatedError
from interlock.errors import (
    InputError,
    InterlockError,
    InternalError,
    RefusedError,
    StorageError,
    UsageError,
)

__all__ = ["ConflictError", "ForbiddenError", "LimitedError", "UnknownError", "status_of"]


class UnknownError(InputError):
    """There is no such thing, or it is another tenant's: both answer alike."""


class ForbiddenError(RefusedError):
    """The rules do not let this principal do this."""


class ConflictError(UsageError):
    """What was asked for contradicts what was done before."""


class LimitedError(InterlockError):
    """Too much was asked in too short a time.

    Attributes:
        retry_after_s: when to ask again.
    """

    exit_code = 13
    retry_after_s: float = 1.0


def status_of(error: InterlockError) -> int:
    """Return the HTTP status of an error.

    Example:
        >>> status_of(UnknownError("no such job", code="job-unknown"))
        404
    """
    by_class: tuple[tuple[type[InterlockError], int], ...] = (
        (UnknownError, 404),
        (UnauthenticatedError, 401),
        (ForbiddenError, 403),
        (RefusedError, 403),
        (LimitedError, 429),
        (ConflictError, 409),
        (InputError, 422),
        (UsageError, 400),
        (StorageError, 503),
        (InternalError, 500),
    )
    return next((status for cls, status in by_class if isinstance(error, cls)), 503)


def unknown(what: str, name: str) -> UnknownError:
    """Return the one answer for what is missing and for what is another tenant's."""
    return UnknownError(
        f"there is no such {what}",
        code=f"{what}-unknown",
        got=name[:80],
        expected=f"a {what} of your own tenant",
        fix="check the id",
    )
