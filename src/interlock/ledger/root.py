"""The root of a ledger: two keys on a machine or medium without a network.

They sign what the ledger's machine wrote into a small text file, and nothing else: which
generation of signing keys, or which next root, of which ledger is put in force.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from interlock.crypto import files
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, UsageError
from interlock.ledger.rotation import ROOT_ALGORITHMS

__all__ = ["authorise", "by_root", "make_root", "parse_root"]

_PREFIXES = ("interlock/ledger/rotation/v1\n", "interlock/ledger/offline-root/v1\n")
_MAX_BYTES = 1 << 16


def make_root(folder: Path, keeper: str) -> str:
    """Make the keys of a root in a new folder and return the text with their public halves.

    Args:
        folder: on the machine or medium that stays offline.
        keeper: of the key-encryption key, see `interlock keys keep`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "the folder for the root holds something already",
            code="root-exists",
            got=str(folder),
            expected="a new or empty folder",
            fix="name another folder; nothing was overwritten",
        )
    try:
        store = KeyStore(folder)
        if keeper != "file":
            store.move_kek(keeper)
        lines = []
        for name in ROOT_ALGORITHMS:
            public = store.signing_key(f"root-{name}", name).public_key().public_bytes_raw()
            lines.append(f"{name}:{base64.b64encode(public).decode()}\n")
        text = "".join(lines)
        files.write_private(folder / "root.pub", text.encode(), mode=0o644)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # it was new, and is no root yet
        raise
    return text


def parse_root(text: str) -> dict[str, str]:
    """Return algorithm -> Base64 public key.

    Raises:
        InputError: it is not what `make_root` wrote.
    """
    try:
        pairs = [line.split(":", 1) for line in text.split()]
        found = dict(pairs)
        if len(pairs) != len(ROOT_ALGORITHMS) or sorted(found) != sorted(ROOT_ALGORITHMS):
            raise ValueError("not one key of each of " + ", ".join(ROOT_ALGORITHMS))
        for key in found.values():
            base64.b64decode(key, validate=True)
    except ValueError as error:
        raise InputError(
            "these are not the public keys of a root",
            code="root-keys",
            got=str(error),
            expected="root.pub, as `interlock ledger root make` wrote it",
            fix="copy root.pub from the folder of the root",
        ) from error
    return found


def authorise(folder: Path, request: bytes) -> bytes:
    """Sign a request with both keys of a root; return the authorisation.

    Raises:
        InputError: it is no request; a root signs nothing else.
        UsageError: the folder holds no root.
    """
    text = request.decode("ascii", "replace")
    # Only what the person who signs can see: no control characters, no look-alikes.
    plain = all(" " <= letter <= "~" or letter == "\n" for letter in text)
    if not plain or not text.startswith(_PREFIXES) or len(request) > _MAX_BYTES:
        raise InputError(
            "this is no request for a root",
            code="root-request",
            got=repr(text[:60]),
            expected="a file written by `interlock ledger rotate --request` or `root enrol`",
            fix="copy the request from the ledger's machine unchanged",
        )
    store = KeyStore.reading(folder)
    if store is None or not all(store.has(f"root-{name}") for name in ROOT_ALGORITHMS):
        raise UsageError(
            "there is no root in this folder",
            code="root-missing",
            got=str(folder),
            expected="a folder made by `interlock ledger root make`",
            fix="name the folder of the root",
        )
    signatures = {
        name: base64.b64encode(store.signing_key(f"root-{name}", name).sign(request)).decode()
        for name in ROOT_ALGORITHMS
    }
    return json.dumps({"request": text, "signatures": signatures}, indent=1).encode() + b"\n"


def by_root(authorisation: bytes | None, request: bytes) -> Mapping[str, str]:
    """Return the header fields in which a root endorses a request.

    Raises:
        InputError: there is no authorisation, or it is of another request.
    """
    got = "none"
    if authorisation is not None:
        try:
            document = json.loads(authorisation)
            if document["request"].encode() == request:
                return {f"by-root.{n}": document["signatures"][n] for n in ROOT_ALGORITHMS}
            got = "an authorisation of something else"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            got = f"{type(error).__name__}: {error}"
    raise InputError(
        "the root has not authorised this; no key was changed",
        code="root-authorisation",
        got=got,
        expected="the root's signatures of this request",
        fix="write it with `interlock ledger rotate --request FILE`, sign it where the root is "
        "with `interlock ledger root sign`, then `interlock ledger rotate --authorised FILE`",
    )
