"""The signed policy bundle: limits and authorisation rules, one document, one hash, one signature.

A bundle is built from a folder: `policy.yaml` (the limits), `rules.cedar`, `members.yaml` (members,
roles, backends) and `tests.yaml` (the golden table). The rules become settings of
`admit.authorisation`, so that the policy's identity covers them and a replay has them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import rfc8785

from interlock.crypto import files, signing
from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError, InterlockError, PolicyError
from interlock.guard.policy import Policy, parse_yaml

__all__ = ["Bundle", "build", "is_bundle", "open_bundle", "public_keys", "read", "sign", "trust"]

ALGORITHMS = ("ed25519", "ml-dsa-65")
SUFFIX = ".bundle"
TRUST_FILE = "policy-keys.json"
_DOMAIN = b"interlock/policy-bundle/v1\n"
_VERSION = 1
_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A policy and its golden table.

    Attributes:
        document: the whole policy document, rules included.
        tests: rows of the golden table.
    """

    document: Mapping[str, Any]
    tests: tuple[Mapping[str, Any], ...]

    @property
    def body(self) -> bytes:
        """What is hashed and signed: RFC 8785 JSON of version, document and tests."""
        whole = {"version": _VERSION, "document": self.document, "tests": list(self.tests)}
        return rfc8785.dumps(json.loads(msgspec.json.encode(whole)))

    @property
    def sha256(self) -> str:
        """Identity of the bundle."""
        return hashlib.sha256(self.body).hexdigest()

    def policy(self, *, strict: bool = True) -> Policy:
        """Return the policy, checked and bound.

        Args:
            strict: raise when a control is not installed; else it is bound as missing and denies.

        Raises:
            PolicyError: a key, a value or a rule is wrong.
        """
        policy = Policy.from_document(self.document, strict=strict)
        for bound in policy.controls("admit"):
            if bound.id == "authorisation":
                from interlock.guard.admit.authorisation import authoriser_of

                authoriser_of(bound.settings)
        return policy


def is_bundle(path: Path) -> bool:
    """Whether a path is a bundle file or a folder that one is built from."""
    return path.suffix == SUFFIX or (path.is_dir() and (path / "policy.yaml").exists())


def build(folder: Path, *, strict: bool = True) -> Bundle:
    """Build a bundle from its folder; see `Bundle.policy` for `strict`.

    Raises:
        PolicyError: a file is missing or wrong.
    """
    document = _yaml(folder / "policy.yaml")
    tests = _yaml(folder / "tests.yaml") if (folder / "tests.yaml").exists() else []
    if not isinstance(document, dict) or not isinstance(tests, list):
        raise PolicyError(
            "the folder does not hold a policy",
            code="policy-not-a-mapping",
            got=str(folder),
            expected="policy.yaml with a mapping, tests.yaml with a list",
            fix="start from `interlock policy init DIR --starter research-group`",
        )
    rules = folder / "rules.cedar"
    if rules.exists():
        admit = document.setdefault("admit", {})
        settings: dict[str, Any] = {"rules": _text(rules)}
        if (folder / "members.yaml").exists():
            settings |= _yaml(folder / "members.yaml")
        if (folder / "schema.cedarschema").exists():
            settings["schema"] = _text(folder / "schema.cedarschema")
        if admit.get("authorisation"):
            raise PolicyError(
                "the rules stand in two places",
                code="policy-rules-twice",
                got="admit.authorisation has settings and rules.cedar exists",
                expected="the rules in rules.cedar and members.yaml alone",
                fix="write `authorisation: {}` in policy.yaml",
            )
        admit["authorisation"] = settings
    bundle = Bundle(document=document, tests=tuple(tests))
    bundle.policy(strict=strict)
    return bundle


def sign(bundle: Bundle, keys: KeyStore, name: str = "policy") -> bytes:
    """Return the bundle file: the body and both signatures."""
    signatures = []
    for algorithm in ALGORITHMS:
        key = keys.signing_key(f"{name}-{algorithm}", algorithm)
        signatures.append(
            {
                "algorithm": algorithm,
                "public": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
                "signature": base64.b64encode(key.sign(_DOMAIN + bundle.body)).decode(),
            }
        )
    body = json.loads(bundle.body)
    return json.dumps({"interlock_bundle": body, "signatures": signatures}, indent=1).encode()


def public_keys(keys: KeyStore, name: str = "policy") -> dict[str, str]:
    """Return the public keys of a signer, algorithm -> base64."""
    return {
        a: base64.b64encode(
            keys.signing_key(f"{name}-{a}", a).public_key().public_bytes_raw()
        ).decode()
        for a in ALGORITHMS
    }


def trust(home: Path, public: Mapping[str, str]) -> None:
    """Trust a signer of bundles in a home."""
    path = files.private_dir(home) / TRUST_FILE
    known = trusted(home)
    if dict(public) not in known:
        files.write_private(path, json.dumps([*known, dict(public)], indent=1).encode())


def trusted(home: Path) -> list[dict[str, str]]:
    """Return the signers that a home trusts."""
    raw = files.read_private(home / TRUST_FILE)
    if raw is None:
        return []
    try:
        return msgspec.json.decode(raw, type=list[dict[str, str]])
    except msgspec.DecodeError as error:
        raise _bad(f"{home / TRUST_FILE}: {error}", "restore the file") from error


def read(raw: bytes, signers: Sequence[Mapping[str, str]]) -> Bundle:
    """Check the signatures of a bundle file and return what it holds; nothing is run before.

    Args:
        raw: the file.
        signers: trusted signers; both signatures must be of the same one.

    Raises:
        IntegrityError: not signed by a trusted signer, or changed.
    """
    if len(raw) > _MAX_BYTES:
        raise _bad(f"{len(raw)} B", "build a smaller bundle")
    try:
        whole = json.loads(raw)
        body, signatures = whole["interlock_bundle"], whole["signatures"]
        given = {s["algorithm"]: (s["public"], s["signature"]) for s in signatures}
        version, document, tests = body["version"], body["document"], tuple(body["tests"])
        data = _DOMAIN + rfc8785.dumps(body)
    except (ValueError, KeyError, TypeError, RecursionError, rfc8785.CanonicalizationError) as err:
        raise _bad(f"{type(err).__name__}: {err}", "build it again") from err
    if version != _VERSION or set(body) != {"version", "document", "tests"}:
        raise _bad(f"version {version!r}", "build it with this version of Interlock")
    if set(given) != set(ALGORITHMS):
        raise _bad(f"signatures {sorted(given)}", "sign it with `interlock policy bundle`")
    for signer in signers:
        if all(signer.get(a) == given[a][0] for a in ALGORITHMS):
            break
    else:
        raise _bad("a signer that is not trusted here", "`interlock policy trust KEYS.json`")
    for algorithm, (public, signature) in given.items():
        try:
            pair = base64.b64decode(public), base64.b64decode(signature, validate=True)
        except (ValueError, TypeError) as error:
            raise _bad("a signature that is no base64", "build it again") from error
        signing.verify(algorithm, *pair, data)
    return Bundle(document=document, tests=tests)


def open_bundle(path: Path, home: Path) -> Bundle:
    """Open a signed bundle file, or build the bundle of a folder (for development and CI).

    Raises:
        IntegrityError: the signatures do not hold.
        PolicyError: the content is wrong.
    """
    if path.is_dir():
        return build(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return read(raw, trusted(home))


def _bad(got: str, fix: str) -> IntegrityError:
    return IntegrityError(
        "the policy bundle cannot be trusted",
        code="policy-bundle",
        got=got,
        expected="a bundle with both signatures of a signer this home trusts",
        fix=fix,
    )


def _unreadable(path: Path, error: Exception) -> InterlockError:
    return PolicyError(
        f"cannot read {path.name}",
        code="policy-unreadable",
        got=f"{type(error).__name__}: {error}",
        expected=f"a readable file at {path}",
        fix="check the path",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _yaml(path: Path) -> Any:
    parse: Callable[[str, str], Any] = parse_yaml
    return parse(_text(path), str(path))
