"""Finding plugins by entry point. Installed is not enabled: the policy names what is loaded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from interlock.errors import SetupError
from interlock.extras import to_install

__all__ = ["PluginSource", "installed", "load", "source_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSource:
    """Where a plugin came from, as the ledger records it."""

    group: str
    name: str
    target: str
    distribution: str
    version: str
    sha256: str


@cache
def _entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {ep.name: ep for ep in importlib.metadata.entry_points(group=group)}


def installed(group: str) -> tuple[str, ...]:
    """Return the names of the plugins a group has, sorted; nothing is imported.

    Example:
        >>> installed("interlock.no-such-group")
        ()
    """
    return tuple(sorted(_entry_points(group)))


@cache
def load(group: str, name: str) -> Any:
    """Import one plugin and return the object its entry point names.

    Raises:
        SetupError: no such plugin, or it cannot be imported.
    """
    point = _entry_points(group).get(name)
    if point is None:
        raise SetupError(
            f"no plugin named {name!r} in {group}",
            code="plugin-missing",
            got=name,
            expected="one of " + (", ".join(installed(group)) or "(none installed)"),
            fix="install the package that brings it, or take the name out of the policy",
        )
    try:
        return point.load()
    except Exception as error:  # a plugin may fail in any way
        raise SetupError(
            f"plugin {name!r} in {group} cannot be imported",
            code="plugin-broken",
            got=f"{type(error).__name__}: {error}",
            expected=f"{point.value} to import",
            fix=to_install(error.name)
            if isinstance(error, ModuleNotFoundError) and error.name
            else "mend the plugin",
        ) from error


@cache
def source_of(group: str, name: str) -> PluginSource:
    """Return distribution, version and SHA-256 of the module file of a loaded plugin."""
    load(group, name)
    point = _entry_points(group)[name]
    module = sys.modules[point.module]
    path = getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    dist = point.dist
    return PluginSource(
        group=group,
        name=name,
        target=point.value,
        distribution=dist.name if dist else "",
        version=dist.version if dist else "",
        sha256=digest,
    )
