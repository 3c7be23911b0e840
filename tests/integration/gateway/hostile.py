"""Tries to get out of the sandbox. Prints one JSON object: attack -> what it got, or null."""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SECRET_PATHS = json.loads(sys.argv[1])
PARENT = int(sys.argv[2])
ABSTRACT = sys.argv[3]
PORT = int(sys.argv[4])
CANARY = "canary-"  # the rest is never written here
got = {}
libc = ctypes.CDLL(None, use_errno=True)


def attack(function):
    try:
        got[function.__name__] = function()
    except BaseException as error:
        got[function.__name__] = None
        got.setdefault("errors", {})[function.__name__] = f"{type(error).__name__}: {error}"


@attack
def read_the_home_and_the_credentials():
    found = [p for p in SECRET_PATHS if Path(p).exists()]
    return found or None


@attack
def find_the_canary_anywhere():
    hits = []
    for base, dirs, names in os.walk("/"):
        if base.startswith(("/proc", "/sys", "/usr", "/lib")) or "site-packages" in base:
            dirs.clear()
            continue
        for name in names:
            path = Path(base, name)
            with contextlib.suppress(OSError):
                small = path.is_file() and path.stat().st_size < 1 << 20
                if small and (CANARY + "broker").encode() in path.read_bytes():
                    hits.append(str(path))
    return hits or None


@attack
def environment_of_myself():
    return [k for k, v in os.environ.items() if CANARY + "env" in v] or None


@attack
def environments_of_other_processes():
    hits = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if (CANARY + "env").encode() in path.read_bytes():
                hits.append(str(path))
    return hits or None


@attack
def see_the_parent():
    return Path(f"/proc/{PARENT}/cmdline").read_bytes().decode() if PARENT > 300 else None


@attack
def signal_the_parent():
    os.kill(PARENT, 0)
    return PARENT


@attack
def internet_socket():
    return socket.socket(socket.AF_INET).fileno()


@attack
def connect_to_the_hosts_loopback():
    return socket.create_connection(("127.0.0.1", PORT), 1).fileno()


@attack
def raw_and_netlink_sockets():
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).fileno()


@attack
def vsock():
    return socket.socket(40, socket.SOCK_STREAM).fileno()


@attack
def abstract_unix_socket():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("\0" + ABSTRACT)
    return "connected"


@attack
def write_outside():
    for path in ("/usr/x", "/etc/x", "/bin/x", "/x", "/run/x", sys.prefix + "/x"):
        with contextlib.suppress(OSError):
            Path(path).write_text("x")
            if Path(path).exists() and path not in ("/x", "/etc/x", "/run/x"):
                return path
    return None


@attack
def replace_the_interpreter():
    Path(os.__file__).write_text("")
    return os.__file__


@attack
def symlink_out_of_the_project():
    link = Path("link")
    link.unlink(missing_ok=True)
    link.symlink_to(SECRET_PATHS[0])
    return link.read_text()


@attack
def proc_root_of_init():
    return [p for p in SECRET_PATHS if Path("/proc/1/root" + p).exists()] or None


@attack
def inherited_descriptors():
    out = []
    for name in [p.name for p in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):
            target = str(Path(f"/proc/self/fd/{name}").readlink())
            if int(name) > 2 and not target.startswith(("/proc", "pipe:", "/dev/null")):
                out.append(target)
    return [t for t in out if "hostile.py" not in t] or None


@attack
def ptrace():
    if libc.ptrace(16, 1, 0, 0) == 0:
        return "attached"
    return "traceme" if libc.ptrace(0, 0, 0, 0) == 0 else None


@attack
def process_vm_readv():
    return (
        libc.syscall(310, PARENT, 0, 0, 0, 0, 0)
        if libc.syscall(310, os.getpid(), 0, 0, 0, 0, 0) == 0
        else None
    )


@attack
def io_uring():
    ring = libc.syscall(425, 8, ctypes.create_string_buffer(120))
    return ring if ring >= 0 else None


@attack
def bpf_and_perf():
    for number in (321, 298, 323):
        if libc.syscall(number, 0, ctypes.create_string_buffer(256), 128, 0, 0) >= 0:
            return number
    return None


@attack
def new_namespaces():
    for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000):
        if libc.unshare(flag) == 0:
            return hex(flag)
    return subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode == 0 or None


@attack
def mount_something():
    return "mounted" if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 else None


@attack
def keyring():
    return "key" if libc.syscall(250, 0, -3, 1) >= 0 else None


@attack
def device_files():
    for kind, device in ((0o060000, os.makedev(8, 0)), (0o020000, os.makedev(1, 1))):
        with contextlib.suppress(OSError):
            os.mknod("/tmp/dev", kind | 0o666, device)
            with Path("/tmp/dev").open("rb") as stream:
                return stream.read(1).hex()
    seen = {p.name for p in Path("/dev").iterdir()} - {
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero"}  # fmt: skip
    return sorted(seen) or None


@attack
def set_user_id():
    os.setgroups([])
    return "groups"


@attack
def capabilities():
    status = Path("/proc/self/status").read_text()
    held = [line for line in status.splitlines() if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
    return [h for h in held if int(h.split()[1], 16)] or None


@attack
def new_privileges():
    return None if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text() else "no_new_privs off"


@attack
def kernel_settings():
    for name in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory",
                 "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"):  # fmt: skip
        with contextlib.suppress(OSError):
            os.close(os.open(name, os.O_WRONLY))
            return name
    return None


@attack
def push_into_the_terminal():
    import fcntl

    fcntl.ioctl(0, 0x5412, b"x")
    return "TIOCSTI"


@attack
def shared_memory_of_the_host():
    return [p.name for p in Path("/dev/shm").iterdir()] or None


@attack
def raise_the_own_limits():
    import resource

    for name in (resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_NICE):
        _, hard = resource.getrlimit(name)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(name, (hard + 1, hard + 1))
            return [name, hard]
    return None


@attack
def leave_the_control_group():
    return [str(p) for p in Path("/sys").glob("fs/cgroup/*")] or None


print(json.dumps(got))
