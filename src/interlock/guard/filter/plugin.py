"""Rules written in code: they run in a confined child, with a deadline and a memory limit.

A plugin is an entry point in the group `interlock.filter-rules`, a function `bytes -> bytes`: the
fields as JSON in, a JSON list of violations out, each `{"message", "got", "expected"}`; an empty
list means that the rule holds. Everything else (an exception, a hang, too much memory, other
output) is a violation that blocks, whatever the rule's `on_fail` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from interlock.confine import ForkServer, Level, Limits
from interlock.errors import InterlockError
from interlock.guard.filter.rules import Constraint

__all__ = ["GROUP", "run_plugin"]

GROUP = "interlock.filter-rules"

_servers: dict[str, ForkServer] = {}
_lock = threading.Lock()


class _Reported(msgspec.Struct, frozen=True):
    message: str
    got: str = ""
    expected: str = ""


def _points(name: str) -> list[importlib.metadata.EntryPoint]:
    return [p for p in importlib.metadata.entry_points(group=GROUP) if p.name == name]


def _target(name: str) -> str | None:
    targets = {point.value for point in _points(name)}
    # Two packages that claim one name: which of them the policy meant cannot be told.
    return targets.pop() if len(targets) == 1 else None


def _source(name: str) -> dict[str, str]:
    """Return where a plugin comes from, without importing it into this process."""
    for point in _points(name):
        found = {"target": point.value, "sha256": ""}
        if point.dist is not None:
            found |= {"distribution": point.dist.name, "version": point.dist.version}
            stem = point.module.replace(".", "/")
            for tail in (".py", "/__init__.py"):
                with contextlib.suppress(OSError):
                    path = Path(str(point.dist.locate_file(stem + tail)))
                    found["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found
    return {}


def _server(target: str) -> ForkServer:
    with _lock:
        if target not in _servers:
            _servers[target] = ForkServer((target,), minimum=Level.RLIMITS)
        return _servers[target]


def run_plugin(rule: Constraint, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Run a rule's plugin and return `{"violations": [...]}` or `{"error": why}`."""
    target = _target(str(rule.plugin))
    if target is None:
        return {"error": f"not one plugin {rule.plugin!r} in {GROUP} is installed"}
    limits = Limits(
        cpu_s=rule.timeout_s,
        wall_s=rule.timeout_s,
        memory_mb=rule.memory_mb,
        max_result_bytes=1 << 20,
    )
    try:
        done = _server(target).run(target, msgspec.json.encode(fields), limits)
        reported = msgspec.json.decode(done.result, type=list[_Reported])
    except InterlockError as error:
        return {"error": f"{error.code}: {error.message} ({error.got})"}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # not UTF-8 is a ValueError
        return {"error": f"the plugin did not answer with a list of violations: {error}"}
    return {
        "violations": [
            {"message": r.message[:300], "got": r.got[:300], "expected": r.expected[:300]}
            for r in reported[:10]
        ],
        "level": done.level.name,
        "source": _source(str(rule.plugin)),
    }
