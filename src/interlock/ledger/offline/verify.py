"""Check an exported Interlock ledger. Needs Python 3.11+ and `cryptography` >= 48, no network.

usage: python verify.py [FOLDER] [--keys FILE] [--witness VKEY ... --quorum K] [--proof FILE]

Give --keys with the ledger's public keys as you got them from somebody else: keys inside the
export show only that it fits together. Exit code 0: it fits; 7: changed; 2: wrong usage.
"""

import argparse
import base64
import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, InvalidTag)
ALGORITHMS = {1: "ed25519", 6: "ml-dsa-44"}
SHAPES = ("leaf", "header payload_sha256", "header key payload stored")  # of an entry's line
ROOT: dict[str, Any] = {"ed25519": Ed25519PublicKey, "ml-dsa-65": mldsa.MLDSA65PublicKey}
SAFE: dict[str, Any] = {"ml-dsa-65": mldsa.MLDSA65PublicKey, "ml-dsa-87": mldsa.MLDSA87PublicKey}


class MismatchError(ValueError):
    """Something does not fit."""


def need(fits: bool, otherwise: str) -> None:
    """Raise unless it fits."""
    if not fits:
        raise MismatchError(otherwise)


def verified(check: Any, signature: bytes, message: bytes, otherwise: str) -> None:
    """Raise unless the signature is good."""
    try:
        check(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise MismatchError(otherwise) from error


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
        root = self.edge[-1][1] if self.edge else sha256(b"")
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
        need(self.id.hex() == identity, f"the id of key {self.name} does not fit the key")
        kind: Any = mldsa.MLDSA44PublicKey if self.kind == 6 else Ed25519PublicKey
        self.check = kind.from_public_bytes(self.public).verify


class Note:
    """A signed checkpoint."""

    def __init__(self, note: str) -> None:
        text, _, tail = note.rpartition("\n\n")
        self.text = text + "\n"
        self.origin, size, root, *_ = self.text.split("\n")
        self.size, self.root = int(size), base64.b64decode(root, validate=True)
        parts = [line.split(" ") for line in tail.splitlines()]
        raws = [(name, base64.b64decode(text, validate=True)) for _, name, text in parts]
        self.signatures = {(name, raw[:4]): raw[4:] for name, raw in raws}

    def signed_by(self, key: Key) -> bool:
        """Whether the key has signed; a signature that is there but wrong raises."""
        raw = self.signatures.get((key.name, key.id))
        if raw is None:
            return False
        time, signature = (raw[:8], raw[8:]) if key.kind in (4, 6) else (b"", raw)
        message = self.text.encode()
        if key.kind == 4:
            message = f"cosignature/v1\ntime {int.from_bytes(time)}\n".encode() + message
        if key.kind == 6:
            cosigner, origin = key.name.encode(), self.origin.encode()
            message = b"subtree/v1\n\0" + bytes([len(cosigner)]) + cosigner + time
            message += bytes([len(origin)]) + origin + struct.pack(">QQ", 0, self.size) + self.root
        verified(key.check, signature, message, f"head of {self.size}: {key.name} did not sign it")
        return True


class Generations:
    """Signing keys by tree size; entries that the keys before or the root endorsed change them."""

    def __init__(self, first: list[Key]) -> None:
        need(sorted(key.kind for key in first) == [1, 6], "not one Ed25519 and one ML-DSA-44 key")
        self.all = [(0, first)]
        self.roots: list[dict[str, Any]] = [{}]

    def at(self, size: int) -> list[Key]:
        """The keys in force at a size."""
        return [keys for start, keys in self.all if start <= size][-1]

    def change(self, index: int, event: str, header: dict[str, Any]) -> None:
        """Take up the new signing keys, or the new root, of an entry."""
        old, rooted = self.all[-1][1], event == "ledger.rooted"
        new = [] if rooted else [Key(header["key." + ALGORITHMS[key.kind]]) for key in old]
        lines = [key.text for key in new] or [f"{name}:{header['root.' + name]}" for name in ROOT]
        number = len(self.roots if rooted else self.all)
        what = f"offline-root/v1\n{old[0].name}" if rooted else "rotation/v1"
        message = "\n".join([f"interlock/ledger/{what}", str(number), *lines, ""]).encode()
        follows = {key.name for key in new} <= {old[0].name}
        follows &= number == header["number" if rooted else "generation"]
        need(follows, f"entry {index}: the rotation does not follow the keys before it")
        checks = self.roots[-1] or {"endorsed." + ALGORITHMS[key.kind]: key.check for key in old}
        for name, check in checks.items():
            otherwise = f"entry {index}: {name} did not sign it (--keys: the first, ledger.vkeys)"
            verified(check, base64.b64decode(header[name]), message, otherwise)
        if rooted:
            raw = {name: base64.b64decode(header["root." + name]) for name in ROOT}
            keys = {name: ROOT[name].from_public_bytes(raw[name]) for name in ROOT}
            self.roots.append({"by-root." + name: key.verify for name, key in keys.items()})
        else:
            self.all.append((index + 1, new))


def open_payload(key: bytes, key_id: str, stored: bytes) -> Any:
    """Decrypt one payload with its own key, which the stored bytes commit to."""
    commitment = sha256(b"interlock/ledger/commit/v1" + key)
    need(stored[:1] + stored[25:57] == b"\x01" + commitment, "a key shown is not of its entry")
    return json.loads(AESGCM(key).decrypt(bytes(12), stored[57:], key_id.encode()))


def check_entry(line: dict[str, Any], index: int, keys: Generations) -> tuple[bytes, str]:
    """Return the leaf hash of an exported entry, and how much of it is disclosed."""
    need(" ".join(sorted(line)) in SHAPES, f"entry {index} shows what its leaf does not cover")
    if "leaf" in line:
        return bytes.fromhex(line["leaf"]), "hidden"
    stored = base64.b64decode(line.get("stored", ""))
    digest = sha256(stored) if stored else bytes.fromhex(line["payload_sha256"])
    leaf = sha256(b"\x00" + line["header"].encode() + digest)
    header = json.loads(line["header"])
    need(header["index"] == index, f"entry {index} says it is entry {header['index']}")
    if header["event"] in ("ledger.rotated", "ledger.rooted"):
        keys.change(index, header["event"], header["header"])
    if not stored:
        return leaf, "header only"
    opened = open_payload(bytes.fromhex(line["key"]), header["key"], stored)
    need(opened == line["payload"], f"entry {index}: the payload shown is not that recorded")
    return leaf, "payload"


def check_files(folder: Path, trusted: list[str] | None) -> str:
    """Check the signed list of files, when there is one (DSSE, Ed25519 and ML-DSA)."""
    path = folder / "manifest.dsse.json"
    if not path.exists():
        bundle = (folder / "bundle.keys").exists() or (folder / "summary.json").exists()
        need(trusted is None and not bundle, "the signed list of files of this bundle is gone")
        return "no signed list of files"
    envelope = json.loads(path.read_text())
    body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
    found = {s["keyid"]: base64.b64decode(s["sig"]) for s in envelope["signatures"]}
    trusted = (folder / "bundle.keys").read_text().split() if trusted is None else trusted
    keys = {name: base64.b64decode(key) for name, key in (line.split(":") for line in trusted)}
    for name in ("ed25519", max(SAFE.keys() & keys)):
        check = (ROOT | SAFE)[name].from_public_bytes(keys[name]).verify
        signature = found.get(sha256(keys[name]).hex(), b"")
        verified(check, signature, pae, f"the list of files lacks a signature by {name}")
    listed = json.loads(body)["files"]
    plain = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    wrong = sorted({str(p.relative_to(folder)) for p in plain} ^ {*listed, path.name})
    need(not wrong, f"{len(wrong)} files missing or too many: {', '.join(wrong[:5])}")
    for name, digest in listed.items():
        need(sha256((folder / name).read_bytes()).hex() == digest, f"{name} was changed")
    return f"{len(listed)} files as signed"


def check_folder(folder: Path, keys: Generations, witnesses: list[str], quorum: int) -> list[str]:
    """Check entries against heads, taking up each change of keys; return what to tell."""
    origin, tree = keys.all[0][1][0].name, Tree()
    notes = [Note(path.read_text()) for path in sorted((folder / "heads").glob("*.note"))]
    sizes, roots, shown = {note.size for note in notes}, {0: tree.root()}, dict[str, int]()
    with (folder / "entries.ndjson").open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            leaf, how = check_entry(json.loads(line), index, keys)
            shown[how] = shown.get(how, 0) + 1
            tree.add(leaf)
            if tree.size in sizes:
                roots[tree.size] = tree.root()
    need(max(sizes, default=-1) == tree.size, f"no newest head covers exactly {tree.size} entries")
    for note in notes:
        need(note.origin == origin, f"a head of another ledger, {note.origin}")
        signed, first = all(map(note.signed_by, keys.at(note.size))), "the first, ledger.vkeys"
        need(signed, f"head {note.size} is not signed by the keys in force; --keys wants {first}")
        need(roots.get(note.size) == note.root, f"the first {note.size} entries are not as signed")
    for path in folder.glob("ledger.vkeys.*"):
        held = [key.text for key in keys.all[int(path.suffix[1:])][1]]
        need(path.read_text().split() == held, f"{path.name} are not the keys of that rotation")
    newest = next(note for note in notes if note.size == tree.size)
    seen = {key.name for key in map(Key, witnesses) if newest.signed_by(key)}
    need(len(seen) >= quorum, f"{len(seen)} of the witnesses have cosigned, {quorum} are needed")
    counts = ", ".join(f"{count} {how}" for how, count in sorted(shown.items())) or "none"
    return [
        f"ledger {origin}, {len(keys.all) - 1} rotations of its keys",
        f"{tree.size} entries ({counts}), {len(notes)} signed heads, all fit",
        f"witnesses: {len(seen)} of {len(witnesses)} given have cosigned the newest head",
    ]


def check_proof(path: Path, keys: Generations) -> str:
    """Check a tlog-proof written by `interlock ledger prove`, by the keys in force at its size."""
    head, _, note_text = path.read_text().partition("\n\n")
    form, extra, number, *hashes = head.split("\n")
    need(form == "c2sp.org/tlog-proof@v1", f"{form!r} is no known format")
    note, index = Note(note_text), int(number.removeprefix("index "))
    leaf = sha256(b"\0" + base64.b64decode(extra.removeprefix("extra ")))
    signed = all(note.signed_by(key) and note.origin == key.name for key in keys.at(note.size))
    need(signed, "the head in the proof is not signed by the ledger's keys in force at its size")
    need(0 <= index < note.size, f"entry {index} is not among the {note.size} under the head")
    root = inclusion_root(leaf, index, note.size, [base64.b64decode(line) for line in hashes])
    need(root == note.root, "the proof does not lead to the signed head")
    return f"entry {index} is in ledger {note.origin} of {note.size} entries"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Check an exported Interlock ledger.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--keys", type=Path, help="public keys got from somebody else")
    parser.add_argument("--bundle-keys", type=Path, help="keys of the list of files")
    parser.add_argument("--witness", action="append", default=[], help="verifier key")
    parser.add_argument("--quorum", type=int, default=0, help="how many of them")
    parser.add_argument("--proof", type=Path, help="a tlog-proof; entries of FOLDER give its keys")
    options = parser.parse_args()
    try:
        found = (path for depth in ("*", "*/*") for path in options.folder.glob(depth))
        need(not any(path.is_fifo() for path in found), "a pipe lies among the files")
        source = options.keys or options.folder / "ledger.vkeys"
        keys = Generations([*map(Key, source.read_text().split())])
        trusted = options.bundle_keys and options.bundle_keys.read_text().split()
        lines = [check_files(options.folder, trusted)]
        if not options.proof or (options.folder / "entries.ndjson").exists():
            lines += check_folder(options.folder, keys, options.witness, options.quorum)
        if options.proof:
            lines.append(check_proof(options.proof, keys))
    except ERRORS as error:
        sys.stdout.write(f"CHANGED or unreadable: {type(error).__name__}: {str(error)!a}\n")
        return 7
    note = "note: keys are from the export itself; pass --keys to rule out a forgery"
    sys.stdout.write("\n".join([*lines, *([] if options.keys else [note]), "OK"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
