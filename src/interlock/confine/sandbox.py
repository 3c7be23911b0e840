"""Confining the calling process: rlimits, capabilities, Landlock, seccomp.

The seccomp filter is an allow-list: a computation that reads its input and writes its result
needs about seventy system calls, and everything else (sockets, exec, fork, ptrace, mount, bpf,
io_uring, keyctl, process_vm_*, memfd) fails with EPERM. Landlock (Linux 5.13) closes the file
system and, from ABI 6, signals to processes outside. Blind zone: `stat` still shows that a file
exists and how large it is; timing and shared caches are not hidden.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from interlock.confine.levels import Level, Limits, Probe

__all__ = ["confine", "probe"]

_ALLOWED = tuple(
    """
    read readv pread64 preadv write writev pwrite64 close lseek fstat newfstatat stat lstat
    statx access faccessat faccessat2 readlink readlinkat open openat getcwd getdents64 mmap
    munmap mprotect mremap brk madvise futex set_robust_list get_robust_list set_tid_address
    rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack restart_syscall exit
    exit_group clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getpid
    getppid gettid getuid geteuid getgid getegid sched_yield sched_getaffinity sched_getparam
    sched_getscheduler getrandom getrusage times uname poll ppoll select pselect6 membarrier
    sysinfo getrlimit getcpu dup
    """.split()  # noqa: SIM905 - a list of this length reads better as words
)

_FCNTL_ALLOWED = (1, 2, 3, 1030)  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_CLONE_THREAD = 0x00010000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 4, 38, 24
_CAPABILITY_VERSION_3 = 0x20080522


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _rlimits(limits: Limits) -> None:
    import resource

    def lower(which: int, value: int) -> None:
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))

    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = math.ceil(usage.ru_utime + usage.ru_stime + limits.cpu_s)
    lower(resource.RLIMIT_CPU, max(1, cpu_s))
    used = 0
    with contextlib.suppress(OSError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    lower(resource.RLIMIT_AS, used + limits.memory_mb * 1024 * 1024)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_NOFILE, limits.open_files)
    if sys.platform == "linux":
        lower(resource.RLIMIT_MEMLOCK, 0)
        lower(resource.RLIMIT_MSGQUEUE, 0)
    if not limits.threads:
        lower(resource.RLIMIT_NPROC, 0)


def _privileges() -> None:
    """Die with the parent, be invisible to others of the same user, hold no capability."""
    libc = _libc()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.geteuid() == 0:
        for capability in range(64):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs refused")


def _landlock(limits: Limits) -> None:
    from py_landlock import AccessFs, Landlock

    rules = Landlock(strict=False)
    for path in limits.read_paths:
        where = Path(path)
        access = AccessFs.READ_FILE
        if where.is_dir():
            access |= AccessFs.READ_DIR
        if where.exists():
            rules.add_path_rule(where, access=access)
    rules.apply()


def _seccomp(limits: Limits, inbox: int | None) -> None:
    import pyseccomp as sc

    rules = sc.SyscallFilter(defaction=sc.ERRNO(errno.EPERM))

    def allow(name: str, *args: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # not a call of this architecture
            rules.add_rule(sc.ALLOW, name, *args)

    for name in _ALLOWED:
        allow(name)
    for command in _FCNTL_ALLOWED:
        allow("fcntl", sc.Arg(1, sc.EQ, command))
    allow("prlimit64", sc.Arg(0, sc.EQ, 0), sc.Arg(2, sc.EQ, 0))
    allow("tgkill", sc.Arg(0, sc.EQ, os.getpid()))
    if inbox is not None:
        allow("recvmsg", sc.Arg(0, sc.EQ, inbox))
    # ENOSYS makes libc fall back to clone, whose flags a filter can see.
    rules.add_rule(sc.ERRNO(errno.ENOSYS), "clone3")
    if limits.threads:
        allow("clone", sc.Arg(0, sc.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    rules.load()


def _held() -> Iterator[str]:
    """Try what must fail, and yield what did not."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
        yield "the file system is open"
    except OSError:
        pass
    if _libc().socket(1, 1, 0) >= 0:
        yield "sockets are open"
    if _libc().unshare(0x10000000) == 0:
        yield "namespaces are open"


def confine(limits: Limits, *, inbox: int | None = None) -> tuple[Level, tuple[str, ...]]:
    """Confine the calling process for good and return the level reached and what is missing.

    Call it in a child with one thread, after its imports. What could not be applied is named, and
    the level is the highest whose features all hold; whether that suffices is the caller's policy.

    Args:
        limits: what the child may still use.
        inbox: number of the one open socket it may still receive on, to get its job. Once that is
            closed no other can take its place: none can be made.

    Returns:
        The level and, for each missing feature, one line.
    """
    missing: list[str] = []
    try:
        _rlimits(limits)
    except (OSError, ValueError, ImportError) as error:
        return Level.PROCESS, (f"rlimits: {error}",)
    if sys.platform != "linux":
        return Level.RLIMITS, (f"Landlock and seccomp need Linux, this is {sys.platform}",)
    for name, apply in (
        ("no_new_privs", _privileges),
        ("Landlock", lambda: _landlock(limits)),
        ("seccomp", lambda: _seccomp(limits, inbox)),
    ):
        try:
            apply()
        except Exception as error:  # noqa: BLE001 - any failure lowers the level and is named
            missing.append(f"{name}: {type(error).__name__}: {error}")
    if not missing:
        missing.extend(_held())
    return (Level.RLIMITS if missing else Level.CONFINED), tuple(missing)


@cache
def probe() -> Probe:
    """Confine a throw-away child and return the level it reached, with reasons.

    Example:
        >>> probe().level >= Level.PROCESS
        True
    """
    if not hasattr(os, "fork"):
        return Probe(level=Level.PROCESS, missing=("fork: not on this platform",))
    from interlock.confine.server import run_confined

    done = run_confined("interlock.confine.entry:echo", b"", Limits(wall_s=30.0))
    return Probe(level=done.level, missing=done.missing)
