"""HPKE base mode (RFC 9180) from its parts, written without `hazmat.primitives.hpke`."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


@dataclass(frozen=True)
class Parts:
    kem_id: int
    kdf_id: int
    hash: str
    enc_bytes: int
    decapsulate: Callable[[bytes, bytes], bytes]


def _hybrid(seed: bytes, enc: bytes) -> bytes:
    expanded = hashlib.shake_256(seed).digest(96)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    ct, point = enc[:1088], enc[1088:]
    first = lattice.decapsulate(ct)
    second = curve.exchange(x25519.X25519PublicKey.from_public_bytes(point))
    mine = curve.public_key().public_bytes_raw()
    return hashlib.sha3_256(first + second + point + mine + b"\\.//^\\").digest()


def _cnsa(seed: bytes, enc: bytes) -> bytes:
    return mlkem.MLKEM1024PrivateKey.from_seed_bytes(seed).decapsulate(enc)


HYBRID = Parts(0x647A, 1, "sha256", 1120, _hybrid)
CNSA = Parts(0x42, 2, "sha384", 1568, _cnsa)


def schedule(parts: Parts, aead_id: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """KeySchedule of RFC 9180, section 5.1, base mode."""
    suite = b"HPKE" + struct.pack(">HHH", parts.kem_id, parts.kdf_id, aead_id)

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(
            salt or bytes(hashlib.new(parts.hash).digest_size),
            b"HPKE-v1" + suite + label + ikm,
            parts.hash,
        )

    def expand(prk: bytes, label: bytes, text: bytes, length: int) -> bytes:
        labelled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + text
        out, block, count = b"", b"", 1
        while len(out) < length:
            block = hmac.digest(prk, block + labelled + bytes([count]), parts.hash)
            out, count = out + block, count + 1
        return out[:length]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)


def open_hpke(name: str, seed: bytes, sealed: bytes, info: bytes) -> bytes:
    """Open `enc || ciphertext` of one of our suites with the seed of the private key."""
    if name == "cnsa":
        parts, key = CNSA, hashlib.shake_256(seed).digest(64)
    else:
        parts, key = HYBRID, seed
    enc, ciphertext = sealed[: parts.enc_bytes], sealed[parts.enc_bytes :]
    secret, nonce = schedule(parts, 2, parts.decapsulate(key, enc), info)
    return AESGCM(secret).decrypt(nonce, ciphertext, b"")
