"""The named fields a filter looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from interlock.errors import InputError
from interlock.guard.control import Request
from interlock.guard.result import Result, Samples

__all__ = ["NOT_FINITE", "default_fields", "fields_of"]

#: Key that marks a NaN or an infinity in decoded fields.
NOT_FINITE = "not_finite"


def fields_of(request: Request) -> dict[str, Any]:
    """Return the decoded output of the request's current result, decoding it once.

    Raises:
        InputError: the decoder did not return a mapping of names to plain values.
    """
    key = f"fields/{request.branch}"
    if key not in request.shared:
        if request.result is None:
            raise InputError(
                "there is no result to decode",
                code="filter-no-result",
                got="nothing",
                expected="the result of the execute stage or of the baseline",
                fix="run the filter after the execution",
            )
        decode = request.decode
        raw = decode(request.result) if decode else default_fields(request.result)
        if not isinstance(raw, Mapping):
            raise InputError(
                "the decoder did not return named fields",
                code="filter-decode",
                got=type(raw).__name__,
                expected="a mapping such as {'energy': -1.1}",
                fix="return a dict from the decode function",
            )
        request.shared[key] = {str(k): plain(v) for k, v in raw.items()}
    fields: dict[str, Any] = request.shared[key]
    return fields


def plain(value: Any) -> Any:
    """Return a value as plain JSON: arrays become lists; a NaN becomes `{"not_finite": "nan"}`.

    JSON has no NaN, and a NaN that turned into null unseen could pass for "nothing wrong".
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NOT_FINITE: repr(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    raise InputError(
        "a decoded field is not a plain value",
        code="filter-decode",
        got=type(value).__name__,
        expected="numbers, text, lists or mappings of these",
        fix="convert it in the decode function",
    )


def default_fields(result: Result) -> dict[str, Any]:
    """Decode without a decoder: `values` and `errors` of estimates, `top` and `p_top` of samples.

    `values` holds all expectation values of the job; `top` the most frequent bit string of each
    parameter set (registers joined by a blank), `p_top` its share.
    """
    values: list[float] = []
    errors: list[float] = []
    top: list[str] = []
    share: list[float] = []
    for item in result.items:
        if isinstance(item, Samples):
            rows = list(zip(*item.registers.values(), strict=True))
            for row in rows:
                best = [max(sorted(counts), key=counts.__getitem__, default="") for counts in row]
                top.append(" ".join(best))
                part = [
                    counts[b] / max(sum(counts.values()), 1)
                    for counts, b in zip(row, best, strict=True)
                    if b
                ]
                share.append(min(part, default=0.0))
        else:
            values += [float(v) for v in item.values]
            errors += [float(e) for e in item.errors]
    fields: dict[str, Any] = {}
    if values:
        fields |= {"values": values, "errors": errors}
    if top:
        fields |= {"top": top, "p_top": share}
    return fields
