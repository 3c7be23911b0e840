"""Loaders that refuse before anything is deserialised, and load from the bytes they checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.crypto.weights.formats import kind_of
from interlock.crypto.weights.manifest import Signed, read_signature, read_verified
from interlock.errors import InputError, IntegrityError, SetupError

__all__ = ["WeightLoader"]


class WeightLoader:
    """Loads signed weights of one model and remembers the highest version it has loaded.

    A lower version, and other weights under the same version, are refused.

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
        for path_name, data in contents.items():
            try:
                found = load(data)
            except Exception as error:
                raise _unloadable(path_name, error) from error
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
        try:
            session = onnxruntime.InferenceSession(contents[chosen], **options)
        except Exception as error:
            raise _unloadable(chosen, error) from error
        self._remember(signed)
        return session

    def _checked(self, folder: Path, kind: str) -> tuple[Signed, dict[str, bytes]]:
        """Check every file of the folder; return the bytes of those of one kind."""
        lowest, seen = self._versions().get(self._name, (0, ""))
        signed = read_signature(folder, self._public, name=self._name, min_version=lowest)
        _refuse_swap(signed, lowest, seen)
        kept = {}
        for path_name in signed.digests:
            data = read_verified(folder, signed, path_name)
            if kind_of(path_name) == kind:
                kept[path_name] = data
        return signed, kept

    def _versions(self) -> dict[str, tuple[int, str]]:
        """Return name -> highest version loaded and its id; "" when only the version was kept."""
        raw = files.read_private(self._state)
        try:
            found = {} if raw is None else json.loads(raw)
            versions = {}
            for name, kept in found.items():
                version, identity = (kept, "") if isinstance(kept, int) else kept
                if type(version) is not int or type(identity) is not str:
                    raise ValueError(f"{name}: {kept!r}")
                versions[name] = (version, identity)
        except (ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(
                "the record of the versions already loaded is damaged",
                code="weights-state",
                got=f"{self._state}: {error}",
                expected="what a loader wrote there",
                fix="restore it from a copy; nothing is loaded, since an older version would pass",
            ) from error
        return versions

    def _remember(self, signed: Signed) -> None:
        with files.locked(self._lock):
            versions = self._versions()
            highest, seen = versions.get(self._name, (-1, ""))
            _refuse_swap(signed, highest, seen)  # another process may have loaded meanwhile
            if signed.version > highest or (signed.version == highest and not seen):
                versions[self._name] = (signed.version, signed.id)
                files.write_private(self._state, json.dumps(versions).encode())


def _refuse_swap(signed: Signed, version: int, identity: str) -> None:
    if signed.version == version and identity and signed.id != identity:
        raise IntegrityError(
            "these are other weights under a version already used",
            code="weights-swapped",
            got=f"version {version}, id {signed.id}",
            expected=f"version {version}, id {identity}",
            fix="find out who signed the same version twice; sign new weights as a new version",
        )


def _unloadable(path_name: str, error: Exception) -> InputError:
    return InputError(
        f"{path_name} is signed, but cannot be loaded",
        code="weights-format",
        got=f"{type(error).__name__}: {str(error)[:300]}",
        expected="weights that their library reads",
        fix="check the file where it was made, and sign a good one as a new version",
    )


def _extra(what: str) -> SetupError:
    return SetupError(
        f"loading these weights needs {what}",
        code="extra-missing",
        got="not installed",
        expected=what,
        fix="pip install 'interlock[weights]'",
    )
