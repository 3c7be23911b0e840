"""Small files that must survive a crash and must not be read by others."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from interlock.errors import SetupError, StorageError

__all__ = [
    "check_private",
    "locked",
    "no_room",
    "own_dir",
    "private_dir",
    "read_plain",
    "read_private",
    "sync_dir",
    "write_private",
]

#: Of a file of keys, a signed head, a proof, a policy: they have some kilobytes.
MAX_SMALL = 1 << 20
#: Bytes free below which a disk counts as full.
_LITTLE = 64 << 10
#: A lock file's lock belongs to the open file, not to the thread: what this process holds is kept
#: here, guarded by one lock for all threads.
_threads = threading.RLock()
_held: dict[Path, int] = {}


def _renew() -> None:
    """Give a forked child nothing of what its parent's threads held."""
    global _threads
    _threads = threading.RLock()
    for fd in _held.values():
        os.close(fd)  # an inherited descriptor would keep the lock after the parent let go
    _held.clear()


os.register_at_fork(after_in_child=_renew)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error of a failed read or write as ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full: {path.name} cannot be written",
            code="storage-full",
            got=f"{type(error).__name__}: {error.strerror or error}",
            expected=f"free space beside {path}",
            fix="free some space and try again; everything acknowledged is safe",
        )
    return StorageError(
        f"{path.name} cannot be read or written",
        code="storage-io",
        got=f"{type(error).__name__}: {error.strerror or error}",
        expected=f"a readable and writable {path}",
        fix="check free space, the path and its owner, then try again",
    )


def no_room(path: Path) -> bool:
    """Whether the disk of a file is full: SQLite calls that an I/O error at times."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LITTLE


def private_dir(path: Path) -> Path:
    """Create a directory only its owner can enter, or check that it is one."""
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    check_private(path)
    return path


def own_dir(path: Path) -> Path:
    """Create a directory for its owner, or check that not everybody can write to it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise storage_error(path, error) from error
    if mode & 0o002:
        raise SetupError(
            "everybody can write to the home folder",
            code="home-permissions",
            got=f"{path} has mode {stat.S_IMODE(mode):04o}",
            expected="no right to write for others",
            fix=f"chmod o-w {path}",
        )
    return path


def check_private(path: Path) -> None:
    """Raise if anybody but the owner can read or write this path.

    Raises:
        SetupError: it belongs to somebody else, or its mode lets others in.
    """
    try:
        info = path.stat(follow_symlinks=False)
    except OSError as error:
        raise storage_error(path, error) from error
    if stat.S_ISLNK(info.st_mode):
        raise SetupError(
            "a key must not be a symbolic link",
            code="key-permissions",
            got=f"{path} is a link to {path.readlink()}",
            expected="a plain file or directory",
            fix="put the file itself there",
        )
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        folder = stat.S_ISDIR(info.st_mode)
        known = "treat the keys as known to others and rotate them"
        raise SetupError(
            "others can enter a private folder" if folder else "others can read or write a key",
            code="key-permissions",
            got=f"{path} has mode {stat.S_IMODE(info.st_mode):04o}, owner {info.st_uid}",
            expected=f"no rights for group and others, owner {os.geteuid()}",
            fix=f"use a folder of your own (chmod go-rwx); if keys are in this one, {known}"
            if folder
            else f"chmod go-rwx {path}; {known}",
        )


def read_private(path: Path) -> bytes | None:
    """Return the bytes of a private file, or None when there is none."""
    if not path.exists():
        return None
    check_private(path)
    try:
        return read_plain(path, max_bytes=None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(path, error) from error


def read_plain(path: Path, *, max_bytes: int | None = MAX_SMALL, follow: bool = True) -> bytes:
    """Return the bytes of a file that may come from a stranger.

    A pipe or a device would be waited for, or read, for ever: it is refused before it is read, a
    file that is too large as well.

    Args:
        path: the file.
        max_bytes: the most it may hold; None for any size.
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        with open(fd, "rb", closefd=False) as handle:
            data = handle.read(-1 if max_bytes is None else max_bytes + 1)
    finally:
        os.close(fd)
    if max_bytes is not None and len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes")
    return data


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file by new bytes: all of them or none, durable on return."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_dir(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise storage_error(path, error) from error


def sync_dir(path: Path) -> None:
    """Make renames and removals in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock shared by all threads and processes that name the same file.

    The thread that holds it may take it again.
    """
    with _threads:
        if path in _held:
            yield
            return
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(path, error) from error
        _held[path] = fd
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            del _held[path]
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
