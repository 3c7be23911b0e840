"""Check an exported Interlock ledger. Needs Python 3.11+ and `cryptography` >= 48, no network.

usage: python verify.py [FOLDER] [--keys FILE] [--witness VKEY ... --quorum K] [--proof FILE]

Give --keys with the ledger's public keys as you got them from somebody else: keys inside the
export show only that it fits together.
Exit code 0: everything fits; 7: something was changed; 2: wrong usage.
"""

import argparse
import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, InvalidTag)
ALGORITHMS = {1: "ed25519", 6: "ml-dsa-44"}


class MismatchError(ValueError):
    """Something does not fit."""


def sha256(data: bytes) -> bytes:
    """The SHA-256 digest."""
    return hashlib.sha256(data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right)


class Tree:
    """RFC 6962: roots of a growing list of leaf hashes."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        height = 0
        while self.edge and self.edge[-1][0] == height:
            leaf = node(self.edge.pop()[1], leaf)
            height += 1
        self.edge.append((height, leaf))
        self.size += 1

    def root(self) -> bytes:
        """The root of what was added so far."""
        if not self.edge:
            return sha256(b"")
        root = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            root = node(left, root)
        return root


def inclusion_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 6962, section 2.1.1), top down."""
    if size == 1 or not path:
        return leaf if size == 1 and not path else b""
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return node(inclusion_root(leaf, index, split, path[:-1]), path[-1])
    return node(path[-1], inclusion_root(leaf, index - split, size - split, path[:-1]))


class Key:
    """A verifier key, `name+id+base64`."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.name, identity, encoded = self.text.split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        self.kind, self.public = raw[0], raw[1:]
        self.id = sha256(self.name.encode() + b"\n" + raw)[:4]
        if self.id.hex() != identity:
            raise MismatchError(f"the id of key {self.name} does not fit the key")
        kind: Any = MLDSA44PublicKey if self.kind == 6 else Ed25519PublicKey
        self.check = kind.from_public_bytes(self.public).verify


class Note:
    """A signed checkpoint."""

    def __init__(self, note: str) -> None:
        text, _, tail = note.rpartition("\n\n")
        self.text = text + "\n"
        lines = self.text.split("\n")
        self.origin, self.size = lines[0], int(lines[1])
        self.root = base64.b64decode(lines[2], validate=True)
        self.signatures = []
        for line in tail.splitlines():
            _, name, encoded = line.split(" ")
            raw = base64.b64decode(encoded, validate=True)
            self.signatures.append((name, raw[:4], raw[4:]))

    def signed_by(self, key: Key) -> bool:
        """Whether the key has signed; a signature that is there but wrong raises."""
        for name, identity, raw in self.signatures:
            if (name, identity) != (key.name, key.id):
                continue
            message, signature = self.text.encode(), raw
            if key.kind in (4, 6):
                time, signature = raw[:8], raw[8:]
            if key.kind == 4:
                seconds = struct.unpack(">Q", time)[0]
                message = f"cosignature/v1\ntime {seconds}\n".encode() + message
            if key.kind == 6:
                cosigner, origin = key.name.encode(), self.origin.encode()
                message = b"subtree/v1\n\0" + bytes([len(cosigner)]) + cosigner + time
                message += bytes([len(origin)]) + origin + struct.pack(">QQ", 0, self.size)
                message += self.root
            try:
                key.check(signature, message)
            except (InvalidSignature, ValueError) as error:
                raise MismatchError(
                    f"head of {self.size}: wrong signature by {key.name}"
                ) from error
            return True
        return False


class Generations:
    """Signing keys by tree size; a rotation is an entry endorsed by the keys before it."""

    def __init__(self, first: list[Key]) -> None:
        if sorted(key.kind for key in first) != [1, 6]:
            raise MismatchError("the ledger's keys must be one Ed25519 and one ML-DSA-44 key")
        self.all = [(0, first)]

    def at(self, size: int) -> list[Key]:
        """The keys in force at a size."""
        return [keys for start, keys in self.all if start <= size][-1]

    def rotate(self, index: int, header: dict[str, Any]) -> None:
        """Take up the new keys of a rotation entry."""
        old, number = self.all[-1][1], len(self.all)
        new = [Key(header["key." + ALGORITHMS[key.kind]]) for key in old]
        lines = ["interlock/ledger/rotation/v1", str(number), *(key.text for key in new)]
        message = "\n".join(lines).encode() + b"\n"
        if header["generation"] != number or any(key.name != old[0].name for key in new):
            raise MismatchError(f"entry {index}: the rotation does not follow the keys before it")
        for key in old:
            try:
                key.check(base64.b64decode(header["endorsed." + ALGORITHMS[key.kind]]), message)
            except InvalidSignature as error:
                raise MismatchError(
                    f"entry {index}: the old keys did not endorse the new"
                ) from error
        self.all.append((index + 1, new))


def open_payload(key: bytes, key_id: str, stored: bytes) -> Any:
    """Decrypt one payload with its own key, which the stored bytes commit to."""
    commitment = sha256(b"interlock/ledger/commit/v1" + key)
    if stored[:1] != b"\x01" or not hmac.compare_digest(commitment, stored[25:57]):
        raise MismatchError("a disclosed key is not that of its entry")
    return json.loads(AESGCM(key).decrypt(bytes(12), stored[57:], key_id.encode()))


def check_entry(line: dict[str, Any], index: int, keys: Generations) -> tuple[bytes, str]:
    """Return the leaf hash of an exported entry, and how much of it is disclosed."""
    if "header" not in line:
        return bytes.fromhex(line["leaf"]), "hidden"
    stored = base64.b64decode(line["stored"]) if "stored" in line else None
    digest = sha256(stored) if stored is not None else bytes.fromhex(line["payload_sha256"])
    leaf = sha256(b"\x00" + line["header"].encode() + digest)
    header = json.loads(line["header"])
    if header["index"] != index:
        raise MismatchError(f"entry {index} says it is entry {header['index']}")
    if header["event"] == "ledger.rotated":
        keys.rotate(index, header["header"])
    if stored is None or "key" not in line:
        return leaf, "header only"
    if open_payload(bytes.fromhex(line["key"]), header["key"], stored) != line["payload"]:
        raise MismatchError(f"entry {index}: the payload shown is not the payload recorded")
    return leaf, "payload"


def check_files(folder: Path, trusted: list[str]) -> str:
    """Check the signed list of files, when there is one (DSSE, Ed25519 and ML-DSA-65)."""
    path = folder / "manifest.dsse.json"
    if not path.exists():
        return "no signed list of files"
    envelope = json.loads(path.read_text())
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
    found = {s["keyid"]: base64.b64decode(s["sig"]) for s in envelope["signatures"]}
    kinds: dict[str, Any] = {"ed25519": Ed25519PublicKey, "ml-dsa-65": MLDSA65PublicKey}
    keys = dict(key.split(":") for key in trusted or (folder / "bundle.keys").read_text().split())
    for name, public in ((name, base64.b64decode(keys[name])) for name in kinds):
        try:
            keyid = hashlib.sha256(public).hexdigest()
            kinds[name].from_public_bytes(public).verify(found.get(keyid, b""), pae)
        except InvalidSignature as error:
            raise MismatchError(f"the list of files lacks a signature by {name}") from error
    listed = json.loads(body)["files"]
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    if wrong := sorted(present ^ {*listed, path.name}):
        raise MismatchError(f"files missing or too many: {', '.join(wrong)}")
    for name, digest in listed.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise MismatchError(f"{name} was changed")
    return f"{len(listed)} files as signed"


def check_folder(folder: Path, first: list[Key], witnesses: list[Key], quorum: int) -> list[str]:
    """Check entries against heads; return what to tell."""
    keys, tree = Generations(first), Tree()
    notes = [Note(path.read_text()) for path in sorted((folder / "heads").glob("*.note"))]
    sizes, roots = {note.size for note in notes}, {0: tree.root()}
    shown: dict[str, int] = {}
    with (folder / "entries.ndjson").open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            leaf, how = check_entry(json.loads(line), index, keys)
            shown[how] = shown.get(how, 0) + 1
            tree.add(leaf)
            if tree.size in sizes:
                roots[tree.size] = tree.root()
    if not notes or max(note.size for note in notes) != tree.size:
        raise MismatchError(f"{tree.size} entries, but the newest head does not cover exactly them")
    for note in notes:
        if note.origin != first[0].name:
            raise MismatchError(f"a head of another ledger, {note.origin}")
        if not all(note.signed_by(key) for key in keys.at(note.size)):
            raise MismatchError(f"the head of {note.size} entries lacks a signature")
        if roots.get(note.size) != note.root:
            raise MismatchError(f"the first {note.size} entries are not those that were signed")
    newest = max(notes, key=lambda note: note.size)
    seen = {key.name for key in witnesses if newest.signed_by(key)}
    if len(seen) < quorum:
        raise MismatchError(f"{len(seen)} of the witnesses have cosigned, {quorum} are needed")
    counts = ", ".join(f"{count} {how}" for how, count in sorted(shown.items()))
    return [
        f"ledger {first[0].name}",
        f"{tree.size} entries ({counts or 'none'}), {len(notes)} signed heads, all fit",
        f"witnesses: {len(seen)} of {len(witnesses)} given have cosigned the newest head",
    ]


def check_proof(path: Path, first: list[Key]) -> str:
    """Check a tlog-proof written by `interlock ledger prove` (first generation of keys)."""
    head, _, note_text = path.read_text().partition("\n\n")
    lines = head.split("\n")
    note = Note(note_text)
    leaf = sha256(b"\0" + base64.b64decode(lines[1].removeprefix("extra ")))
    index = int(lines[2].removeprefix("index "))
    hashes = [base64.b64decode(line) for line in lines[3:]]
    if not all(note.signed_by(key) for key in first) or note.origin != first[0].name:
        raise MismatchError("the head in the proof is not signed by the ledger's keys")
    if not 0 <= index < note.size or inclusion_root(leaf, index, note.size, hashes) != note.root:
        raise MismatchError("the proof does not lead to the signed head")
    return f"entry {index} is in ledger {note.origin} of {note.size} entries"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Check an exported Interlock ledger.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--keys", type=Path, help="public keys got from somebody else")
    parser.add_argument("--bundle-keys", type=Path, help="keys of the list of files")
    parser.add_argument("--witness", action="append", default=[], help="verifier key")
    parser.add_argument("--quorum", type=int, default=0)
    parser.add_argument("--proof", type=Path, help="check one tlog-proof instead of a folder")
    options = parser.parse_args()
    source = options.keys or options.folder / "ledger.vkeys"
    try:
        keys = [Key(line) for line in source.read_text().split("\n") if line.strip()]
        if options.proof:
            lines = [check_proof(options.proof, keys)]
        else:
            trusted = options.bundle_keys.read_text().split() if options.bundle_keys else []
            lines = [check_files(options.folder, trusted)]
            seen = [Key(text) for text in options.witness]
            lines += check_folder(options.folder, keys, seen, options.quorum)
    except ERRORS as error:
        sys.stdout.write(f"CHANGED or unreadable: {type(error).__name__}: {error}\n")
        return 7
    if not options.keys:
        lines.append("note: keys are from the export itself; pass --keys to rule out a forgery")
    sys.stdout.write("\n".join([*lines, "OK"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
