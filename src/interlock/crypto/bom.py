"""Bills of materials in CycloneDX 1.7: cryptography (CBOM), software (SBOM), models (ML-BOM).

Made from what is there when they are made: the key store, the installed distributions, the signed
statement of weights. Written by hand as JSON, so nothing has to be installed; the tests validate
all three against the published schema.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from interlock.crypto import kem, signing
from interlock.crypto.exposure import horizons
from interlock.crypto.weights.manifest import Signed

__all__ = ["cbom", "mlbom", "sbom"]

_CONTENT_AEAD = "aes-256-gcm"


def _document(components: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    version = importlib.metadata.version("interlock")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": f"interlock@{version}",
                "name": "interlock",
                "version": version,
            },
        },
        "components": components,
    }


def cbom(inventory: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """Return the algorithms in use and the keys there are (ids of public keys, nothing secret).

    Args:
        inventory: what `KeyStore.inventory` returns.
        now: time of the document.
    """
    used = {str(item["algorithm"]) for item in inventory} - {"secret"}
    names = sorted(used | set(signing.SIGNATURES) | set(kem.SUITES) | {_CONTENT_AEAD})
    components = [_algorithm(name, in_use=name in used or name == _CONTENT_AEAD) for name in names]
    components += [_key(item) for item in inventory]
    return _document(components, now)


def _algorithm(name: str, *, in_use: bool) -> dict[str, Any]:
    known = horizons()["algorithms"].get(name, {})
    properties: dict[str, Any] = {"executionEnvironment": "software-plain-ram"}
    if name in signing.SIGNATURES:
        found = signing.SIGNATURES[name]
        properties |= {
            "primitive": "signature",
            "parameterSetIdentifier": name,
            "classicalSecurityLevel": found.security_bits,
            "nistQuantumSecurityLevel": found.nist_level,
            "cryptoFunctions": ["keygen", "sign", "verify"],
        }
        standard = found.standard
    elif name in kem.SUITES:
        suite = kem.SUITES[name]
        properties |= {
            "primitive": "combiner" if "x25519" in name else "kem",
            "parameterSetIdentifier": name,
            "nistQuantumSecurityLevel": suite.nist_level,
            "cryptoFunctions": ["keygen", "encapsulate", "decapsulate", "encrypt", "decrypt"],
        }
        standard = suite.standard
    else:
        properties |= {
            "primitive": "ae",
            "parameterSetIdentifier": "256",
            "mode": "gcm",
            "classicalSecurityLevel": 256,
            "nistQuantumSecurityLevel": 5,
            "cryptoFunctions": ["encrypt", "decrypt"],
        }
        standard = "FIPS 197, SP 800-38D"
    return {
        "type": "cryptographic-asset",
        "bom-ref": f"crypto/algorithm/{name}",
        "name": name,
        "cryptoProperties": {"assetType": "algorithm", "algorithmProperties": properties},
        "properties": [
            {"name": "interlock:in-use", "value": str(in_use).lower()},
            {"name": "interlock:standard", "value": standard},
            {
                "name": "interlock:quantum-safe",
                "value": str(bool(known.get("quantum_safe"))).lower(),
            },
        ],
    }


def _key(item: Mapping[str, Any]) -> dict[str, Any]:
    name, algorithm = str(item["name"]), str(item["algorithm"])
    material: dict[str, Any] = {"state": "active"}
    if algorithm == "secret":
        material |= {"type": "secret-key", "size": 256}
        reference = f"crypto/algorithm/{_CONTENT_AEAD}"
    else:
        public = str(item["public"] or "")
        material |= {"type": "private-key", "id": hashlib.sha256(public.encode()).hexdigest()[:32]}
        reference = f"crypto/algorithm/{algorithm}"
    material["algorithmRef"] = reference
    material["securedBy"] = {
        "mechanism": "Software",
        "algorithmRef": f"crypto/algorithm/{_CONTENT_AEAD}",
    }
    return {
        "type": "cryptographic-asset",
        "bom-ref": f"crypto/key/{name}",
        "name": name,
        "cryptoProperties": {
            "assetType": "related-crypto-material",
            "relatedCryptoMaterialProperties": material,
        },
    }


def sbom(now: datetime) -> dict[str, Any]:
    """Return the distributions that are installed where this runs."""
    components = {}
    for found in importlib.metadata.distributions():
        name, version = found.metadata["Name"], found.version
        if not name or name == "interlock":
            continue
        reference = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": reference,
            "name": name,
            "version": version,
            "purl": reference,
        }
        licence = str(found.metadata["License-Expression"] or "").strip()
        if licence:
            component["licenses"] = [{"expression": licence}]
        components[reference] = component
    return _document([components[key] for key in sorted(components)], now)


def mlbom(
    signed: Signed, now: datetime, quantum: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the bill of a signed model with its files and its quantum properties.

    Args:
        signed: the verified statement of the weights.
        now: time of the document.
        quantum: facts of the quantum part, for instance number of qubits, ansatz, circuit hash,
            backend, shots, calibration; each becomes a property `interlock:quantum:<name>`.
    """
    facts = {**{f"fact:{k}": v for k, v in signed.facts.items()}}
    facts |= {f"quantum:{k}": v for k, v in (quantum or {}).items()}
    facts |= {"version": signed.version, "statement": signed.id, "parent": signed.parent or "none"}
    properties = [{"name": f"interlock:{k}", "value": str(v)} for k, v in sorted(facts.items())]
    files = [
        {
            "type": "file",
            "bom-ref": f"model/{signed.name}/{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for name, digest in signed.digests.items()
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": f"model/{signed.name}",
        "name": signed.name,
        "version": str(signed.version),
        "hashes": [{"alg": "SHA-256", "content": signed.root}],
        "modelCard": {
            "bom-ref": f"model/{signed.name}/card",
            "modelParameters": {
                "approach": {"type": "supervised"},
                "architectureFamily": "hybrid quantum-classical" if quantum else "classical",
            },
        },
        "components": files,
        "properties": properties,
    }
    return _document([model], now)
