"""Signed checkpoints of a torch training: each update is judged, a bad one goes back to a good one.

Put `step` behind `optimizer.step()`. It compares the update with those accepted before
(`interlock.crypto.weights.updates`), signs a checkpoint every few updates, each naming its parent,
the hash of the data seen since and the statistics of its last update, and, when an update is
stopped, loads the newest signed checkpoint again: verified first, then deserialised.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.crypto import files
from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.weights.chain import check_chain
from interlock.crypto.weights.loaders import WeightLoader
from interlock.crypto.weights.manifest import Signed, sign_folder, verify_folder
from interlock.crypto.weights.updates import (
    GateSettings,
    GateVerdict,
    UpdateGate,
    update_statistics,
)
from interlock.errors import InputError, IntegrityError

if TYPE_CHECKING:
    import torch

__all__ = ["SignedCheckpoints", "Step"]

_MODEL = "model."
_STATE = "optimizer."
_PARTS = ("model.safetensors", "optimizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of one update.

    Attributes:
        verdict: of the gate.
        reverted_to: the checkpoint that was loaded again, or None when the update stays.
        signed: the checkpoint that was signed after the update, or None.
    """

    verdict: GateVerdict
    reverted_to: Signed | None
    signed: Signed | None


class SignedCheckpoints:
    """The chain of checkpoints of one training.

    Args:
        module: what is trained.
        optimizer: its state is part of each checkpoint and is reverted too.
        folder: of the chain, one folder a checkpoint; a chain that is there is gone on with.
        signer: signs the checkpoints.
        name: of the model.
        validate: returns the loss on data that no update was made from.
        every: accepted updates between two signed checkpoints; a stopped update costs those since
            the last one.
        settings: of the gate.

    Raises:
        IntegrityError: the chain in the folder is not whole; `last_good` is in the message.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from interlock.crypto.keys import KeyStore
        >>> home = pathlib.Path(tempfile.mkdtemp())
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> points = torch.randn(32, 4)
        >>> chain = SignedCheckpoints(
        ...     model, optimizer, home / "run", ArtefactSigner(KeyStore(home / "keys")),
        ...     name="demo", validate=lambda: model(points).square().mean().item())
        >>> loss = model(points).square().mean()
        >>> loss.backward()
        >>> optimizer.step()
        >>> chain.step(points).verdict.accept
        True
        >>> chain.newest.version
        0
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        signer: ArtefactSigner,
        *,
        name: str,
        validate: Callable[[], float],
        every: int = 10,
        settings: GateSettings | None = None,
    ) -> None:
        if every < 1:
            raise InputError(
                "checkpoints must have a distance",
                code="checkpoint-every",
                got=f"every={every}",
                expected="a whole number >= 1",
                fix="pass for instance every=10",
            )
        self._module, self._optimizer = module, optimizer
        self._folder, self._signer, self._name = files.private_dir(folder), signer, name
        self._validate, self._every = validate, every
        self._gate = UpdateGate(settings)
        self._loader = WeightLoader(signer.trusted, name=name, state=folder / ".state")
        self._previous: Any = None
        self._since = 0
        self._data = hashlib.sha256()
        self.updates = self.reverted = 0
        self.newest = self._resumed() or self._sign({})
        self._before = self._arrays()

    def _places(self) -> list[Path]:
        return sorted(p for p in self._folder.iterdir() if p.name.isdigit())

    def _resumed(self) -> Signed | None:
        for part in self._folder.glob(".*.part"):
            shutil.rmtree(part)  # what a crash left half written
        places = self._places()
        if not places:
            return None
        report = check_chain(places, self._signer.trusted)
        if not report.ok:
            faults = "; ".join(f"{Path(f.where).name}: {f.kind}" for f in report.faults)
            raise IntegrityError(
                "the chain of checkpoints is not whole; nothing was loaded",
                code="checkpoint-chain",
                got=faults,
                expected="each checkpoint signed, and the child of the one before",
                fix=f"keep the folder as evidence; go on from a copy up to {report.last_good}",
            )
        newest = report.checkpoints[-1]
        self._load(newest)
        return newest

    def step(self, *batch: torch.Tensor) -> Step:
        """Judge the update just made; keep it, or go back to the newest signed checkpoint.

        Args:
            batch: the tensors the update was made from; their hash is signed.

        Raises:
            IntegrityError: the checkpoint to go back to is not what was signed.
        """
        import torch

        for tensor in batch:
            self._data.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            self._data.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
        self.updates += 1
        after = self._arrays()
        statistics, update = update_statistics(
            self._before, after, self._previous, float(self._validate())
        )
        verdict = self._gate.judge(statistics)
        if not verdict.accept:
            self.reverted += 1
            self._load(self.newest)
            self._before, self._since = self._arrays(), 0
            return Step(verdict=verdict, reverted_to=self.newest, signed=None)
        self._previous, self._before = update, after
        self._since += 1
        signed = None
        if self._since >= self._every:
            distance = verdict.distance if math.isfinite(verdict.distance) else None
            signed = self._sign({"statistics": statistics.as_dict(), "distance": distance})
        return Step(verdict=verdict, reverted_to=None, signed=signed)

    def _arrays(self) -> dict[str, Any]:
        return {
            name: value.detach().cpu().double().numpy().copy()
            for name, value in self._module.state_dict().items()
            if value.is_floating_point()
        }

    def _sign(self, facts: Mapping[str, Any]) -> Signed:
        """Write, sign and name the next checkpoint; it is there whole or not at all."""
        from safetensors.torch import save

        parent = getattr(self, "newest", None)
        version = parent.version + 1 if parent else 0
        place = self._folder / f"{version:08d}"
        part = files.private_dir(self._folder / f".{version:08d}.part")
        state = self._optimizer.state_dict()
        tensors = {_MODEL + k: v.contiguous() for k, v in self._module.state_dict().items()}
        plain: dict[str, dict[str, Any]] = {}
        for index, values in state["state"].items():
            for key, value in values.items():
                if hasattr(value, "contiguous"):
                    tensors[f"{_STATE}{index}.{key}"] = value.contiguous()
                else:
                    plain.setdefault(str(index), {})[key] = value
        groups = json.dumps({"state": plain, "param_groups": state["param_groups"]})
        copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        for name, data in zip(_PARTS, (save(copies), groups.encode()), strict=True):
            files.write_private(part / name, data)
        signed = sign_folder(
            part,
            self._signer,
            name=self._name,
            version=version,
            parent=parent.id if parent else None,
            facts={
                "data_sha256": self._data.hexdigest(),
                "updates": self.updates,
                "reverted": self.reverted,
                **facts,
            },
        )
        part.rename(place)
        files.sync_dir(self._folder)
        self.newest, self._since, self._data = signed, 0, hashlib.sha256()
        return signed

    def _load(self, signed: Signed) -> None:
        place = self._folder / f"{signed.version:08d}"
        if verify_folder(place, self._signer.trusted).id != signed.id:
            raise IntegrityError(
                "the checkpoint to go back to is another one",
                code="checkpoint-chain",
                got=str(place),
                expected=f"the checkpoint {signed.id[:16]}",
                fix="keep the folder as evidence; restore it from a copy",
            )
        tensors = self._loader.torch(place)
        document = json.loads((place / _PARTS[1]).read_bytes())
        state: dict[int, dict[str, Any]] = {int(i): v for i, v in document["state"].items()}
        for name, value in tensors.items():
            if name.startswith(_STATE):
                index, key = name.removeprefix(_STATE).split(".", 1)
                state.setdefault(int(index), {})[key] = value
        model = {n.removeprefix(_MODEL): v for n, v in tensors.items() if n.startswith(_MODEL)}
        self._module.load_state_dict(model)
        groups = [
            {k: tuple(v) if k != "params" and isinstance(v, list) else v for k, v in group.items()}
            for group in document["param_groups"]
        ]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
