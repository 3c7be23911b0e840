"""Signed firmware images in the manner of TUF: length, hash, version and expiry under signature.

A device keeps the highest version it has booted. An unsigned, changed, older or expired image, or
one signed by another key, quarantines the device; a quarantined device boots nothing until its
owner lifts the quarantine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import rfc8785

from interlock.crypto.files import read_private, write_private
from interlock.errors import DeniedError, IntegrityError
from interlock.monitor.firmware.boot import EventLog, Quote, verify_quote
from interlock.monitor.signed import DualKey, DualPublic, verify_dual

__all__ = ["Device", "Image", "Manifest", "Release", "make_manifest", "wrong_firmware"]

CONTEXT = "firmware-manifest-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A firmware image: its name and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a key said of one image."""

    body: dict[str, Any]
    signatures: dict[str, str]


class Release(Protocol):
    """What says which image is current: a TUF client on the device's side."""

    def check(self, image: Image) -> int:
        """Raise IntegrityError unless the image is the current one; return its version."""


def make_manifest(image: Image, *, version: int, expires_s: int, key: DualKey) -> Manifest:
    """Return a signed manifest of an image."""
    body: dict[str, Any] = {
        "name": image.name,
        "version": version,
        "expires_s": expires_s,
        "length": len(image.data),
        "sha256": hashlib.sha256(image.data).hexdigest(),
    }
    return Manifest(body=body, signatures=key.sign(CONTEXT, rfc8785.dumps(body)))


def wrong_firmware(why: str) -> IntegrityError:
    """Return the error of an image that is not what its owner released."""
    return IntegrityError(
        "a firmware image is not what its owner released",
        code="monitor-firmware",
        got=why,
        expected="an unexpired image, not older than the last one, signed by the device's owner",
        fix="load the released image; lift the quarantine once the cause is known",
    )


class _State(msgspec.Struct, forbid_unknown_fields=True):
    """A device's state file: the version floor, and the reason it is quarantined for."""

    floor: Annotated[int, msgspec.Meta(ge=0)]
    quarantine: str | None


@dataclass(slots=True)
class Device:
    """A control device that boots only what its owner signed.

    Args:
        name: the device.
        owner: the public keys images must be signed with.
        state: file with the version floor and the quarantine; they outlast a restart.
    """

    name: str
    owner: DualPublic
    state: Path
    running: Image | None = field(default=None, init=False)

    def _load(self) -> dict[str, Any]:
        raw = read_private(self.state)
        if raw is None:
            return {"floor": 0, "quarantine": None}
        try:
            return msgspec.structs.asdict(msgspec.json.decode(raw, type=_State))
        except msgspec.MsgspecError as error:
            raise wrong_firmware("the device's state file is damaged") from error

    def _save(self, state: dict[str, Any]) -> None:
        write_private(self.state, json.dumps(state).encode())

    @property
    def quarantined(self) -> str | None:
        """The reason, or None."""
        reason: str | None = self._load()["quarantine"]
        return reason

    def quarantine(self, reason: str) -> None:
        """Stop the device until `lift`."""
        self._save({**self._load(), "quarantine": reason})
        self.running = None

    def lift(self) -> None:
        """End the quarantine; the owner's decision."""
        self._save({**self._load(), "quarantine": None})

    def boot(self, image: Image, release: Manifest | Release | None, *, now_s: int) -> None:
        """Boot an image, or quarantine the device.

        Args:
            image: what would run.
            release: its signed manifest, or a client of the owner's repository.
            now_s: seconds since the epoch.

        Raises:
            DeniedError: the device is quarantined already.
            IntegrityError: the image is not what the owner released.
        """
        state = self._load()
        if state["quarantine"] is not None:
            raise DeniedError(
                f"device {self.name!r} is quarantined",
                code="monitor-quarantined",
                got=state["quarantine"],
                expected="a device in service",
                fix="find the cause, then have the owner lift the quarantine",
            )
        try:
            version = self._check(image, release, state["floor"], now_s)
        except IntegrityError as error:
            self.quarantine(error.got or error.message)
            raise
        self._save({**state, "floor": version})
        self.running = image

    def attest(
        self, quote: Quote, expected: EventLog, *, key_pem: bytes, nonce: bytes, pcr: int
    ) -> None:
        """Check what the device measured while it booted, or quarantine it.

        Args:
            quote: the TPM's answer to `nonce`.
            expected: the log that the released loader and image lead to.
            key_pem: the TPM's attestation key.
            nonce: fresh, chosen by the verifier.
            pcr: the register.

        Raises:
            IntegrityError: it booted something else, or the quote does not hold.
        """
        try:
            verify_quote(quote, key_pem=key_pem, nonce=nonce, log=expected, pcr=pcr)
        except IntegrityError as error:
            self.quarantine(f"measured boot: {error.got}")
            raise

    def _check(
        self, image: Image, release: Manifest | Release | None, floor: int, now_s: int
    ) -> int:
        if release is None:
            raise wrong_firmware("an unsigned image")
        if isinstance(release, Manifest):
            return self._check_manifest(image, release, floor, now_s)
        version = release.check(image)
        if version < floor:
            raise wrong_firmware(f"version {version}, below {floor}")
        return version

    def _check_manifest(self, image: Image, manifest: Manifest, floor: int, now_s: int) -> int:
        verify_dual(self.owner, manifest.signatures, CONTEXT, rfc8785.dumps(manifest.body))
        body = manifest.body
        if body["name"] != image.name or body["length"] != len(image.data):
            raise wrong_firmware("another image's name or length")
        if body["sha256"] != hashlib.sha256(image.data).hexdigest():
            raise wrong_firmware("bytes that differ from the signed hash")
        if body["version"] < floor:
            raise wrong_firmware(f"version {body['version']}, below {floor}")
        if now_s >= body["expires_s"]:
            raise wrong_firmware(f"a manifest that expired at {body['expires_s']}")
        return int(body["version"])
