"""The risk appetite: limits a named person signs, and overrides two named persons sign.

Both carry an Ed25519 and an ML-DSA-65 signature over the deterministic JSON of the body, with a
domain prefix; both must verify, against keys the home trusts by name.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from interlock.crypto import signing
from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError, PolicyError

__all__ = ["Appetite", "Override", "Window", "public_keys", "read_signers", "sign", "verify"]

ALGORITHMS = ("ed25519", "ml-dsa-65")
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e15)]


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many orders and how much notional in a rolling window.

    Attributes:
        seconds: length of the window.
        orders: most orders in it.
        notional: most notional in it.
    """

    seconds: Annotated[float, msgspec.Meta(gt=0, le=31 * 86400)]
    orders: Annotated[int, msgspec.Meta(ge=0)]
    notional: Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class Appetite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits.

    Attributes:
        format: format of the document.
        name: whose appetite it is.
        version: must rise; an older one is refused.
        windows: every window must hold.
        max_exposure: most gross exposure, sum of |position| x price.
        max_drawdown: most loss from the highest equity reported; beyond it only orders that
            shrink a position pass.
        overriders: names of those who may sign an override; two of them must.
        max_override_s: longest override.
        duplicate_s: an equal order (symbol, side, quantity, price) within this many seconds of one
            that was allowed is refused; 0 allows it.
        max_mark_age_s: while equity was never told, or longer ago than this, only orders that
            shrink a position pass; null trusts the last one for ever, and none as no loss.
        owners: who may sign the next appetite; empty for anyone who is trusted.
    """

    format: int = 1
    name: str
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    windows: Annotated[tuple[Window, ...], msgspec.Meta(min_length=1, max_length=8)]
    max_exposure: Positive
    max_drawdown: Positive
    overriders: tuple[str, ...] = ()
    max_override_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 3600.0
    duplicate_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    max_mark_age_s: Annotated[float, msgspec.Meta(gt=0, le=31 * 86400)] | None = None
    owners: tuple[str, ...] = ()


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A limit raised for a time.

    Attributes:
        format: format of the document.
        id: used once.
        appetite_version: the version it amends.
        limit: `max_exposure`, `max_drawdown`, `windows.0.orders`, `windows.0.notional`, ...
        value: the limit while it lasts.
        duration_s: how long, from the moment the governor takes it.
        reason: why.
    """

    format: int = 1
    id: Annotated[str, msgspec.Meta(min_length=8, max_length=64)]
    appetite_version: int
    limit: Annotated[
        str,
        msgspec.Meta(pattern=r"^(max_exposure|max_drawdown|windows\.[0-7]\.(orders|notional))$"),
    ]
    value: Annotated[float, msgspec.Meta(gt=0, le=1e15)]
    duration_s: Annotated[float, msgspec.Meta(gt=0, le=86400)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


Body = TypeVar("Body", Appetite, Override)


def _message(body: Appetite | Override, signer: str) -> bytes:
    kind = type(body).__name__.lower()
    head = f"interlock/{kind}/v1\n{signer}\n".encode()
    # 10 and 10.0 are one number: what is signed is what a reader will read.
    read: Appetite | Override = msgspec.json.decode(msgspec.json.encode(body), type=type(body))
    return head + msgspec.json.encode(read, order="deterministic")


def public_keys(keys: KeyStore, name: str) -> dict[str, str]:
    """Return the public keys of a person; makes the keys the first time."""
    return {
        algorithm: base64.b64encode(
            keys.signing_key(f"{name}.{algorithm}", algorithm).public_key().public_bytes_raw()
        ).decode()
        for algorithm in ALGORITHMS
    }


def sign(
    keys: KeyStore, name: str, body: Appetite | Override, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return `{"body", "signatures"}` with the signatures of a person added."""
    message = _message(body, name)
    mine = {
        algorithm: base64.b64encode(
            keys.signing_key(f"{name}.{algorithm}", algorithm).sign(message)
        ).decode()
        for algorithm in ALGORITHMS
    }
    return {"body": msgspec.to_builtins(body), "signatures": {**(others or {}), name: mine}}


def verify(
    document: Any, kind: type[Body], signers: Mapping[str, Mapping[str, str]], *, need: int
) -> tuple[Body, tuple[str, ...]]:
    """Return the body and who signed it.

    Every signature present must verify; `need` different trusted people, with different keys,
    must have signed.

    Raises:
        IntegrityError: a signature is wrong, or too few trusted people signed.
        PolicyError: the body is not of this kind.
    """
    try:
        body = msgspec.convert(document["body"], kind, strict=True)
        signatures = msgspec.convert(document["signatures"], dict[str, dict[str, str]])
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise PolicyError(
            f"this is no signed {kind.__name__.lower()}",
            code="appetite-format",
            got=str(error),
            expected="a document that `interlock governor sign` wrote",
            fix="see docs/how-to/govern-orders.md",
        ) from error
    trusted: list[str] = []
    seen: set[str] = set()
    for name, parts in sorted(signatures.items()):
        if name not in signers:
            continue
        for algorithm in ALGORITHMS:
            try:
                public = base64.b64decode(signers[name][algorithm], validate=True)
                signature = base64.b64decode(parts[algorithm], validate=True)
            except (KeyError, ValueError) as error:
                raise _unsigned(f"{name}: no {algorithm}", need) from error
            signing.verify(algorithm, public, signature, _message(body, name))
        if signers[name]["ed25519"] not in seen:
            seen.add(signers[name]["ed25519"])
            trusted.append(name)
    if len(trusted) < need:
        raise _unsigned(", ".join(trusted) or "nobody trusted", need)
    return body, tuple(trusted)


def _unsigned(got: str, need: int) -> IntegrityError:
    return IntegrityError(
        "the document is not signed by enough trusted people",
        code="appetite-unsigned",
        got=got,
        expected=f"{need} of the people in signers.json, with both signatures each",
        fix="let them sign it with `interlock governor sign`",
    )


def read_signers(path: Path) -> dict[str, dict[str, str]]:
    """Return the trusted public keys by name.

    Raises:
        PolicyError: the file is missing or wrong.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])
    except (OSError, msgspec.MsgspecError) as error:
        raise PolicyError(
            "the trusted signers cannot be read",
            code="appetite-signers",
            got=f"{path}: {error}",
            expected="name to public keys",
            fix="add people with `interlock governor trust`",
        ) from error
