import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from interlock.crypto.qkd.client import QkdClient
from interlock.crypto.qkd.kme import KeyPool, serve


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.path = folder / "ca.pem"
        self._write(self.path, self._issue(self._name, self._key, authority=True), None)

    def _issue(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        identifiers = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=authority,
            crl_sign=authority,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifiers, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(
        self, path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None
    ) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            form = serialization.PrivateFormat.PKCS8
            raw = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
            path.with_suffix(".key").touch(mode=0o600)
            path.with_suffix(".key").write_bytes(raw)

    def member(self, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path = self.folder / f"{name}.pem"
        self._write(path, self._issue(subject, key, authority=False), key)
        return path


@dataclass
class Kme:
    url: str
    authority: Authority
    pool: KeyPool
    stop: threading.Event

    def client(self, name: str, authority: Authority | None = None) -> QkdClient:
        path = (authority or self.authority).member(name)
        return QkdClient(
            self.url,
            certificate=path,
            private_key=path.with_suffix(".key"),
            authority=self.authority.path,
            timeout_s=3,
        )


@pytest.fixture
def kme(tmp_path: Path) -> Iterator[Kme]:
    authority = Authority(tmp_path / "ca")
    pool = KeyPool({"sae-alice", "sae-bob", "sae-carol"}, stored=300)
    path = authority.member("localhost")
    server = serve(
        pool,
        "127.0.0.1",
        0,
        certificate=path,
        private_key=path.with_suffix(".key"),
        authority=authority.path,
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Kme(f"https://127.0.0.1:{server.server_address[1]}", authority, pool, threading.Event())
    server.shutdown()
    server.server_close()
