"""Loaders that refuse before anything is deserialised, and load from the bytes they checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.crypto.weights.formats import kind_of
from interlock.crypto.weights.manifest import Signed, read_signature, read_verified
from interlock.errors import InputError, SetupError

__all__ = ["WeightLoader"]


class WeightLoader:
    """Loads signed weights of one model and remembers the highest version it has loaded.

    Args:
        public: trusted keys, both required.
        name: the model.
        state: folder that remembers versions over restarts; rollback is refused by it.
    """

    def __init__(self, public: Mapping[str, bytes], *, name: str, state: Path) -> None:
        self._public = public
        self._name = name
        self._state = files.private_dir(state) / "versions.json"
        self._lock = state / ".lock"

    def safetensors(self, folder: Path) -> dict[str, Any]:
        """Return the tensors of all safetensors files as numpy arrays."""
        try:
            from safetensors.numpy import load
        except ImportError as error:
            raise _extra("safetensors") from error
        return self._tensors(folder, load)

    def torch(self, folder: Path) -> dict[str, Any]:
        """Return the tensors of all safetensors files as torch tensors."""
        try:
            from safetensors.torch import load
        except ImportError as error:
            raise _extra("safetensors and torch") from error
        return self._tensors(folder, load)

    def _tensors(self, folder: Path, load: Any) -> dict[str, Any]:
        signed, contents = self._checked(folder, "safetensors")
        tensors: dict[str, Any] = {}
        for data in contents.values():
            found = load(data)
            if twice := sorted(set(found) & set(tensors)):
                raise InputError(
                    "a tensor stands in two files",
                    code="weights-unsigned",
                    got=", ".join(twice[:5]),
                    expected="each tensor once",
                    fix="sign a folder in which every tensor has one place",
                )
            tensors |= found
        self._remember(signed)
        return tensors

    def onnx(self, folder: Path, path_name: str | None = None, **options: Any) -> Any:
        """Return an ONNX Runtime session of one ONNX file (the only one by default)."""
        try:
            import onnxruntime
        except ImportError as error:
            raise _extra("onnxruntime") from error
        signed, contents = self._checked(folder, "onnx")
        names = list(contents)
        chosen = path_name or (names[0] if len(names) == 1 else None)
        if chosen is None or chosen not in contents:
            raise InputError(
                "which ONNX file to load is not clear",
                code="weights-unsigned",
                got=path_name or f"{len(names)} ONNX files",
                expected="one of " + (", ".join(names) or "(none)"),
                fix="name the file",
            )
        options.setdefault("providers", ["CPUExecutionProvider"])
        session = onnxruntime.InferenceSession(contents[chosen], **options)
        self._remember(signed)
        return session

    def _checked(self, folder: Path, kind: str) -> tuple[Signed, dict[str, bytes]]:
        """Check every file of the folder; return the bytes of those of one kind."""
        lowest = self._versions().get(self._name, 0)
        signed = read_signature(folder, self._public, name=self._name, min_version=lowest)
        kept = {}
        for path_name in signed.digests:
            data = read_verified(folder, signed, path_name)
            if kind_of(path_name) == kind:
                kept[path_name] = data
        return signed, kept

    def _versions(self) -> dict[str, int]:
        raw = files.read_private(self._state)
        versions: dict[str, int] = {} if raw is None else json.loads(raw)
        return versions

    def _remember(self, signed: Signed) -> None:
        with files.locked(self._lock):
            versions = self._versions()
            if signed.version > versions.get(self._name, -1):
                versions[self._name] = signed.version
                files.write_private(self._state, json.dumps(versions).encode())


def _extra(what: str) -> SetupError:
    return SetupError(
        f"loading these weights needs {what}",
        code="extra-missing",
        got="not installed",
        expected=what,
        fix="pip install 'interlock[weights]'",
    )
