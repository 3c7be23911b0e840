import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.crypto import kek
from interlock.crypto.kek import PassphraseKek, TpmKek, passphrase_from_environment
from interlock.crypto.keys import KeyStore, seal, unseal
from interlock.errors import IntegrityError, InterlockError, SetupError, UsageError


@pytest.fixture(autouse=True)
def _cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kek, "SCRYPT_N", 1 << 12)


def test_keys_are_the_same_after_reopening(tmp_path: Path) -> None:
    for algorithm in ("ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"):
        first = KeyStore(tmp_path / "k").signing_key(f"n-{algorithm}", algorithm)
        again = KeyStore(tmp_path / "k").signing_key(f"n-{algorithm}", algorithm)
        assert first.public_key().public_bytes_raw() == again.public_key().public_bytes_raw()
    names = {item["name"]: item["algorithm"] for item in KeyStore(tmp_path / "k").inventory()}
    assert names["n-ml-dsa-65"] == "ml-dsa-65"


def test_an_algorithm_is_a_name_in_configuration(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "k")
    with pytest.raises(UsageError):
        store.signing_key("x", "rsa-512")
    store.signing_key("x", "ed25519")
    with pytest.raises(IntegrityError):
        store.signing_key("x", "ml-dsa-65")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"version": 9, "name": "x"}'])
def test_a_damaged_or_foreign_key_file_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    KeyStore(tmp_path / "k").secret("x")
    path = tmp_path / "k" / "x.key"
    path.write_text(text)
    with pytest.raises(IntegrityError) as caught:
        KeyStore(tmp_path / "k").secret("x")
    assert caught.value.code == "key-format"
    assert path.read_text() == text


def test_a_key_file_under_another_name_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "k")
    store.secret("x")
    store.secret("y")
    shutil.copy(tmp_path / "k" / "x.key", tmp_path / "k" / "y.key")
    with pytest.raises(IntegrityError):
        KeyStore(tmp_path / "k").secret("y")


def test_links_and_open_folders_are_refused(tmp_path: Path) -> None:
    KeyStore(tmp_path / "k").secret("x")
    (tmp_path / "k").chmod(0o755)
    with pytest.raises(SetupError):
        KeyStore(tmp_path / "k")
    (tmp_path / "k").chmod(0o700)
    (tmp_path / "k" / "kek").rename(tmp_path / "elsewhere")
    (tmp_path / "k" / "kek").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="link"):
        KeyStore(tmp_path / "k")


def test_a_passphrase_opens_and_a_wrong_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyStore(tmp_path / "k")
    secret = store.secret("x")
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "correct horse")
    store.move_kek("passphrase")
    assert not (tmp_path / "k" / "kek").exists()
    assert KeyStore(tmp_path / "k").secret("x") == secret
    before = {p: p.read_bytes() for p in (tmp_path / "k").rglob("*") if p.is_file()}
    for wrong in ("battery staple", ""):
        monkeypatch.setenv("INTERLOCK_PASSPHRASE", wrong)
        with pytest.raises(InterlockError) as caught:
            KeyStore(tmp_path / "k")
        assert caught.value.code == "key-passphrase"
    assert before == {p: p.read_bytes() for p in (tmp_path / "k").rglob("*") if p.is_file()}
    secret_file = tmp_path / "passphrase"
    secret_file.write_text("correct horse\n")
    monkeypatch.setenv("INTERLOCK_PASSPHRASE_FILE", str(secret_file))
    secret_file.chmod(0o644)
    with pytest.raises(SetupError):
        passphrase_from_environment()
    secret_file.chmod(0o600)
    assert KeyStore(tmp_path / "k").secret("x") == secret


def test_a_key_left_behind_by_a_crash_is_taken_away_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyStore(tmp_path / "k")
    secret = store.secret("x")
    plain = (tmp_path / "k" / "kek").read_bytes()
    monkeypatch.setenv("INTERLOCK_PASSPHRASE", "correct horse")
    assert store.move_kek("passphrase") == ("file", "passphrase")
    (tmp_path / "k" / "kek").write_bytes(plain)  # as a crash before its removal leaves it
    (tmp_path / "k" / "kek").chmod(0o600)
    assert store.move_kek("passphrase") == ("passphrase", "passphrase")
    assert not (tmp_path / "k" / "kek").exists()
    assert KeyStore(tmp_path / "k").secret("x") == secret


def test_a_hostile_scrypt_cost_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir(mode=0o700)
    provider = PassphraseKek(tmp_path / "k", lambda: "p", n=1 << 12)
    provider.store(bytes(32))
    path = tmp_path / "k" / "kek.passphrase"
    path.write_text(path.read_text().replace("4096", str(1 << 40)))
    with pytest.raises(IntegrityError):
        provider.load()


def test_rotation_under_load_fails_no_read(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "k")
    secrets = {f"s{n}": store.secret(f"s{n}") for n in range(20)}
    before = (tmp_path / "k" / "kek").read_bytes()
    stop, failures, reads = threading.Event(), [], [0]

    def read() -> None:
        mine = KeyStore(tmp_path / "k")
        while not stop.is_set():
            for name, value in secrets.items():
                try:
                    if mine.secret(name) != value:
                        failures.append(f"{name} differs")
                except InterlockError as error:
                    failures.append(error.diagnostics())
                reads[0] += 1

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        assert KeyStore(tmp_path / "k").rotate_kek() == 20
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reads[0] > 100
    assert (tmp_path / "k" / "kek").read_bytes() != before
    assert {name: KeyStore(tmp_path / "k").secret(name) for name in secrets} == secrets


def test_a_crash_within_a_rotation_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyStore(tmp_path / "k")
    secrets = {f"s{n}": store.secret(f"s{n}") for n in range(6)}
    encode, calls = KeyStore._encode, []

    def failing(self: KeyStore, *args: object) -> bytes:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return encode(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyStore, "_encode", failing)
    with pytest.raises(RuntimeError):
        store.rotate_kek()
    monkeypatch.setattr(KeyStore, "_encode", encode)
    assert len((tmp_path / "k" / "kek").read_bytes()) == 64
    assert {name: KeyStore(tmp_path / "k").secret(name) for name in secrets} == secrets
    assert KeyStore(tmp_path / "k").rotate_kek() == 6
    assert len((tmp_path / "k" / "kek").read_bytes()) == 32
    assert {name: KeyStore(tmp_path / "k").secret(name) for name in secrets} == secrets


def test_an_unknown_keeper_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "k")
    with pytest.raises(UsageError):
        store.move_kek("vault-of-the-future")
    (tmp_path / "k" / "kek.json").write_text('{"provider": "vault-of-the-future"}')
    (tmp_path / "k" / "kek.json").chmod(0o600)
    with pytest.raises(UsageError):
        KeyStore(tmp_path / "k")


@pytest.fixture
def swtpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A software TPM 2.0 on a pair of local sockets."""
    assert shutil.which("swtpm"), "swtpm and tpm2-tools are needed for this test"
    state = tmp_path / "tpm"
    state.mkdir()
    socket = state / "sock"
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags"]
    command += ["not-need-init,startup-clear", "--server", f"type=unixio,path={socket}"]
    command += ["--ctrl", f"type=unixio,path={socket}.ctrl"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(200):
        if socket.exists():
            break
        time.sleep(0.02)
    monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:path={socket}")
    yield
    process.terminate()
    process.wait()


@pytest.mark.usefixtures("swtpm")
def test_a_tpm_keeps_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(tmp_path / "k")
    secret = store.secret("x")
    store.move_kek("tpm")
    assert not (tmp_path / "k" / "kek").exists()
    assert KeyStore(tmp_path / "k").secret("x") == secret
    assert store.rotate_kek() == 1
    assert KeyStore(tmp_path / "k").secret("x") == secret
    monkeypatch.setenv("TPM2TOOLS_TCTI", "swtpm:path=/nonexistent")
    with pytest.raises(SetupError) as caught:
        KeyStore(tmp_path / "k")
    assert caught.value.code == "key-tpm"
    assert TpmKek.name == "tpm"


def test_a_sealed_secret_is_bound_to_its_context() -> None:
    sealed = seal(bytes(32), b"secret", "one")
    assert unseal(bytes(32), sealed, "one") == b"secret"
    for key, data, context in (
        (bytes(32), sealed, "two"),
        (b"x" * 32, sealed, "one"),
        (bytes(32), sealed[:-1], "one"),
        (bytes(32), b"", "one"),
    ):
        with pytest.raises(IntegrityError):
            unseal(key, data, context)


def test_a_mistyped_home_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from interlock.cli import main

    home = ["--home", str(tmp_path / "typo")]
    commands = (["keys", "list"], ["keys", "rotate"], ["keys", "keep", "file"], ["bom", "crypto"])
    for words in commands:
        assert main([*words, *home]) == 4
        assert "keys-missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir(mode=0o700)
    assert main(["keys", "keep", "file", "--home", str(tmp_path / "new")]) == 0
    KeyStore(tmp_path / "typo" / "keys").secret("x")
    for words in commands:
        assert main([*words, *home]) == 0
    capsys.readouterr()
