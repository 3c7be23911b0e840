"""What confinement means: the ordered levels and the limits of a child."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Level", "Limits", "Probe"]


class Level(enum.IntEnum):
    """How well a child is held, weakest first.

    `NONE`: the caller's own process. `PROCESS`: another process that can be killed at a deadline.
    `RLIMITS`: and bounded in CPU, memory, files and core dumps. `CONFINED`: and without files,
    network, new programs, signals or other processes (no_new_privs, Landlock, seccomp).

    Example:
        >>> Level.RLIMITS < Level.CONFINED
        True
    """

    NONE = 0
    PROCESS = 1
    RLIMITS = 2
    CONFINED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may use.

    Attributes:
        cpu_s: processor seconds, rounded up; the kernel kills at the limit.
        memory_mb: address space on top of what the child starts with.
        wall_s: deadline by the clock; the child is killed at it.
        open_files: descriptors.
        max_result_bytes: more output than this is refused.
        threads: whether the child may start threads (never processes).
        read_paths: files and folders the child may read, for instance to import late.
    """

    cpu_s: float = 10.0
    memory_mb: int = 2048
    wall_s: float = 20.0
    open_files: int = 32
    max_result_bytes: int = 64 * 1024 * 1024
    threads: bool = False
    read_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The level this machine reaches and, for each feature it lacks, why."""

    level: Level
    missing: tuple[str, ...] = ()
