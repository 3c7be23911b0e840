"""All three bills against the published schema."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from safetensors.numpy import save

from interlock.cli import main
from interlock.crypto.bom import cbom, mlbom, sbom
from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.crypto.weights import sign_folder

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def validate(document: dict[str, Any]) -> None:
    fault = JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(document))
    assert fault is None, fault


def test_the_cryptography_bill(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    ArtefactSigner(store)
    store.kem_key("data", "cnsa")
    store.secret("s")
    document = cbom(store.inventory(), NOW)
    validate(document)
    parts = {c["bom-ref"]: c for c in document["components"]}
    assert {"crypto/key/data", "crypto/key/s", "crypto/algorithm/ml-dsa-65"} <= set(parts)
    used = {
        name.rpartition("/")[2]
        for name, part in parts.items()
        if {"name": "interlock:in-use", "value": "true"} in part.get("properties", [])
    }
    assert used == {"ed25519", "ml-dsa-65", "cnsa", "aes-256-gcm"}
    text = json.dumps(document)
    for path in (tmp_path / "keys").glob("*.key"):
        assert json.loads(path.read_text())["sealed"] not in text


def test_the_software_bill_names_what_is_installed() -> None:
    document = sbom(NOW)
    validate(document)
    names = {component["name"].lower() for component in document["components"]}
    assert {"cryptography", "click", "msgspec"} <= names


def test_the_model_bill_has_quantum_properties(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, home = tmp_path / "m", str(tmp_path / "home")
    folder.mkdir()
    (folder / "m.safetensors").write_bytes(save({"w": np.zeros(2, np.float32)}))
    signer = ArtefactSigner(KeyStore(tmp_path / "keys"))
    signed = sign_folder(folder, signer, name="vqc", version=2, facts={"data_sha256": "ab"})
    document = mlbom(signed, NOW, {"qubits": 4, "ansatz": "EfficientSU2", "shots": 1024})
    validate(document)
    model = document["components"][0]
    assert {"name": "interlock:quantum:qubits", "value": "4"} in model["properties"]
    args = ["--name", "vqc", "--version", "3", "--replace", "--home", home]
    assert main(["weights", "sign", str(folder), *args]) == 0
    capsys.readouterr()
    assert main(["bom", "model", str(folder), "--home", home, "--quantum", "qubits=4"]) == 0
    validate(json.loads(capsys.readouterr().out))
    assert main(["bom", "crypto", "--home", home]) == 0
    validate(json.loads(capsys.readouterr().out))
