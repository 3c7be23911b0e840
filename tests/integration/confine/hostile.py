"""Entries that try to get out. Each returns b'escaped...' when it did."""

import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path


def _errno() -> str:
    return os.strerror(ctypes.get_errno())


LIBC = ctypes.CDLL(None, use_errno=True)


def read_file(payload: bytes) -> bytes:
    return b"escaped " + Path(payload.decode()).read_bytes()[:20]


def write_file(payload: bytes) -> bytes:
    Path(payload.decode()).write_text("x")
    return b"escaped"


def list_dir(payload: bytes) -> bytes:
    return b"escaped" + str(list(Path(payload.decode()).iterdir())).encode()


def unlink(payload: bytes) -> bytes:
    Path(payload.decode()).unlink()
    return b"escaped"


def connect(payload: bytes) -> bytes:
    family = {"inet": socket.AF_INET, "unix": socket.AF_UNIX, "inet6": socket.AF_INET6}
    socket.socket(family[payload.decode()], socket.SOCK_DGRAM)
    return b"escaped"


def execute(_: bytes) -> bytes:
    return b"escaped" + subprocess.check_output(["/bin/true"])


def execve(_: bytes) -> bytes:
    os.execv("/bin/true", ["/bin/true"])
    return b"escaped"


def fork_bomb(_: bytes) -> bytes:
    for _i in range(10):
        os.fork()
    return b"escaped"


def thread(_: bytes) -> bytes:
    worker = threading.Thread(target=lambda: None)
    worker.start()
    worker.join()
    return b"threaded"


def ptrace(payload: bytes) -> bytes:
    if LIBC.ptrace(16, int(payload), 0, 0) == 0:
        return b"escaped"
    return _errno().encode()


def kill_parent(_: bytes) -> bytes:
    os.kill(os.getppid(), 9)
    return b"escaped"


def raw_syscall(payload: bytes) -> bytes:
    number = int(payload)
    if LIBC.syscall(number, 0, 0, 0, 0, 0, 0) >= 0:
        return b"escaped"
    return _errno().encode()


def memory_hog(payload: bytes) -> bytes:
    return b"escaped %d" % len(bytearray(int(payload) * 1024 * 1024))


def cpu_hog(_: bytes) -> bytes:
    while True:
        pass


def sleeper(_: bytes) -> bytes:
    import time

    time.sleep(60)
    return b"escaped"


def flood(payload: bytes) -> bytes:
    return b"x" * int(payload)


def environment(_: bytes) -> bytes:
    return str(dict(os.environ)).encode()


def descriptors(_: bytes) -> bytes:
    found = []
    for fd in range(64):
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return str(found).encode()


def segfault(_: bytes) -> bytes:
    ctypes.string_at(0)
    return b"escaped"


def forge(_: bytes) -> bytes:
    os.write(5, b"\x00\x00\x00\x02[]")
    os._exit(0)


def panic(_: bytes) -> bytes:
    class PanicError(BaseException):
        pass

    raise PanicError("not an Exception")


def own_error(_: bytes) -> bytes:
    from interlock.errors import InputError

    raise InputError("bad", code="input-bad", got="g", expected="e", fix="f")


def receive(_: bytes) -> bytes:
    """Try to get another descriptor on the socket that the job came on."""
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=3).recvmsg(64, 64)
    except OSError as error:
        return str(error).encode()
    return b"escaped"
