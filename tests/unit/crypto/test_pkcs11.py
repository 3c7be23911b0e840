"""An HSM keeps the key-encryption key: SoftHSM 2 behind its real PKCS#11 interface."""

import ctypes.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from interlock.crypto.keys import KeyStore
from interlock.crypto.pkcs11 import Pkcs11Kek
from interlock.errors import IntegrityError, SetupError

PIN = "87654321"


def library() -> str:
    places = [Path("/usr/lib/softhsm"), *Path("/usr/lib").glob("*/softhsm"), Path("/usr/local/lib")]
    found = [p for place in places for p in place.rglob("libsofthsm2.so")]
    named = ctypes.util.find_library("softhsm2")
    assert found or named, "softhsm2 is needed for this test"
    return str(found[0]) if found else str(named)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert shutil.which("softhsm2-util"), "softhsm2 is needed for this test"
    folder = tmp_path / "tokens"
    folder.mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    command = ["softhsm2-util", "--init-token", "--free", "--label", "interlock"]
    subprocess.run([*command, "--pin", PIN, "--so-pin", PIN], check=True, capture_output=True)
    monkeypatch.setenv("INTERLOCK_PKCS11_MODULE", library())
    monkeypatch.setenv("INTERLOCK_PKCS11_TOKEN", "interlock")
    monkeypatch.setenv("INTERLOCK_PKCS11_PIN", PIN)
    return folder


def test_a_token_keeps_the_key(token: Path, tmp_path: Path) -> None:
    home = tmp_path / "k"
    store = KeyStore(home)
    secret = store.secret("x")
    plain = (home / "kek").read_bytes()
    store.move_kek("pkcs11")
    assert not (home / "kek").exists()
    assert json.loads((home / "kek.json").read_bytes()) == {"provider": "pkcs11"}
    assert KeyStore(home).secret("x") == secret
    for path in [p for folder in (home, token) for p in folder.rglob("*") if p.is_file()]:
        assert plain not in path.read_bytes(), path
    assert store.rotate_kek() == 1
    assert KeyStore(home).secret("x") == secret
    KeyStore(home).move_kek("file")
    assert not (home / "kek.pkcs11").exists()
    assert KeyStore(home).secret("x") == secret


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("INTERLOCK_PKCS11_PIN", "1", "PIN"),
        ("INTERLOCK_PKCS11_PIN", "", "no INTERLOCK_PKCS11_PIN"),
        ("INTERLOCK_PKCS11_TOKEN", "another", "Token"),
        ("INTERLOCK_PKCS11_MODULE", "/nonexistent.so", "nonexistent"),
    ],
)
def test_without_token_or_pin_nothing_opens_and_nothing_changes(
    token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    home = tmp_path / "k"
    store = KeyStore(home)
    secret = store.secret("x")
    store.move_kek("pkcs11")
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    with monkeypatch.context() as there:
        there.setenv(name, value)
        with pytest.raises(SetupError) as caught:
            KeyStore(home)
        assert caught.value.code == "key-pkcs11"
        assert said.lower() in str(caught.value.got).lower()
    assert {p: p.read_bytes() for p in home.rglob("*") if p.is_file()} == before
    assert KeyStore(home).secret("x") == secret


def test_a_pin_file_that_others_can_read_is_refused(
    token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    monkeypatch.delenv("INTERLOCK_PKCS11_PIN")
    monkeypatch.setenv("INTERLOCK_PKCS11_PIN_FILE", str(pin))
    kek = Pkcs11Kek(tmp_path)
    kek.store(b"k" * 32)
    assert kek.load() == b"k" * 32
    pin.chmod(0o644)
    with pytest.raises(SetupError) as caught:
        kek.load()
    assert caught.value.code == "key-permissions"


def test_what_the_token_sealed_is_bound_and_a_damaged_file_is_kept(
    token: Path, tmp_path: Path
) -> None:
    kek = Pkcs11Kek(tmp_path)
    kek.store(b"k" * 32)
    path = tmp_path / "kek.pkcs11"
    document = json.loads(path.read_bytes())
    changed = ("A" if document["sealed"][30] != "A" else "B").join(
        [document["sealed"][:30], document["sealed"][31:]]
    )
    path.write_text(json.dumps(document | {"sealed": changed}))
    with pytest.raises(SetupError) as refused:
        kek.load()
    assert refused.value.code == "key-pkcs11"
    path.write_text("{}")
    with pytest.raises(IntegrityError) as caught:
        kek.load()
    assert caught.value.code == "key-format"
    assert path.read_text() == "{}"
    with pytest.raises(IntegrityError):
        kek.store(b"n" * 32)
    assert path.read_text() == "{}"
