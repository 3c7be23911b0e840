"""RFC 3161 against a real responder: `openssl ts` behind a small loopback server."""

import datetime as dt
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from interlock.cli import main
from interlock.errors import BackendError, InputError, IntegrityError
from interlock.ledger import Ledger
from interlock.ledger.anchor import check, fetch, roots_from
from interlock.ledger.export import export

pytestmark = pytest.mark.enable_socket

CONFIG = """
[tsa]
default_tsa = t
[t]
serial = {dir}/serial
crypto_device = builtin
signer_cert = {dir}/tsa.pem
signer_key = {dir}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


def authority(folder: Path, name: str) -> None:
    folder.mkdir()
    now = dt.datetime.now(dt.UTC)

    def certificate(
        subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: object, root: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        )
        if not root:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate(f"{name} root", root_key, f"{name} root", root_key, root=True)
    leaf = certificate(f"{name} tsa", key, f"{name} root", root_key, root=False)
    pem = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "tsa.pem").write_bytes(leaf.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    none = serialization.NoEncryption()
    (folder / "tsa.key").write_bytes(key.private_bytes(pem, form, none))
    (folder / "serial").write_text("01")
    (folder / "ts.cnf").write_text(CONFIG.format(dir=folder))


@pytest.fixture
def tsa(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    assert shutil.which("openssl"), "openssl is needed as the time-stamping authority"
    folder = tmp_path / "tsa"
    authority(folder, "test")

    class Responder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = folder / "query.tsq"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "query.tsq"]
            reply = subprocess.run(command, cwd=folder, capture_output=True, check=True)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(reply.stdout)

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Responder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder / "root.pem"
    server.shutdown()
    server.server_close()


def test_a_head_is_stamped_and_the_stamp_is_of_that_head(
    tmp_path: Path, tsa: tuple[str, Path]
) -> None:
    url, roots = tsa
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()
        stamped = ledger.anchor(url, roots)
        note = ledger.checkpoint()
    age = dt.datetime.now(dt.UTC) - stamped.time
    assert abs(age.total_seconds()) < 60
    kept = next((home / "anchors").glob("*.tsr")).read_bytes()
    assert check(kept, note, roots_from(roots)).time == stamped.time
    with pytest.raises(IntegrityError):
        check(kept, note.replace("\n1\n", "\n2\n"), roots_from(roots))
    with pytest.raises(IntegrityError):
        check(kept[:-20], note, roots_from(roots))
    authority(tmp_path / "other", "other")
    with pytest.raises(IntegrityError):
        check(kept, note, roots_from(tmp_path / "other" / "root.pem"))
    args = ["ledger", "anchor", "--tsa", url, "--roots", str(roots), "--home", str(home)]
    assert main(args) == 0
    whole = ["ledger", "verify", "--home", str(home), "--tsa-roots"]
    assert main([*whole, str(roots)]) == 0
    assert main([*whole, str(tmp_path / "other" / "root.pem")]) == 7


def test_a_clock_years_ahead_is_said_by_the_authority_and_found_by_verify(
    tmp_path: Path, tsa: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, roots = tsa
    home, ahead = tmp_path / "home", 4 * 366 * 86_400 * 10**9
    with Ledger.open(home, clock=lambda: time.time_ns() + ahead) as ledger:
        ledger.append("a", {}, {}).wait()
        with pytest.raises(IntegrityError) as caught:
            ledger.anchor(url, roots)
        assert caught.value.code == "clock-drift"
    assert len(list((home / "anchors").glob("*.tsr"))) == 1
    capsys.readouterr()
    assert main(["verify", "--home", str(home)]) == 0
    assert main(["verify", "--home", str(home), "--tsa-roots", str(roots)]) == 7
    assert "clock-ahead" in capsys.readouterr().out


def test_no_answer_and_no_roots_are_said(tmp_path: Path, tsa: tuple[str, Path]) -> None:
    _, roots = tsa
    with pytest.raises(BackendError):
        fetch("http://127.0.0.1:9/", "note", roots_from(roots), timeout_s=1)
    with pytest.raises(InputError):
        fetch("file:///etc/passwd", "note", roots_from(roots))
    with pytest.raises(InputError):
        roots_from(tmp_path / "missing.pem")


def test_verify_holds_time_stamps_against_head_and_authority(
    tmp_path: Path, tsa: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, roots = tsa
    home = tmp_path / "home"
    verify = ["verify", "--home", str(home), "--tsa-roots"]
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()
        ledger.checkpoint()
    assert main([*verify, str(roots)]) == 7
    assert "unstamped" in capsys.readouterr().out
    with Ledger.open(home) as ledger:
        ledger.anchor(url, roots)
        ledger.append("b", {}, {}).wait()
        export(ledger, tmp_path / "out")
    assert main([*verify, str(roots)]) == 0
    assert "time-stamped: 1 entries by 2" in capsys.readouterr().out
    names = sorted(path.name for path in (home / "anchors").iterdir())
    assert sorted(path.name for path in (tmp_path / "out" / "anchors").iterdir()) == names
    script = [sys.executable, str(tmp_path / "out" / "verify.py")]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 0
    authority(tmp_path / "other", "other")
    assert main([*verify, str(tmp_path / "other" / "root.pem")]) == 7
    assert "stamp-forged" in capsys.readouterr().out
    note = next((home / "anchors").glob("*.note"))
    kept = note.read_text()
    note.unlink()
    assert main([*verify, str(roots)]) == 7
    note.write_text(kept.replace("\n1\n", "\n2\n"))
    capsys.readouterr()
    assert main(["verify", "--home", str(home)]) == 7  # a head that the keys did not sign
    assert "checkpoint-forged: anchors/" in capsys.readouterr().out
