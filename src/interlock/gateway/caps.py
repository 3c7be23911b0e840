"""What a sandboxed program may use of the machine: processes, memory, processors.

A control group holds all of it together and is used wherever this user may make one (version 2
where it was delegated, else version 1). Where none can be made, limits hold each process: the
number of processes counted in the sandbox's own user namespace, address space, processor time.
The kernel does not count the processes of root that way; for root without a control group only
the watchdog is left, which ends the sandbox once it has counted too many.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SANDBOX", "Cage", "Caps", "open_cage"]

#: Variable by which a gateway is told how the sandbox it serves is held, for its ledger.
SANDBOX = "INTERLOCK_SANDBOX"
_PERIOD_US = 100_000
#: controller -> (version 2 file, version 1 file)
_FILES = {
    "pids": ("pids.max", "pids.max"),
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "cpu": ("cpu.max", "cpu.cfs_quota_us"),
}
_LIMITS = (
    "import os,resource as r,sys;a=sys.argv;n,m,c=map(int,a[1:4]);"
    "r.setrlimit(r.RLIMIT_NPROC,(n,n));"
    "m and r.setrlimit(r.RLIMIT_AS,(m,m));"
    "c and r.setrlimit(r.RLIMIT_CPU,(c,c));"
    "os.execvp(a[4],a[4:])"
)


def _memory() -> int:
    """Return three quarters of the machine's memory, in MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4 // 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the program and all that it starts may use.

    Attributes:
        processes: processes and threads at once.
        memory_mb: of all together in a control group, of each process without one.
        cpus: processors' worth of time; only a control group can hold it.
        cpu_s: processor seconds of each process; 0 for no limit.
    """

    processes: int = 1024
    memory_mb: int = field(default_factory=_memory)
    cpus: float = field(default_factory=lambda: float(len(os.sched_getaffinity(0))))
    cpu_s: int = 0


class Cage:
    """Caps in force.

    Attributes:
        level: `cgroup-2`, `cgroup-1`, `rlimits` or `watchdog`.
    """

    def __init__(self, caps: Caps, level: str, groups: dict[str, Path]) -> None:
        self.caps = caps
        self.level = level
        self._groups = groups
        self._base = {c: _events(c, g) for c, g in groups.items()}

    def enter(self) -> None:
        """Put the calling process in; between fork and exec."""
        for group in set(self._groups.values()):
            (group / "cgroup.procs").write_text("0")

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command with the limits of each process, to run in the sandbox."""
        caps = self.caps
        # In a control group memory is held for all together; address space would only be in the
        # way of programs that reserve more than they use.
        space = 0 if "memory" in self._groups else caps.memory_mb * 2**20
        numbers = [str(n) for n in (caps.processes, space, caps.cpu_s)]
        return [sys.executable, "-I", "-S", "-c", _LIMITS, *numbers, *command]

    @property
    def counts(self) -> bool:
        """Whether the kernel holds the number of processes."""
        return "pids" in self._groups or self.level == "rlimits"

    @property
    def crowded(self) -> str:
        """Say that there were too many processes."""
        return f"more than {self.caps.processes} processes and threads"

    def exceeded(self) -> str | None:
        """Return which cap the program has run into, or None."""
        for controller, group in self._groups.items():
            if _events(controller, group) > self._base[controller]:
                if controller == "pids":
                    return self.crowded
                return f"more than {self.caps.memory_mb} MB of memory"
        return None

    def describe(self) -> dict[str, Any]:
        """Return level and caps, for the record."""
        held = sorted(self._groups) or (["pids"] if self.level == "rlimits" else [])
        return {"level": self.level, "held": held, **asdict(self.caps)}

    def close(self) -> None:
        """Remove the control groups once the program has ended."""
        for group in set(self._groups.values()):
            for _ in range(100):
                try:
                    group.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)


def _events(controller: str, group: Path) -> int:
    """Return how often a limit was run into."""
    with contextlib.suppress(OSError, ValueError):
        if controller == "pids":
            return _count(group / "pids.events", "max")
        if controller == "memory":
            if (group / "memory.events").exists():
                return _count(group / "memory.events", "oom_kill")
            return _count(group / "memory.oom_control", "oom_kill")
    return 0


def _count(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _own_groups() -> dict[str, tuple[int, Path]]:
    """Return controller -> version and folder of this process's own control group."""
    mounts: dict[str, tuple[str, Path]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        fields = left.split()
        if kind in ("cgroup", "cgroup2"):
            for name in options.split(",") if kind == "cgroup" else [""]:
                mounts[name] = (fields[3], Path(fields[4]))
    found: dict[str, tuple[int, Path]] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name not in mounts:
                continue
            root, folder = mounts[name]
            below = folder / os.path.relpath(path, root) if path.startswith(root) else folder
            if name:
                found.setdefault(name, (1, below))
            else:
                with contextlib.suppress(OSError):
                    for controller in (below / "cgroup.controllers").read_text().split():
                        found[controller] = (2, below)
    return found


def _delegate(base: Path, controllers: Sequence[str]) -> None:
    """Let children of a version 2 group have controllers, moving ourselves out of the way."""
    enabled = (base / "cgroup.subtree_control").read_text().split()
    missing = [c for c in controllers if c not in enabled]
    if not missing:
        return
    if (base / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        own = base / "interlock"
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text("0")
    (base / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in missing))


def _write(group: Path, controller: str, version: int, caps: Caps) -> None:
    name = _FILES[controller][2 - version]
    if controller == "pids":
        (group / name).write_text(str(caps.processes))
    elif controller == "memory":
        (group / name).write_text(str(caps.memory_mb * 2**20))
        with contextlib.suppress(OSError):  # a kernel without swap accounting has no such file
            swap = ("memory.swap.max", "0") if version == 2 else (
                "memory.memsw.limit_in_bytes", str(caps.memory_mb * 2**20))  # fmt: skip
            (group / swap[0]).write_text(swap[1])
    else:
        quota = int(caps.cpus * _PERIOD_US)
        if version == 2:
            (group / name).write_text(f"{quota} {_PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / name).write_text(str(quota))


def _tidy(base: Path) -> None:
    """Remove the empty groups of processes that were killed before they could."""
    for group in base.glob("interlock-*-*"):
        if not Path("/proc", group.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                group.rmdir()


def open_cage(caps: Caps) -> Cage:
    """Put caps in force for a program that is to be started, at the best level there is."""
    groups: dict[str, Path] = {}
    versions: set[int] = set()
    label = f"interlock-{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError, ValueError):
        own = _own_groups()
        second = [c for c in _FILES if own.get(c, (0,))[0] == 2]
        if second:
            with contextlib.suppress(OSError):
                _delegate(own[second[0]][1], second)
        for controller in _FILES:
            if controller not in own:
                continue
            version, base = own[controller]
            group = base / label
            _tidy(base)
            with contextlib.suppress(OSError):
                group.mkdir(exist_ok=True)
                _write(group, controller, version, caps)
                groups[controller] = group
                versions.add(version)
    if "pids" in groups:
        return Cage(caps, f"cgroup-{min(versions)}", groups)
    return Cage(caps, "watchdog" if os.getuid() == 0 else "rlimits", groups)
