"""TLS 1.3 with post-quantum hybrid key agreement, for asyncio servers and for plain sockets.

The standard library's `ssl` links an OpenSSL that has no ML-KEM; pyOpenSSL uses the one that
`cryptography` brings. `HybridContext` gives asyncio and uvloop the interface of `ssl.SSLContext`
over a pyOpenSSL connection. The group is checked after the handshake, before a byte of the
application is read.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from interlock.errors import BackendError, IntegrityError, SetupError

__all__ = ["HYBRID_GROUPS", "Files", "HybridContext", "TlsSocket", "connect", "peer_of"]

#: Key agreement that holds if either of its halves does.
HYBRID_GROUPS = ("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024")
_CHUNK = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a certificate chain and its key are, both PEM."""

    chain: Path
    key: Path


def _openssl() -> Any:
    try:
        from OpenSSL import SSL
    except ImportError as error:
        raise SetupError(
            "hybrid TLS needs pyOpenSSL",
            code="extra-missing",
            got=str(error),
            expected="the package pyopenssl",
            fix="pip install 'interlock[gateway]'",
        ) from error
    return SSL


def _context(
    side: str, certificates: tuple[Files, ...], authority: Path | None, require_peer: bool
) -> Any:
    lib = _openssl()
    context = lib.Context(lib.TLS_SERVER_METHOD if side == "server" else lib.TLS_CLIENT_METHOD)
    context.set_min_proto_version(lib.TLS1_3_VERSION)
    context.set_session_cache_mode(lib.SESS_CACHE_OFF)
    context.set_options(lib.OP_NO_TICKET)
    try:
        for files in certificates:
            context.use_certificate_chain_file(str(files.chain))
            context.use_privatekey_file(str(files.key))
            context.check_privatekey()
        if authority is not None:
            context.load_verify_locations(str(authority))
    except lib.Error as error:
        raise IntegrityError(
            "a certificate or key cannot be used",
            code="tls-files",
            got=", ".join(str(f.chain) for f in certificates) + f": {error}",
            expected="a PEM chain and its key",
            fix="issue them again with `interlock certs`",
        ) from error
    mode = lib.VERIFY_NONE
    if authority is not None:
        mode = lib.VERIFY_PEER | (lib.VERIFY_FAIL_IF_NO_PEER_CERT if require_peer else 0)
    context.set_verify(mode, lambda _c, _cert, _no, _depth, ok: bool(ok))
    return context


class HybridContext(ssl.SSLContext):
    """A server context for asyncio, uvloop and uvicorn.

    Args:
        certificates: one for each kind of key; the client's algorithms choose.
        client_authority: CA of client certificates, or None to ask for none.
        require_client: refuse clients without a certificate.
        allow_classical: accept key agreement that a quantum computer breaks.
        on_handshake: told the group and client of each handshake.
        alpn: the one protocol to agree on, for instance `h2`; empty agrees on none.
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make the standard context that the event loops expect; it is never used itself."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(
        self,
        certificates: tuple[Files, ...],
        *,
        client_authority: Path | None = None,
        require_client: bool = False,
        allow_classical: bool = False,
        on_handshake: Callable[[str, str], None] | None = None,
        alpn: str = "",
    ) -> None:
        self._files = (certificates, client_authority, require_client)
        self._alpn = alpn
        self.inner = self._load()
        self._loaded = self._dates()
        self.allow_classical = allow_classical
        self.on_handshake = on_handshake

    def _load(self) -> Any:
        certificates, authority, require = self._files
        made = _context("server", certificates, authority, require)
        if self._alpn:
            wanted, none = self._alpn.encode(), _openssl().NO_OVERLAPPING_PROTOCOLS
            made.set_alpn_select_callback(lambda _c, offered: wanted if wanted in offered else none)
        return made

    def _dates(self) -> tuple[int, ...]:
        certificates, authority, _ = self._files
        paths = [p for f in certificates for p in (f.chain, f.key)]
        return tuple(p.stat().st_mtime_ns for p in [*paths, *([authority] if authority else [])])

    def renew(self) -> bool:
        """Take up certificates that were issued anew; return whether there were any.

        New connections get them, those that are open go on. Files that cannot be used, for
        instance because only one of a pair is in place yet, change nothing.
        """
        try:
            dates = self._dates()
            if dates == self._loaded:
                return False
            self.inner = self._load()
        except (OSError, IntegrityError):
            return False
        self._loaded = dates
        return True

    def wrap_bio(self, incoming: Any, outgoing: Any, *_: Any, **__: Any) -> Any:
        """Return an object with the interface of `ssl.SSLObject`."""
        return _Wrapped(self, incoming, outgoing)


class _Wrapped:
    def __init__(self, context: HybridContext, incoming: Any, outgoing: Any) -> None:
        self.lib = _openssl()
        self.context = context
        self._in, self._out = incoming, outgoing
        self._tls = self.lib.Connection(context.inner, None)
        self._tls.set_accept_state()
        self._unread = 0
        self.group = ""

    def _feed(self) -> None:
        data = self._in.read()
        while data:
            data = data[self._tls.bio_write(data) :]
            self._unread = 1

    def _flush(self) -> None:
        with contextlib.suppress(self.lib.WantReadError):
            while True:
                self._out.write(self._tls.bio_read(_CHUNK))

    def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        self._feed()
        try:
            return call(*args)
        except self.lib.WantReadError as error:
            self._unread = 0
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "want read") from error
        except self.lib.ZeroReturnError:
            self._unread = 0
            return b""
        except self.lib.SysCallError as error:
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "unexpected end") from error
        except self.lib.Error as error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"TLS failed: {error}") from error
        finally:
            self._flush()

    def do_handshake(self) -> None:
        self._run(self._tls.do_handshake)
        self.group = str(self._tls.get_group_name() or "")
        client = peer_of(self._tls)[0]
        if self.group not in HYBRID_GROUPS and not self.context.allow_classical:
            if self.context.on_handshake:
                self.context.on_handshake(f"refused:{self.group}", client)
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"group {self.group} is not post-quantum")
        if self.context.on_handshake:
            self.context.on_handshake(self.group, client)

    def read(self, size: int = _CHUNK, buffer: Any = None) -> Any:
        data = self._run(self._tls.recv, size)
        if buffer is None:
            return data
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        view = bytes(data[:_CHUNK]) if len(data) > _CHUNK else bytes(data)
        return int(self._run(self._tls.send, view)) if view else 0

    def unwrap(self) -> None:
        self._feed()
        try:
            done = self._tls.shutdown()
        except self.lib.Error as error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"shutdown: {error}") from error
        finally:
            self._flush()
        if not done:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "want read")

    def pending(self) -> int:
        # Above zero while bytes sit in OpenSSL's own buffer, else uvloop waits for more for ever.
        return int(self._tls.pending()) or self._in.pending or self._unread

    def getpeercert(self, binary_form: bool = False) -> Any:
        found = self._tls.get_peer_certificate(as_cryptography=True)
        if found is None or not binary_form:
            return None if found is None else {}
        from cryptography.hazmat.primitives.serialization import Encoding

        return found.public_bytes(Encoding.DER)

    def workload(self) -> tuple[str, str]:
        """Return the client certificate's SPIFFE id and digest, or two empty strings."""
        return peer_of(self._tls)

    def cipher(self) -> tuple[str, str, int]:
        return str(self._tls.get_cipher_name()), "TLSv1.3", int(self._tls.get_cipher_bits() or 0)

    def compression(self) -> None:
        return None

    def version(self) -> str:
        return str(self._tls.get_protocol_version_name())

    def selected_alpn_protocol(self) -> str | None:
        return self._tls.get_alpn_proto_negotiated().decode() or None

    def selected_npn_protocol(self) -> None:
        return None


def peer_of(connection: Any) -> tuple[str, str]:
    """Return the SPIFFE id in a verified peer certificate and the certificate's digest."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    found = connection.get_peer_certificate(as_cryptography=True)
    if found is None:
        return "", ""
    digest = base64.urlsafe_b64encode(found.fingerprint(SHA256())).rstrip(b"=").decode()
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    return (uris[0] if len(uris) == 1 else ""), digest


class TlsSocket:
    """A connected client socket with the few methods that `http.client` needs."""

    def __init__(self, raw: socket.socket, connection: Any) -> None:
        self._raw = raw
        self._tls = connection
        self.group = str(connection.get_group_name() or "")

    def sendall(self, data: bytes) -> None:
        """Send all of the data."""
        lib = _openssl()
        view = memoryview(bytes(data))
        try:
            while view:
                view = view[self._tls.send(view[:_CHUNK]) :]
        except lib.Error as error:
            raise OSError(f"TLS: {error}") from error

    def makefile(self, *_: Any, **__: Any) -> Any:
        """Return a buffered reader."""
        import io

        return io.BufferedReader(cast(io.RawIOBase, _Reader(self)))

    def recv_into(self, buffer: Any) -> int:
        """Read what there is."""
        lib = _openssl()
        try:
            return int(self._tls.recv_into(buffer))
        except lib.ZeroReturnError:
            return 0
        except lib.SysCallError as error:
            if error.args[0] == -1:
                return 0
            raise OSError(f"TLS: {error}") from error
        except lib.WantReadError as error:
            raise TimeoutError("no answer in time") from error
        except lib.Error as error:
            raise OSError(f"TLS: {error}") from error

    def settimeout(self, _seconds: float | None) -> None:
        """Leave the timeout of the socket as it is."""

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(Exception):
            self._tls.shutdown()
        self._raw.close()


def _reader_class() -> type:
    import io

    class Reader(io.RawIOBase):
        def __init__(self, owner: TlsSocket) -> None:
            self._owner = owner

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self._owner.recv_into(buffer)

    return Reader


_Reader = _reader_class()


def connect(
    host: str,
    port: int,
    *,
    authority: Path | None,
    certificate: Files | None = None,
    allow_classical: bool = False,
    timeout_s: float = 30.0,
) -> TlsSocket:
    """Connect to a server and check its certificate, its name and the group.

    Args:
        host: name or address, as the certificate has it.
        port: TCP port.
        authority: file of the CAs to trust; None trusts the system's.
        certificate: the client's own, for mutual TLS.
        allow_classical: accept key agreement that a quantum computer breaks.
        timeout_s: for every single read and write.

    Raises:
        BackendError: cannot connect.
        IntegrityError: the certificate, the name or the group is not right.
    """
    lib = _openssl()
    context = _context("client", (certificate,) if certificate else (), authority, True)
    if authority is None:
        context.set_default_verify_paths()
        context.set_verify(lib.VERIFY_PEER, lambda _c, _x, _n, _d, ok: bool(ok))
    try:
        raw = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        raise _unreachable(host, port, error) from error
    # A timeout on the descriptor, not in Python: OpenSSL reads the descriptor itself.
    import struct

    raw.settimeout(None)
    interval = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
    connection = lib.Connection(context, raw)
    if not _is_address(host):
        connection.set_tlsext_host_name(host.encode("idna"))
    connection.set_connect_state()
    try:
        connection.do_handshake()
        group = str(connection.get_group_name() or "")
        if group not in HYBRID_GROUPS and not allow_classical:
            raise _untrusted(f"key agreement {group}", "a post-quantum hybrid group")
        _check_name(connection.get_peer_certificate(as_cryptography=True), host)
    except lib.Error as error:
        raw.close()
        # Cut short or silent, as by a gateway that ends, is not a wrong certificate.
        if isinstance(error, lib.SysCallError | lib.WantReadError) or "unexpected eof" in str(
            error
        ):
            raise _unreachable(host, port, error) from error
        raise _untrusted(f"{type(error).__name__}: {error}", "a certificate of a trusted CA") from (
            error
        )
    except IntegrityError:
        raw.close()
        raise
    return TlsSocket(raw, connection)


def _is_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_name(certificate: Any, host: str) -> None:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, AttributeError):
        raise _untrusted("a certificate without names", host) from None
    dns = [n.lower() for n in names.get_values_for_type(x509.DNSName)]
    addresses = [str(a) for a in names.get_values_for_type(x509.IPAddress)]
    first, _, rest = host.lower().partition(".")
    right = (
        (host in addresses) if _is_address(host) else (host.lower() in dns or f"*.{rest}" in dns)
    )
    if not right or not first:
        raise _untrusted("a certificate for " + ", ".join([*dns, *addresses]), host)


def _unreachable(host: str, port: int, error: Exception) -> BackendError:
    return BackendError(
        "the gateway cannot be reached",
        code="gateway-unreachable",
        got=f"{host}:{port}: {type(error).__name__}: {error}",
        expected="a listening gateway",
        fix="check the URL, and that `interlock serve` runs",
    )


def _untrusted(got: str, expected: str) -> IntegrityError:
    return IntegrityError(
        "the gateway's TLS cannot be trusted",
        code="tls-untrusted",
        got=got,
        expected=expected,
        fix="give the right CA; a classical group is accepted only with allow_classical",
    )
