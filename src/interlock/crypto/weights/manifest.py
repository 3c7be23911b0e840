"""Signing a folder of weights, and refusing every folder that is not exactly what was signed.

The statement is in-toto with the predicate of model-signing
(`https://model_signing/signature/v1.0`), so that its readers can read it; Interlock's own facts
(version, parent, data, statistics) are in the field `interlock` of the predicate, which they
ignore. The envelope is DSSE with Ed25519 and ML-DSA-65, both required, in `interlock.sig.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.crypto import dsse, files
from interlock.crypto.weights.formats import check_bytes, kind_of
from interlock.errors import InputError, IntegrityError, InterlockError

__all__ = ["SIGNATURE_FILE", "Signed", "read_verified", "sign_folder", "verify_folder"]

SIGNATURE_FILE = "interlock.sig.json"
_KIND = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_MAX_FILES = 10_000
#: Of a signature: room for the digests of that many files, with long names.
_MAX_SIGNATURE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a verified folder says of itself.

    Attributes:
        name: of the model.
        version: whole number; a loader refuses one lower than it has seen.
        parent: id of the checkpoint before, or None for the first.
        id: SHA-256 of the signed statement; what a child names as its parent.
        root: SHA-256 over the file digests, as model-signing computes it.
        digests: file name -> SHA-256.
        facts: what else was signed (data hash, update statistics, ...).
    """

    name: str
    version: int
    parent: str | None
    id: str
    root: str
    digests: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)


def sign_folder(
    folder: Path,
    signer: dsse.ArtefactSigner,
    *,
    name: str,
    version: int,
    parent: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Signed:
    """Sign the files of a folder; writes `interlock.sig.json` into it.

    Raises:
        InputError: a file is in no allowed format, is a link, or there are no weights.
    """
    digests = {}
    for path_name in _listing(folder):
        data = read_plain(folder / path_name)
        check_bytes(path_name, data)
        digests[path_name] = hashlib.sha256(data).hexdigest()
    if not any(kind_of(path_name) != "sidecar" for path_name in digests):
        raise _bad("no weights", f"{len(digests)} files in {folder}", "a safetensors or ONNX file")
    root = _root(digests)
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_FILE],
            },
            "resources": [
                {"name": path_name, "algorithm": "sha256", "digest": digest}
                for path_name, digest in digests.items()
            ],
            "interlock": {"v": 1, "version": version, "parent": parent, **(facts or {})},
        },
    }
    body = json.dumps(statement, sort_keys=True).encode()
    envelope = dsse.sign(_KIND, body, signer)
    files.write_private(folder / SIGNATURE_FILE, envelope.encode(), mode=0o644)
    return read_statement(body)


def read_statement(body: bytes) -> Signed:
    """Return what a signed statement says, after holding its digests against its root.

    Raises:
        InputError: it is not a statement of weights, or of a newer version.
    """
    try:
        statement = json.loads(body)
        predicate = statement["predicate"]
        facts = dict(predicate["interlock"])
        if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE):
            raise ValueError("another type of statement")
        if facts.pop("v") != 1:
            raise ValueError("another version of the format")
        resources = predicate["resources"]
        digests = {str(item["name"]): str(item["digest"]) for item in resources}
        if len(digests) != len(resources):
            raise ValueError("a file stands twice")
        if any(item["algorithm"] != "sha256" for item in resources):
            raise ValueError("a digest that is not SHA-256")
        (subject,) = statement["subject"]
        if subject["digest"]["sha256"] != _root(digests):
            raise ValueError("the digests do not lead to the root")
        version, parent = facts.pop("version"), facts.pop("parent")
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            raise ValueError(f"version {version!r}")
        return Signed(
            name=str(subject["name"]),
            version=version,
            parent=None if parent is None else str(parent),
            id=hashlib.sha256(body).hexdigest(),
            root=_root(digests),
            digests=digests,
            facts=facts,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad(
            "the statement", f"{type(error).__name__}: {error}", "what Interlock signs"
        ) from error


def verify_folder(
    folder: Path, public: Mapping[str, bytes], *, name: str | None = None, min_version: int = 0
) -> Signed:
    """Raise unless a folder holds exactly what was signed.

    Args:
        folder: the weights with their `interlock.sig.json`.
        public: trusted keys; both signatures must verify.
        name: the model expected, if any.
        min_version: the lowest version accepted.

    Raises:
        IntegrityError: a signature or digest is wrong, a file is missing or too many, the version
            is lower, the model is another.
        InputError: there is no signature, or a file is in a format that may not be loaded.
    """
    signed = read_signature(folder, public, name=name, min_version=min_version)
    for path_name in signed.digests:
        read_verified(folder, signed, path_name)
    return signed


def read_signature(
    folder: Path, public: Mapping[str, bytes], *, name: str | None = None, min_version: int = 0
) -> Signed:
    """Check everything but the contents of the files: signatures, version, names, formats."""
    raw = read_plain(folder / SIGNATURE_FILE, _MAX_SIGNATURE)
    signed = read_statement(dsse.verify(raw, public, _KIND))
    if name is not None and signed.name != name:
        raise _changed("these are the weights of another model", signed.name, name)
    if signed.version < min_version:
        raise IntegrityError(
            "these weights are older than weights already used",
            code="weights-rollback",
            got=f"version {signed.version}",
            expected=f"version {min_version} or later",
            fix="load the newest version; an older one has to be signed again as a new version",
        )
    present = set(_listing(folder))
    if missing := sorted(set(signed.digests) - present):
        raise _changed("files are missing", "no " + ", ".join(missing[:5]), "every signed file")
    if extra := sorted(present - set(signed.digests)):
        raise _changed("there are files that were not signed", ", ".join(extra[:5]), "no others")
    return signed


def read_verified(folder: Path, signed: Signed, path_name: str) -> bytes:
    """Return the bytes of a file if they are those that were signed, and of an allowed format.

    What is returned is what was checked: load from these bytes, not from the path again.
    """
    kind_of(path_name)
    data = read_plain(folder / path_name)
    digest = hashlib.sha256(data).hexdigest()
    if digest != signed.digests.get(path_name):
        raise _changed(f"{path_name} was changed", digest, signed.digests.get(path_name, "-"))
    check_bytes(path_name, data)
    return data


def read_plain(path: Path, max_bytes: int | None = None) -> bytes:
    """Read a plain file; links, devices and pipes are refused before they are read."""
    try:
        return files.read_plain(path, max_bytes=max_bytes, follow=False)
    except OSError as error:
        raise _bad(
            path.name, f"{type(error).__name__}: {error.strerror}", "a plain file"
        ) from error


def _listing(folder: Path) -> list[str]:
    found = []
    for root, directories, names in os.walk(folder, onerror=_unreadable):
        for entry in (*directories, *names):
            path = Path(root) / entry
            if path.is_symlink():
                raise _bad(str(path.relative_to(folder)), "a symbolic link", "a plain file")
        found += [(Path(root) / entry).relative_to(folder).as_posix() for entry in names]
        if len(found) > _MAX_FILES:
            raise _bad("the folder", "too many files", f"at most {_MAX_FILES}")
    found = sorted(name for name in found if name != SIGNATURE_FILE)
    for path_name in found:
        kind_of(path_name)
    return found


def _unreadable(error: OSError) -> None:
    raise files.storage_error(Path(str(error.filename)), error) from error


def _root(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(d) for d in digests.values())).hexdigest()


def _changed(message: str, got: str, expected: str) -> InterlockError:
    return IntegrityError(
        message,
        code="weights-changed",
        got=got,
        expected=expected,
        fix="do not load them; fetch the signed folder again",
    )


def _bad(what: str, got: str, expected: str) -> InputError:
    return InputError(
        f"{what}: these weights cannot be signed or checked",
        code="weights-unsigned",
        got=got,
        expected=expected,
        fix="sign the folder with `interlock weights sign`, or fetch it again",
    )
