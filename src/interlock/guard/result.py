"""The result of a job in a form that belongs to no SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Estimates", "Result", "Samples"]


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one circuit.

    Attributes:
        registers: register name -> one mapping of bit string (most significant bit first) to
            count for each parameter set.
        widths: register name -> number of bits.
        shots: shots for each parameter set.
    """

    registers: Mapping[str, Sequence[Mapping[str, int]]]
    widths: Mapping[str, int]
    shots: int


class Estimates(msgspec.Struct, frozen=True, kw_only=True):
    """Expectation values of one circuit, flattened.

    Attributes:
        values: one for each (parameter set, observable), in C order of the SDK's array.
        errors: standard error of each, as the device reported it.
        shape: shape of the SDK's array.
    """

    values: Sequence[float]
    errors: Sequence[float]
    shape: tuple[int, ...] = ()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came back.

    Attributes:
        items: one for each circuit of the job.
        native: the SDK's own result object, handed to the user only on release.
        seconds: time the execution took.
        seed: the seed the device was given, or None.
        level: isolation level it ran at, from `none` (the program's own process) to `confined`.
        extra: anything else worth recording, plain JSON values.
    """

    items: tuple[Samples | Estimates, ...]
    native: Any = None
    seconds: float = 0.0
    seed: int | None = None
    level: str = "none"
    extra: Mapping[str, Any] = {}
