"""Governance of detectors: an owner, a card, signed weights, the version before, one-step rollback.

A detector is a folder of versions. Weights load only with a card that both signatures cover, whose
hash they match, that has an owner and a validation run, and that is not stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rfc8785

from interlock.crypto.files import locked, read_private, write_private
from interlock.errors import IntegrityError, UsageError
from interlock.monitor.signed import DualKey, DualPublic, verify_dual

__all__ = ["Card", "DetectorRegistry"]

CONTEXT = "detector-card-v1"
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


class DetectorRegistry:
    """Detector versions in a folder, trusted by one public key pair."""

    def __init__(self, folder: Path, public: DualPublic) -> None:
        self._folder = folder
        self._public = public

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise UsageError(
                "a detector's name is malformed",
                code="monitor-detector-name",
                got=name[:80],
                expected="lower-case letters, digits and hyphens",
                fix="rename it",
            )
        path = self._folder / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def release(self, card: Card, weights: dict[str, npt.NDArray[Any]], key: DualKey) -> None:
        """Sign and store a version and make it the current one.

        Raises:
            IntegrityError: no owner, no validation run, or a version not above the current one.
        """
        folder = self._path(card.name)
        if not card.owner.strip() or not card.validation:
            raise _wrong(card.name, "a card without an owner or a validation run")
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **weights)
        raw = buffer.getvalue()
        body = card.body(hashlib.sha256(raw).hexdigest())
        document = {"card": body, "signatures": key.sign(CONTEXT, rfc8785.dumps(body))}
        with locked(folder / "lock"):
            history = self._history(card.name)
            if card.version in history or (history and card.version <= max(history)):
                raise _wrong(card.name, f"version {card.version} after {max(history)}")
            write_private(folder / f"{card.version}.npz", raw)
            write_private(folder / f"{card.version}.json", json.dumps(document).encode())
            write_private(folder / "current", json.dumps([*history, card.version]).encode())

    def _history(self, name: str) -> list[int]:
        raw = read_private(self._path(name) / "current")
        if raw is None:
            return []
        try:
            return [int(v) for v in json.loads(raw)]
        except (ValueError, TypeError) as error:
            raise _wrong(name, "a damaged version list") from error

    def load(self, name: str, *, now_s: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the current card and weights.

        Raises:
            IntegrityError: anything about them does not hold.
        """
        history = self._history(name)
        if not history:
            raise _wrong(name, "no version")
        return self._load(name, history[-1], now_s)

    def _load(
        self, name: str, version: int, now_s: int
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
        if hashlib.sha256(raw).hexdigest() != body["sha256"]:
            raise _wrong(name, "weights that differ from the signed hash")
        if now_s > body["created_s"] + body["max_age_s"]:
            raise _wrong(name, "a stale version")
        with contextlib.closing(np.load(io.BytesIO(raw), allow_pickle=False)) as stored:
            return body, {k: stored[k] for k in stored.files}

    def rollback(self, name: str, *, now_s: int) -> int:
        """Make the version before the current one; it must itself load. Return its number."""
        folder = self._path(name)
        with locked(folder / "lock"):
            history = self._history(name)
            if len(history) < 2:
                raise _wrong(name, "no earlier version to go back to")
            self._load(name, history[-2], now_s)
            write_private(folder / "current", json.dumps(history[:-1]).encode())
        return history[-2]
