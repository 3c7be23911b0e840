"""Limits and prices of providers: dated data files, each with its source."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from interlock.errors import UsageError

__all__ = ["Limits", "Pack", "load_pack", "packs"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and prices of a provider or of one of its devices; None where there is none.

    Attributes:
        max_qubits: width.
        max_shots: shots of one circuit.
        max_executions: circuits times parameter sets times shots of a job.
        max_seconds: time a job may take on the device.
        max_ops_per_qubit: operations on the busiest qubit, over the job.
        repetition_s: pause between two shots.
        usd_per_task: price of a circuit with a parameter set.
        usd_per_shot: price of a shot.
        usd_per_second: price of a second on the device.
    """

    max_qubits: int | None = None
    max_shots: int | None = None
    max_executions: int | None = None
    max_seconds: float | None = None
    max_ops_per_qubit: int | None = None
    repetition_s: float | None = None
    usd_per_task: float | None = None
    usd_per_shot: float | None = None
    usd_per_second: float | None = None


class Pack(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider: limits of all its devices, then those of each.

    Attributes:
        name: of the provider.
        checked: the day the numbers were read.
        source: where.
        note: what to know of them.
        devices: part of a device's name -> its own limits, which win.
    """

    name: str
    checked: str
    source: str
    note: str
    devices: dict[str, Limits]

    def limits_of(self, device: str) -> Limits:
        """Return the limits of a device: its own where it has some, else the provider's."""
        own = next((v for k, v in self.devices.items() if k in device.lower()), Limits())
        values = {
            name: getattr(own, name) if getattr(own, name) is not None else getattr(self, name)
            for name in Limits.__struct_fields__
        }
        return Limits(**values)


def packs() -> tuple[str, ...]:
    """Return the names of the packs.

    Example:
        >>> packs()
        ('azure', 'braket', 'ibm', 'local')
    """
    folder = resources.files(__name__)
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json")))


@cache
def load_pack(name: str) -> Pack:
    """Return a pack.

    Raises:
        UsageError: `check-pack`; there is none of that name.
    """
    if name not in packs():
        raise UsageError(
            f"there are no limits of a provider {name!r}",
            code="check-pack",
            got=name,
            expected="one of " + ", ".join(packs()),
            fix="choose one of them",
        )
    text = resources.files(__name__).joinpath(f"{name}.json").read_bytes()
    return msgspec.json.decode(text, type=Pack)
