"""What preflight finds: the rules by name, and one problem a rule and operation."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.circuits.canonical import Operation

__all__ = ["RULES", "Key", "Kind", "Problem", "Severity", "Sink"]

Severity: TypeAlias = Literal["error", "warning", "note"]
Kind: TypeAlias = Literal["sample", "estimate", "run"]

#: Rule -> severity by default. An error is what a device refuses or what cannot mean anything.
RULES: Final = MappingProxyType(
    {
        "width": "error",
        "gate": "error",
        "edge": "error",
        "direction": "error",
        "faulty-qubit": "error",
        "faulty-edge": "error",
        "unbound": "error",
        "not-finite": "error",
        "empty": "error",
        "no-measurement": "error",
        "measurement-in-estimate": "warning",
        "overwritten": "error",
        "unread-bit": "warning",
        "register-width": "warning",
        "mid-circuit": "error",
        "reuse": "warning",
        "dead-qubit": "warning",
        "unbounded-loop": "error",
        "condition-unset": "error",
        "delay-negative": "error",
        "not-unitary": "error",
        "repeated-barrier": "note",
    }
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a circuit.

    Attributes:
        rule: key of `RULES`.
        message: what is wrong.
        got: what was found.
        expected: what would have been right.
        fix: what to do next.
        instruction: number of the first instruction that has it, or None for the whole circuit.
        text: that instruction.
        count: instructions that have it.
    """

    rule: str
    message: str
    got: str
    expected: str
    fix: str
    instruction: int | None = None
    text: str = ""
    count: int = 1

    @property
    def location(self) -> str | None:
        """Where, for a person."""
        if self.instruction is None:
            return None
        return f"instruction {self.instruction}: {self.text}"


Key: TypeAlias = tuple[str, str]


class Sink:
    """Collects problems, one a (rule, subject).

    Attributes:
        found: the first of each.
        counts: how often each was found.
    """

    def __init__(self) -> None:
        self.found: dict[Key, Problem] = {}
        self.counts: dict[Key, int] = {}

    def add(
        self,
        rule: str,
        subject: str,
        message: str,
        *,
        got: str,
        expected: str,
        fix: str,
        at: tuple[int, Operation] | None = None,
    ) -> Key:
        """Keep the first problem of a rule and a subject, and count the others."""
        key = (rule, subject)
        if key in self.found:
            self.counts[key] += 1
            return key
        self.counts[key] = 1
        self.found[key] = Problem(
            rule=rule,
            message=message,
            got=got,
            expected=expected,
            fix=fix,
            instruction=at[0] if at else None,
            text=str(at[1]) if at else "",
        )
        return key

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, each problem with its count."""
        return tuple(
            msgspec.structs.replace(p, count=self.counts[key]) for key, p in self.found.items()
        )
