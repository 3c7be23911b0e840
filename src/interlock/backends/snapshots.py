"""The IBM device snapshots that ship in qiskit-ibm-runtime, read without importing it."""

from __future__ import annotations

import difflib
import importlib.util
from functools import cache
from pathlib import Path

import msgspec

from interlock.backends.calibration import Calibration
from interlock.backends.sources import from_ibm
from interlock.errors import InputError, SetupError

__all__ = ["snapshot", "snapshots"]


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    if spec is None or spec.origin is None:
        raise SetupError(
            "device snapshots need the qiskit extra",
            code="extra-missing",
            got="qiskit-ibm-runtime is not installed",
            expected="qiskit-ibm-runtime >= 0.51",
            fix="pip install 'interlock[qiskit]'",
        )
    return Path(spec.origin).parent / "fake_provider" / "backends"


@cache
def snapshots() -> tuple[str, ...]:
    """Return the names of the shipped snapshots that have calibration data."""
    return tuple(
        sorted(
            p.parent.name
            for p in _folder().glob("*/props_*.json")
            if p.stem == f"props_{p.parent.name}"
        )
    )


@cache
def snapshot(name: str) -> Calibration:
    """Return one snapshot as it was: `manila`, `fake_manila` and `FakeManilaV2` are the same.

    Raises:
        InputError: no such snapshot (`snapshot-unknown`).
    """
    short = name.lower().replace("_", "").removeprefix("fake").removeprefix("ibm")
    short = short.removesuffix("v2")
    if short not in snapshots():
        near = difflib.get_close_matches(short, snapshots(), 3, 0.5)
        raise InputError(
            f"no device snapshot named {name!r}",
            code="snapshot-unknown",
            got=name,
            expected="one of " + ", ".join(snapshots()),
            fix=f"did you mean {' or '.join(near)}?" if near else "pick a name of the list",
        )
    data = (_folder() / short / f"props_{short}.json").read_bytes()
    return from_ibm(msgspec.json.decode(data), device=f"ibm_{short}", kind="twin")
