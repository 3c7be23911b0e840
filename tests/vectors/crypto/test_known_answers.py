"""Published vectors for every algorithm in the registries (from `cryptography_vectors`)."""

import json
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from interlock.crypto import kem, signing
from interlock.errors import IntegrityError
from tests.vectors.crypto.hpke_reader import CNSA, HYBRID, open_hpke, schedule


def records(name: str) -> list[dict[str, str]]:
    with cryptography_vectors.open_vector_file(name, "r") as lines:
        found: list[dict[str, str]] = []
        current: dict[str, str] = {}
        for line in lines:
            key, equals, value = line.strip().partition(" = ")
            if equals:
                if key.lower() == "count" and current:
                    found.append(current)
                    current = {}
                current[key.lower()] = value.strip()
        return [*found, current]


def hpke_vectors(kem_id: int, kdf_id: int) -> dict[str, Any]:
    with cryptography_vectors.open_vector_file("HPKE/hpke-pq-test-vectors.json", "r") as file:
        vectors: list[dict[str, Any]] = json.load(file)
    (found,) = [v for v in vectors if (v["kem_id"], v["kdf_id"], v["mode"]) == (kem_id, kdf_id, 0)]
    return found


@pytest.mark.parametrize("level", ["44", "65", "87"])
def test_ml_dsa_signatures(level: str) -> None:
    name = f"ml-dsa-{level}"
    checked = 0
    for record in records(f"asymmetric/MLDSA/kat_MLDSA_{level}_det_pure.rsp"):
        public, context = bytes.fromhex(record["pk"]), bytes.fromhex(record.get("ctx", ""))
        message = bytes.fromhex(record["msg"])
        signature = bytes.fromhex(record["sm"])[: signing.SIGNATURES[name].signature_bytes]
        seed = bytes.fromhex(record["xi"])
        assert signing.load_private(name, seed).public_key().public_bytes_raw() == public
        if not context:
            signing.verify(name, public, signature, message)
            with pytest.raises(IntegrityError):
                signing.verify(name, public, signature, message + b"x")
        checked += 1
    assert checked >= 10


def test_ed25519_of_rfc_8032() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = signing.load_private("ed25519", seed)
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    signature = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(b"").hex() == signature


def test_ml_kem_decapsulation() -> None:
    checked = 0
    for level, kind in (("768", mlkem.MLKEM768PrivateKey), ("1024", mlkem.MLKEM1024PrivateKey)):
        for record in records(f"asymmetric/MLKEM/kat_MLKEM_{level}.rsp"):
            key = kind.from_seed_bytes(bytes.fromhex(record["d"] + record["z"]))
            assert key.public_key().public_bytes_raw().hex() == record["pk"].lower()
            assert key.decapsulate(bytes.fromhex(record["ct"])).hex() == record["ss"].lower()
            checked += 1
    assert checked >= 20


def test_the_hybrid_suite_expands_seeds_and_derives_keys_as_published() -> None:
    vector = hpke_vectors(0x647A, 1)
    seed = bytes.fromhex(vector["skRm"])
    private = kem.SUITES["x25519-mlkem768"].private(seed)
    assert private.public_bytes.hex() == vector["pkRm"]
    shared = HYBRID.decapsulate(seed, bytes.fromhex(vector["enc"]))
    assert shared.hex() == vector["shared_secret"]
    key, nonce = schedule(HYBRID, 3, shared, bytes.fromhex(vector["info"]))
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])
    first = vector["encryptions"][0]
    plain = ChaCha20Poly1305(key).decrypt(
        nonce, bytes.fromhex(first["ct"]), bytes.fromhex(first["aad"])
    )
    assert plain.hex() == first["pt"]


def test_the_cnsa_suite_derives_keys_as_published() -> None:
    vector = hpke_vectors(0x42, 2)
    shared = CNSA.decapsulate(bytes.fromhex(vector["skRm"]), bytes.fromhex(vector["enc"]))
    assert shared.hex() == vector["shared_secret"]
    key, nonce = schedule(CNSA, 2, shared, bytes.fromhex(vector["info"]))
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])
    first = vector["encryptions"][0]
    plain = AESGCM(key).decrypt(nonce, bytes.fromhex(first["ct"]), bytes.fromhex(first["aad"]))
    assert plain.hex() == first["pt"]


@pytest.mark.parametrize("name", ["x25519-mlkem768", "cnsa"])
def test_what_we_encrypt_opens_in_a_second_reader(name: str) -> None:
    seed = bytes(range(32))
    sealed = kem.SUITES[name].private(seed).public().encrypt(b"content key", b"info")
    assert open_hpke(name, seed, sealed, b"info") == b"content key"
