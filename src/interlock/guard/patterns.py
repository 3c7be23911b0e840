"""Which entry of a mapping of name patterns counts for a name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

__all__ = ["best_match"]

T = TypeVar("T")


def best_match(name: str, patterns: Mapping[str, T]) -> T | None:
    """Return the entry whose pattern says most about a name, or None when none fits.

    The name itself comes first, then the pattern with the most literal characters. The order of
    the mapping does not count: a signed bundle is canonical JSON, whose keys are sorted.

    Example:
        >>> best_match("ibm_kyiv", {"*": 1, "ibm_*": 2, "ibm_kyiv": 3}), best_match("aer", {"*": 1})
        (3, 1)
    """
    fitting = [p for p in patterns if p == name or fnmatchcase(name, p)]
    if not fitting:
        return None
    best = min(fitting, key=lambda p: (p != name, sum(c in "*?[]" for c in p) - len(p), p))
    return patterns[best]
