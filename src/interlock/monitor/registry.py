"""Governance of detectors: an owner, a card, signed weights, the version before, one-step rollback.

A detector is a folder of versions. Weights load only with a card that both signatures cover, whose
hash they match, that has an owner and a validation run, and that is not stale. Which version is
current, and the card of each, is signed as well: whoever can write to the folder chooses nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import rfc8785

from interlock.crypto.files import locked, read_private, write_private
from interlock.errors import IntegrityError, UsageError
from interlock.monitor.signed import DualKey, DualPublic, verify_dual

__all__ = ["Card", "DetectorRegistry"]

CONTEXT, POINTER = "detector-card-v1", "detector-current-v1"
AHEAD_S = 300
MAX_WEIGHTS_BYTES = 256 << 20
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a detector is and who answers for it.

    Args:
        name: the detector.
        version: rises with each release.
        owner: a person or team.
        purpose: what it watches.
        training_data: where it learnt, one line.
        validation: measured figures of the validation run; empty is refused.
        created_s: when.
        max_age_s: after this it may not act.
    """

    name: str
    version: int
    owner: str
    purpose: str
    training_data: str
    validation: dict[str, float]
    created_s: int
    max_age_s: int

    def body(self, digest: str) -> dict[str, Any]:
        """Return what is signed."""
        return {f: getattr(self, f) for f in self.__dataclass_fields__} | {"sha256": digest}


def _wrong(name: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"detector {name!r} does not load",
        code="monitor-detector",
        got=why,
        expected="signed weights with an owner, a validation run and an age within its limit",
        fix="release a validated version, or roll back",
    )


class Record(Protocol):
    """What became current, kept where the registry's folder does not reach."""

    def of(self, name: str) -> list[tuple[int, str]]:
        """Return version and hash of its card each time one became current, oldest first."""

    def add(self, name: str, version: int, digest: str) -> None:
        """Keep that a version becomes current."""


class DetectorRegistry:
    """Detector versions in a folder, trusted by one public key pair.

    Args:
        folder: of the detectors.
        public: keys of their owner.
        record: of what became current, see `interlock.monitor.releases`; without one an older
            signed state of the whole folder cannot be told from the newest.
    """

    def __init__(self, folder: Path, public: DualPublic, record: Record | None = None) -> None:
        self._folder = folder
        self._public = public
        self._record = record

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise UsageError(
                "a detector's name is malformed",
                code="monitor-detector-name",
                got=name[:80],
                expected="lower-case letters, digits and hyphens",
                fix="rename it",
            )
        return self._folder / name

    def release(self, card: Card, weights: dict[str, npt.NDArray[Any]], key: DualKey) -> None:
        """Sign and store a version and make it the current one.

        Raises:
            IntegrityError: no owner, no validation run, another signer, or a version not above
                every released one.
        """
        folder = self._path(card.name)
        if not card.owner.strip() or not card.validation:
            raise _wrong(card.name, "a card without an owner or a validation run")
        self._require(card.name, key)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **weights)
        raw = buffer.getvalue()
        body = card.body(hashlib.sha256(raw).hexdigest())
        payload = rfc8785.dumps(body)
        document = {"card": body, "signatures": key.sign(CONTEXT, payload)}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(folder / "lock"):
            current, released = self._pointer(card.name)
            self._check_record(card.name, current, released)
            on_record = self._record.of(card.name) if self._record else []
            top = max([*released, *(version for version, _ in on_record)], default=0)
            if card.version <= top:
                # Also after a rollback: a number stands for one set of weights for ever.
                raise _wrong(card.name, f"version {card.version} after {top}")
            write_private(folder / f"{card.version}.npz", raw)
            write_private(folder / f"{card.version}.json", json.dumps(document).encode())
            released[card.version] = digest = hashlib.sha256(payload).hexdigest()
            # On record first: a crash in between burns the number, it never frees one.
            if self._record:
                self._record.add(card.name, card.version, digest)
            self._point(card.name, card.version, released, key)

    def _require(self, name: str, key: DualKey) -> None:
        if key.public != self._public:
            raise _wrong(name, "a key that is not the registry's")

    def _point(self, name: str, current: int, released: dict[int, str], key: DualKey) -> None:
        history = [[v, h] for v, h in released.items()]
        body: dict[str, Any] = {"name": name, "current": current, "released": history}
        document = {"pointer": body, "signatures": key.sign(POINTER, rfc8785.dumps(body))}
        write_private(self._path(name) / "current", json.dumps(document).encode())

    def _pointer(self, name: str) -> tuple[int, dict[int, str]]:
        """Return the current version, and version -> hash of its card; (0, {}) without any."""
        folder = self._path(name)
        raw = read_private(folder / "current")
        if raw is None:
            if any(folder.glob("*.npz")) or (self._record and self._record.of(name)):
                raise _wrong(name, "a list of versions that is gone")
            return 0, {}
        try:
            document = json.loads(raw)
            body, signatures = document["pointer"], document["signatures"]
            payload = rfc8785.dumps(body)
        except (ValueError, KeyError, TypeError, rfc8785.CanonicalizationError) as error:
            raise _wrong(name, "a damaged or unsigned version list") from error
        verify_dual(self._public, signatures, POINTER, payload)
        if body["name"] != name:
            raise _wrong(name, f"the version list of {body['name']}")
        return body["current"], dict(body["released"])

    def load(self, name: str, *, now_s: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the current card and weights.

        Raises:
            IntegrityError: anything about them does not hold.
        """
        current, released = self._pointer(name)
        if current not in released:
            raise _wrong(name, "no version")
        self._check_record(name, current, released)
        return self._load(name, current, released[current], now_s)

    def _check_record(self, name: str, current: int, released: dict[int, str]) -> None:
        """Raise unless the folder says what is on record; nothing on record yet is no objection."""
        on_record = self._record.of(name) if self._record else []
        if not on_record:
            return
        version, digest = on_record[-1]
        if (current, released.get(current)) != (version, digest):
            raise _wrong(name, f"version {current} as current, and version {version} on record")

    def _load(
        self, name: str, version: int, digest: str, now_s: int
    ) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        folder = self._path(name)
        raw, text = (
            read_private(folder / f"{version}.npz"),
            read_private(folder / f"{version}.json"),
        )
        if raw is None or text is None or len(raw) > MAX_WEIGHTS_BYTES:
            raise _wrong(name, "missing or oversized files")
        try:
            document = json.loads(text)
            body, signatures = document["card"], document["signatures"]
            payload = rfc8785.dumps(body)
        except (ValueError, KeyError, TypeError, rfc8785.CanonicalizationError) as error:
            raise _wrong(name, "a damaged card") from error
        verify_dual(self._public, signatures, CONTEXT, payload)
        if body["name"] != name or body["version"] != version:
            raise _wrong(name, f"the card of {body['name']} {body['version']}")
        if hashlib.sha256(payload).hexdigest() != digest:
            raise _wrong(name, f"a second version {version}")
        if hashlib.sha256(raw).hexdigest() != body["sha256"]:
            raise _wrong(name, "weights that differ from the signed hash")
        if now_s > body["created_s"] + body["max_age_s"]:
            raise _wrong(name, "a stale version")
        if body["created_s"] > now_s + AHEAD_S:
            raise _wrong(name, "a version from the future, which would not become stale in time")
        with contextlib.closing(np.load(io.BytesIO(raw), allow_pickle=False)) as stored:
            return body, {k: stored[k] for k in stored.files}

    def rollback(self, name: str, key: DualKey, *, now_s: int) -> int:
        """Make the version before the current one; it must itself load. Return its number."""
        self._require(name, key)
        current, released = self._pointer(name)
        if not released:
            raise _wrong(name, "no version")
        with locked(self._path(name) / "lock"):
            current, released = self._pointer(name)
            earlier = [v for v in released if v < current]
            if not earlier:
                raise _wrong(name, "no earlier version to go back to")
            before = max(earlier)
            self._check_record(name, current, released)
            self._load(name, before, released[before], now_s)
            if self._record:
                self._record.add(name, before, released[before])
            self._point(name, before, released, key)
        return before
