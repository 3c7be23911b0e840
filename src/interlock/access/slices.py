"""The rules that can matter to a question; Cedar looks at each rule it is given.

A rule whose scope names another action, or a role that the principal does not have, does not apply
whatever its conditions say, and Cedar does not evaluate them. What is not understood here is kept,
so that a slice gives the same ruling, in the same words, as all rules together.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

__all__ = ["Slices"]

_ROLE = "Interlock::Role"
_ACTION = "Interlock::Action"


class Slices:
    """Rules, in parts.

    Args:
        cedar: the module cedarpy.
        rules: Cedar policies.
        groups: whether the schema may put actions into groups.
    """

    def __init__(self, cedar: Any, rules: str, *, groups: bool) -> None:
        self._cedar = cedar
        self._whole = json.loads(cedar.policies_to_json_str(rules))
        self._groups = groups
        self.of = lru_cache(maxsize=1024)(self._of)

    def _of(self, action: str, roles: frozenset[str]) -> Any:
        """Return the rules that can apply to an action by whoever has these roles."""
        kept = {
            name: rule
            for name, rule in self._whole["staticPolicies"].items()
            if self._names(rule["action"], action) and _has(rule["principal"], roles)
        }
        return self._cedar.PolicySet.from_json_str(
            json.dumps({**self._whole, "staticPolicies": kept})
        )

    def _names(self, scope: dict[str, Any], action: str) -> bool:
        asked = {"type": _ACTION, "id": action}
        if scope["op"] == "==":
            return bool(scope.get("entity", asked) == asked)
        if scope["op"] == "in" and not self._groups:
            return asked in scope.get("entities", [scope.get("entity", asked)])
        return True


def _has(scope: dict[str, Any], roles: frozenset[str]) -> bool:
    """Whether who has these roles can be in the scope of a rule's principal."""
    named = scope.get("in", scope) if scope["op"] in ("in", "is") else {}
    entity = named.get("entity", {})
    return entity.get("type") != _ROLE or entity.get("id") in roles
