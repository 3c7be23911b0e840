"""A small certificate authority: ML-DSA-65 for services, ECDSA P-256 beside it for browsers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from interlock.crypto import files
from interlock.crypto.tls import Files
from interlock.errors import InputError, IntegrityError, UsageError

__all__ = ["KINDS", "Authority", "expires", "hosts"]

#: kind -> who understands it.
KINDS = {"ml-dsa-65": "services", "ecdsa-p256": "browsers and older clients"}
CA_DAYS = 3650
_CLOCK_SKEW = timedelta(minutes=5)


def _generate(kind: str) -> Any:
    if kind not in KINDS:
        raise UsageError(
            "no such kind of certificate",
            code="certs-kind",
            got=kind,
            expected=", ".join(KINDS),
            fix="choose one of these",
        )
    return (
        mldsa.MLDSA65PrivateKey.generate()
        if kind == "ml-dsa-65"
        else (ec.generate_private_key(ec.SECP256R1()))
    )


def _pem_key(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def _sign(builder: Any, key: Any) -> Any:
    return builder.sign(
        key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    )


class Authority:
    """A certificate authority in a folder that only its owner can enter.

    Args:
        folder: made the first time, with one CA a kind of key.
        trust_domain: first part of the SPIFFE ids.
    """

    def __init__(self, folder: Path, trust_domain: str = "interlock") -> None:
        self.folder = files.private_dir(folder)
        self.trust_domain = trust_domain

    def ca_file(self, kind: str) -> Path:
        """Return the CA certificate of a kind, making CA and key the first time."""
        _ = KINDS.get(kind) or _generate(kind)
        path = self.folder / f"ca-{kind}.pem"
        with files.locked(self.folder / ".lock"):
            if not path.exists():
                key = _generate(kind)
                name = x509.Name(
                    [x509.NameAttribute(NameOID.COMMON_NAME, f"Interlock CA ({kind})")]
                )
                now = datetime.now(UTC)
                builder = (
                    x509.CertificateBuilder()
                    .subject_name(name)
                    .issuer_name(name)
                    .public_key(key.public_key())
                    .serial_number(x509.random_serial_number())
                    .not_valid_before(now - _CLOCK_SKEW)
                    .not_valid_after(now + timedelta(days=CA_DAYS))
                    .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                    .add_extension(_usage(ca=True), critical=True)
                    .add_extension(
                        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
                    )
                )
                certificate = _sign(builder, key)
                files.write_private(self.folder / f"ca-{kind}.key", _pem_key(key))
                files.write_private(
                    path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644
                )
        return path

    def bundle_file(self) -> Path:
        """Return one file with the CAs of all kinds, for clients to trust."""
        data = b"".join(self.ca_file(kind).read_bytes() for kind in KINDS)
        path = self.folder / "ca.pem"
        if not path.exists() or path.read_bytes() != data:
            files.write_private(path, data, mode=0o644)
        return path

    def issue(
        self,
        name: str,
        *,
        kind: str = "ml-dsa-65",
        hosts: Sequence[str] = (),
        workload: str = "",
        days: float = 7.0,
    ) -> Files:
        """Issue a certificate and key; an older pair of this name and kind is replaced.

        Args:
            name: file name and common name.
            kind: one of `KINDS`.
            hosts: names and addresses, for a server.
            workload: `TENANT/KIND/ID`, for a client that speaks as that principal.
            days: lifetime; short, since rotation is one command.
        """
        if not name or "/" in name or name.startswith((".", "ca")):
            raise InputError(
                "this name cannot be used for a certificate",
                code="certs-name",
                got=repr(name),
                expected="a file name that does not start with a dot or `ca`",
                fix="choose another name",
            )
        authority_file = self.ca_file(kind)
        authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
        raw = files.read_private(self.folder / f"ca-{kind}.key")
        if raw is None:
            raise IntegrityError(
                "the key of the CA is gone",
                code="certs-ca-key",
                got=str(self.folder),
                expected=f"ca-{kind}.key beside ca-{kind}.pem",
                fix="restore it from a copy; nothing was overwritten",
            )
        signer: Any = serialization.load_pem_private_key(raw, None)
        key = _generate(kind)
        names: list[x509.GeneralName] = [_host(h) for h in hosts]
        if workload:
            names.append(x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}/{workload}"))
        now = datetime.now(UTC)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        usage += [ExtendedKeyUsageOID.CLIENT_AUTH] if workload else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = _sign(builder, signer)
        where = Files(
            chain=self.folder / f"{name}-{kind}.pem", key=self.folder / f"{name}-{kind}.key"
        )
        files.write_private(where.key, _pem_key(key))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        files.write_private(where.chain, pem + authority_file.read_bytes(), mode=0o644)
        return where

    def rotate(self, *, left: float = 1 / 3) -> list[Files]:
        """Issue anew every certificate of which less than a share of its lifetime is left.

        Names, workload, kind and lifetime stay as they are; the key is new.

        Args:
            left: share of the lifetime.
        """
        done = []
        for kind in KINDS:
            for chain in sorted(self.folder.glob(f"*-{kind}.pem")):
                if chain.name.startswith("ca"):
                    continue
                old = x509.load_pem_x509_certificate(chain.read_bytes())
                starts, ends = old.not_valid_before_utc + _CLOCK_SKEW, old.not_valid_after_utc
                lifetime = ends - starts
                if (ends - datetime.now(UTC)) >= lifetime * left:
                    continue
                hosts, workload = _names(old)
                name = chain.name.removesuffix(f"-{kind}.pem")
                days = lifetime / timedelta(days=1)
                done.append(self.issue(name, kind=kind, hosts=hosts, workload=workload, days=days))
        return done


def _names(certificate: x509.Certificate) -> tuple[list[str], str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], ""
    hosts = [*names.get_values_for_type(x509.DNSName),
             *map(str, names.get_values_for_type(x509.IPAddress))]  # fmt: skip
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return hosts, uris[0].split("/", 3)[3] if uris else ""


def hosts(files_: Files) -> list[str]:
    """Return the names and addresses that a certificate is for."""
    return _names(x509.load_pem_x509_certificate(files_.chain.read_bytes()))[0]


def expires(files_: Files) -> datetime:
    """Return when a certificate ends."""
    certificate = x509.load_pem_x509_certificate(files_.chain.read_bytes())
    return certificate.not_valid_after_utc


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
