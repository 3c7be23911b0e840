"""What keeps tenants apart beyond their jobs: the policy they are shown, the share they may take.

Who may `administer` every tenant is the operator; the others see and change what is their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.gateway.errors import ForbiddenError
from interlock.gateway.rows import Tenant

if TYPE_CHECKING:
    from interlock.access.identity import Identity
    from interlock.gateway.service import Gateway

__all__ = ["EVERY", "METRICS", "may_give", "may_measure", "own_policy"]

#: Asked about instead of a tenant: who may administer this may administer any.
EVERY = "(every tenant)"
#: Scope of a key that may read the metrics, and nothing else.
METRICS = "metrics"
_SHARES = ("weight", "max_running", "max_queued", "rate", "burst")
#: Lists of principals, whose tenant is `local` where none is given.
_PEOPLE = ("members", "approvers")


def _foreign(value: Any, tenant: str, default: str = "") -> bool:
    return isinstance(value, dict) and value.get("tenant", default) not in ("", tenant)


def own_policy(document: Any, tenant: str, name: str = "") -> Any:
    """Return a policy without the people and backends of other tenants.

    Example:
        >>> own_policy({"members": [{"id": "a", "tenant": "n"}, {"id": "b", "tenant": "s"}]}, "n")
        {'members': [{'id': 'a', 'tenant': 'n'}]}
    """
    if isinstance(document, dict):
        kept = {k: v for k, v in document.items() if not _foreign(v, tenant)}
        return {k: own_policy(v, tenant, str(k)) for k, v in kept.items()}
    if isinstance(document, list | tuple):
        default = "local" if name in _PEOPLE else ""
        return [own_policy(v, tenant) for v in document if not _foreign(v, tenant, default)]
    return document


def _tenants(document: Any, name: str = "") -> set[str]:
    """Return the tenants that the people of a policy belong to."""
    if isinstance(document, dict):
        return set().union(*(_tenants(v, str(k)) for k, v in document.items()))
    if isinstance(document, list | tuple):
        if name in _PEOPLE:
            return {str(v.get("tenant", "local")) for v in document if isinstance(v, dict)}
        return set().union(*(_tenants(v) for v in document))
    return set()


def may_give(gateway: Gateway, who: Identity, before: Tenant, after: Tenant) -> None:
    """Raise when somebody gives a tenant more than it has, and is not who shares out.

    Where the policy knows one tenant alone, its own administrator shares out.

    Raises:
        ForbiddenError: only the operator may.
    """
    more = [f for f in _SHARES if getattr(after, f) > getattr(before, f)]
    more += ["windows"] if set(map(tuple, before.windows)) - set(map(tuple, after.windows)) else []
    if not more or _tenants(gateway.policy.document) <= {after.name}:
        return
    if not gateway.allowed(who, "administer", tenant=EVERY):
        gateway.record("access", who, {"action": "administer", "outcome": "DENY"}, wait=False)
        gateway.count("refused", "administer")
        raise ForbiddenError(
            "a tenant does not give itself a larger share",
            code="tenant-share",
            got=f"more {', '.join(more)} for {after.name}",
            expected="at most what it has, from who does not administer every tenant",
            fix="ask the operator",
        )


def may_measure(gateway: Gateway, who: Identity) -> None:
    """Raise unless somebody may see figures of all tenants together.

    Raises:
        ForbiddenError: neither an operator nor a key with the scope `metrics`.
    """
    if who.method != "key" or METRICS not in who.scopes:
        gateway.require(who, "administer", tenant=EVERY)
