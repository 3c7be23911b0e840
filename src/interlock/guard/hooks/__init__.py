"""Guarded drop-ins for the SDKs' own objects. One adapter a file, registered by SDK name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from interlock import plugins
from interlock.access.dpop import Prover
from interlock.errors import InputError, SetupError, UsageError
from interlock.guard.events import tell_run
from interlock.guard.policy import Policy
from interlock.guard.remote import RemoteGuard
from interlock.guard.service import Guard
from interlock.types import Principal

__all__ = ["Adapter", "Options", "adapter_for", "guard"]

GROUP = "interlock.hooks"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a guarded drop-in needs to know besides the object it wraps.

    Attributes:
        guard: takes the jobs along the path.
        fallback: the classical baseline in the SDK's own idiom, or None.
        decode: turns the SDK's result into named fields for the filter, or None.
        labels: data labels of everything submitted.
    """

    guard: Guard | RemoteGuard
    fallback: Any = None
    decode: Callable[[Any], Mapping[str, Any]] | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a fallback that cannot answer, before any job needs it.

        Raises:
            InputError: code `fallback-kind`.
        """
        answers = callable(self.fallback) or any(
            hasattr(self.fallback, method) for method in ("run", "execute")
        )
        if self.fallback is not None and (not answers or isinstance(self.fallback, type)):
            raise InputError(
                "the fallback is neither a function nor an object that runs circuits",
                code="fallback-kind",
                got=f"{self.fallback!r:.80}",
                expected="a function from the circuits to one answer each, or a noiseless "
                "simulator of the same SDK",
                fix="see docs/how-to/fallback.md",
            )


class Adapter(Protocol):
    """What the module behind an entry point of `interlock.hooks` offers."""

    def wrap(self, target: Any, options: Options) -> Any:
        """Return a guarded object of the same kind as `target`."""
        ...


def adapter_for(target: Any) -> Adapter:
    """Find the adapter of the SDK an object belongs to, by the modules of its base classes.

    Raises:
        InputError: no adapter knows the object.
        SetupError: the adapter is there, but the SDK is not.
    """
    known = plugins.installed(GROUP)
    for cls in type(target).__mro__:
        root = cls.__module__.split(".")[0]
        if root in known:
            adapter: Adapter = plugins.load(GROUP, root)
            return adapter
    raise InputError(
        f"cannot guard a {type(target).__module__}.{type(target).__qualname__}",
        code="guard-unknown-object",
        got=type(target).__qualname__,
        expected="a sampler, estimator, backend or device of: " + ", ".join(known),
        fix="wrap the object that submits the jobs, not a circuit or a result",
    )


def guard(
    target: T,
    *,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    fallback: Any = None,
    decode: Callable[[Any], Mapping[str, Any]] | None = None,
    home: str | Path | None = None,
    principal: Principal | None = None,
    pipeline: str = "default",
    labels: tuple[str, ...] = (),
    url: str | None = None,
    token: str | Callable[[], str] | None = None,
    dpop: Prover | None = None,
    ca: str | Path | None = None,
    certificate: tuple[str, str] | None = None,
) -> T:
    """Return a drop-in of the same kind as `target` whose every job goes the guarded path.

    Results are the SDK's own; the receipt is in their metadata under `interlock`. A job the path
    refuses raises `DeniedError` or `HeldError`.

    Args:
        target: a sampler, estimator, backend or device.
        policy: a policy file, mapping or `Policy`; the shipped starter policy by default.
        fallback: the deterministic classical baseline: another primitive of the same kind, or a
            function from the circuits to a result.
        decode: turns the SDK's result into named fields that the filter and the governor look at.
        home: folder of ledger, state and keys; `$INTERLOCK_HOME` or `~/.interlock` by default.
        principal: who submits; the operating system's user by default.
        pipeline: name under which releases are counted and governed.
        labels: data labels of everything submitted.
        url: a gateway (`https://HOST:PORT` or `unix:/PATH`) that takes the jobs instead of this
            process, on its backend of the same name and under its own policy.
        token: bearer token or API key for the gateway, or a function that returns one.
        dpop: holder of the key that the token is bound to; see `interlock.access.dpop.Prover`.
        ca: file of the CAs to trust for the gateway.
        certificate: (chain, key) of a client certificate for the gateway.

    Raises:
        InputError: no adapter knows the object; `guard-policy`; `data-label`; `fallback-kind`.
        PolicyError: the policy is wrong.
        SetupError: an extra is missing; the message names it.
        StorageError: the home cannot be used.
    """
    if isinstance(target, type):
        raise InputError(
            "cannot guard a class",
            code="guard-unknown-object",
            got=target.__qualname__,
            expected="an object",
            fix=f"pass {target.__qualname__}(...) instead",
        )
    if getattr(target, "interlock_guarded", False):
        raise SetupError(
            "this object is guarded already",
            code="guard-twice",
            got=type(target).__qualname__,
            expected="an object that is not guarded",
            fix="guard it once",
        )
    if policy is not None and not isinstance(policy, Policy | Mapping | str | Path):
        raise InputError(
            "the policy is no policy",
            code="guard-policy",
            got=f"{policy!r:.80}",
            expected="a file name, a mapping, a Policy, or None for the starter policy",
            fix="make a file with `interlock policy init`",
        )
    if not isinstance(labels, tuple | list) or not all(isinstance(x, str) for x in labels):
        raise InputError(
            "the labels are no collection of texts",
            code="data-label",
            got=f"{labels!r:.80}",
            expected='a tuple or list of texts, such as ("sensitivity:confidential",)',
            fix="put a comma behind a single label",
        )
    made: Guard | RemoteGuard
    if url is not None:
        if (
            policy is not None
            or fallback is not None
            or decode is not None
            or principal is not None
        ):
            raise UsageError(
                "a gateway decides by its own policy",
                code="guard-url",
                got="url together with policy, fallback, decode or principal",
                expected="url with token, ca, certificate, pipeline and labels",
                fix="leave the others out",
            )
        made = RemoteGuard(
            url, token=token, dpop=dpop, ca=ca, certificate=certificate, pipeline=pipeline
        )
    else:
        made = Guard(policy=policy, home=home, principal=principal, pipeline=pipeline)
        tell_run(made)
    options = Options(
        guard=made,
        fallback=fallback,
        decode=decode,
        labels=tuple(labels),
    )
    guarded: T = adapter_for(target).wrap(target, options)
    return guarded
