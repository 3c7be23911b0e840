"""Errors, by who is at fault.

Every error Interlock raises is an `InterlockError`. It carries a stable `code` that the docs
explain, and says what was wrong, what was got, what was expected and what to do next. Exceptions
of other libraries do not leave the package.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BackendError",
    "DeniedError",
    "HeldError",
    "InputError",
    "IntegrityError",
    "InterlockError",
    "InternalError",
    "PolicyError",
    "RefusedError",
    "SetupError",
    "StorageError",
    "UsageError",
]

DOCS = "docs/reference/errors.md"


class InterlockError(Exception):
    """Base of all errors.

    Args:
        message: what was wrong, one sentence.
        code: stable kebab-case identifier, listed in `docs/reference/errors.md`.
        got: what was found.
        expected: what would have been right.
        fix: what to do next.

    Attributes:
        receipt: the `Receipt`, when a guard has put the refusal on record.

    Example:
        >>> print(InputError("shots is not a number", code="input-shots", got="'ten'",
        ...                  expected="a whole number >= 1", fix="pass shots=1024").diagnostics())
        error[input-shots]: shots is not a number
          got:      'ten'
          expected: a whole number >= 1
          fix:      pass shots=1024
          docs:     docs/reference/errors.md#input-shots
    """

    exit_code: ClassVar[int] = 70

    def __init__(
        self,
        message: str,
        *,
        code: str,
        got: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.got = got
        self.expected = expected
        self.fix = fix
        self.receipt: Any = None
        # A script that catches nothing shows it under the traceback.
        self.add_note("\n".join(self.diagnostics().splitlines()[1:]) + f"\n  code:     {code}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error cross a process pool."""
        return _rebuilt, (type(self), self.message, self.__dict__)

    def diagnostics(self) -> str:
        """Return the whole error as lines for a person, without what would steer a terminal."""
        lines = [f"error[{self.code}]: {self.message}"]
        for label, value in (("got", self.got), ("expected", self.expected), ("fix", self.fix)):
            if value is not None:
                lines.append(f"  {label + ':':<9} {value}")
        lines.append(f"  docs:     {DOCS}#{self.code}")
        return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in "\n".join(lines))

    def as_dict(self) -> dict[str, str | None]:
        """Return the error for machines: the same fields as `diagnostics`."""
        return {
            "code": self.code,
            "message": self.message,
            "got": self.got,
            "expected": self.expected,
            "fix": self.fix,
            "docs": f"{DOCS}#{self.code}",
        }


def _rebuilt(kind: type[InterlockError], message: str, state: dict[str, Any]) -> InterlockError:
    error = kind(message, code=state["code"])
    error.__dict__.update(state)
    return error


class UsageError(InterlockError):
    """The caller used a command or function wrongly."""

    exit_code = 2


class PolicyError(InterlockError):
    """The policy file is wrong."""

    exit_code = 3


class InputError(InterlockError):
    """A circuit, parameter, result or file that came in is wrong."""

    exit_code = 4


class SetupError(InterlockError):
    """This machine lacks something: an extra, an isolation feature, a right."""

    exit_code = 5


class StorageError(InterlockError):
    """The disk or a database failed: full, locked, unreadable."""

    exit_code = 6


class IntegrityError(InterlockError):
    """Something signed, hashed or chained does not check out."""

    exit_code = 7


class BackendError(InterlockError):
    """A device, simulator or worker failed."""

    exit_code = 8


class RefusedError(InterlockError):
    """The guarded path did not release the job.

    Attributes:
        receipt: the `Receipt` of the refusal; `interlock explain` takes its id.
    """

    exit_code = 10
    receipt: Any = None


class DeniedError(RefusedError):
    """The guarded path refused the job."""


class HeldError(RefusedError):
    """The guarded path waits for a person's approval."""

    exit_code = 11


class InternalError(InterlockError):
    """Interlock itself is at fault."""

    exit_code = 70
