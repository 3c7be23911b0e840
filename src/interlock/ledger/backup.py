"""One file with everything of a home, taken while it is in use, and a home made of it again.

A backup is a tar file: `manifest.json` first, then the files it names with their SHA-256.
Databases are copied with SQLite's online backup, so what was committed is there and nothing half.
Both ways end with a check of the ledger: a backup that could not be restored is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from interlock.crypto import files
from interlock.errors import InputError, IntegrityError, UsageError
from interlock.ledger.audit import audit
from interlock.ledger.existing import existing
from interlock.ledger.moving import ledger_to_file
from interlock.ledger.note import NoteKey
from interlock.ledger.postgres import address_of
from interlock.ledger.report import Report

__all__ = ["backup", "restore"]

VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 64 * 1024 * 1024
_CHUNK = 1 << 20
#: Heads go before the databases: a ledger must not be shorter than a head that is kept with it.
_FIRST = ("checkpoints", "anchors")
_UNWANTED = (".db-wal", ".db-shm", ".db-journal", ".lock")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    size: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interlock_backup: int
    created: float
    files: list[_File]


def backup(
    home: Path, file: Path, *, more: Callable[[Path], None] | None = None
) -> tuple[str, Report]:
    """Write everything of a home into one new file, mode 0600; the home may be in use.

    A ledger in PostgreSQL comes into the backup as the file it would be in the home.

    Args:
        home: of a ledger.
        file: must not exist, and must not be in the home.
        more: adds to the staged copy what belongs to the home and is elsewhere.

    Returns:
        SHA-256 of the file, and the check of the ledger in it.

    Raises:
        UsageError: the file exists or is in the home, or a part of the home is elsewhere.
        IntegrityError: the ledger does not pass its check; nothing is written.
    """
    home, file = existing(home).resolve(), file.absolute()
    _refuse(home, file)
    with _folder(file) as folder:
        staged = folder / "home"
        staged.mkdir(mode=0o700)
        keys = home / "keys"
        # No key is made meanwhile: one that an entry in the copy needs is in the copy too.
        with files.locked(keys / ".lock") if keys.is_dir() else contextlib.nullcontext():
            found = sorted(_listed(home), key=_turn)
            address = address_of(home)
            for name in found:
                if address is None or name != "ledger.db":
                    _stage(home / name, _place(staged, name))
            if address is not None:
                ledger_to_file(address, staged)
            if more is not None:
                more(staged)
        report = _checked(staged, None)
        made = folder / "backup"
        digest = _write(staged, made)
        try:
            os.link(made, file)  # unlike a rename, never over another file
        except FileExistsError as error:
            raise _exists(file) from error
        except OSError as error:
            raise files.storage_error(file, error) from error
        files.sync_dir(file.parent)
    return digest, report


def restore(
    file: Path,
    home: Path,
    *,
    sha256: str | None = None,
    keys: Sequence[NoteKey] | None = None,
    move: Callable[[Path], None] | None = None,
) -> Report:
    """Make a home from a backup; all of it, checked, or nothing.

    Args:
        file: from `backup`.
        home: must not exist, or be an empty folder.
        sha256: what `backup` printed, to know that it is that file.
        keys: the ledger's public keys, to know that it is that ledger.
        move: moves what belongs into a database there, once the copy has passed its check.

    Raises:
        UsageError: the home exists.
        InputError: the file is no backup.
        IntegrityError: a file in it was changed, or the ledger does not pass its check.
    """
    home = home.absolute()
    if home.is_symlink() or (home.exists() and (not home.is_dir() or any(home.iterdir()))):
        raise UsageError(
            "there is something already",
            code="restore-exists",
            got=str(home),
            expected="a path without anything",
            fix="restore to a new folder, look at it, then move it to its place",
        )
    with _folder(home) as folder:
        staged = folder / "home"
        staged.mkdir(mode=0o700)
        try:
            with file.open("rb") as stream:
                if sha256 is not None:
                    _compare(file.name, sha256.lower(), _digest(stream))
                    stream.seek(0)
                _unpack(stream, staged)
        except OSError as error:
            raise files.storage_error(file, error) from error
        report = _checked(staged, keys)
        if move is not None:
            move(staged)
            report = _checked(staged, keys)
        try:
            staged.rename(home)  # over an empty folder or nothing, else it fails
        except OSError as error:
            raise files.storage_error(home, error) from error
        files.sync_dir(home.parent)
    return report


def _refuse(home: Path, file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise _exists(file)
    if file.parent.resolve().is_relative_to(home):
        raise UsageError(
            "a backup does not belong into what it backs up",
            code="backup-inside",
            got=str(file),
            expected=f"a path outside {home}",
            fix="write it to another disk or machine",
        )


def _exists(file: Path) -> UsageError:
    return UsageError(
        "there is a file of this name",
        code="backup-exists",
        got=str(file),
        expected="a new name",
        fix="name backups by date; an old one is removed by hand",
    )


@contextlib.contextmanager
def _folder(beside: Path) -> Iterator[Path]:
    """Give a private folder on the same disk as a path, and take it away again."""
    try:
        beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent)
    except OSError as error:
        raise files.storage_error(beside, error) from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _listed(home: Path) -> Iterator[str]:
    """Yield the files to keep: no sockets, no locks, no temporary files of a database."""
    for folder, inner, names in os.walk(home, onerror=_unreadable):
        for name in (*inner, *names):
            path = Path(folder) / name
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    raise UsageError(
                        "a backup takes no links: what they point to may change or be missing",
                        code="backup-link",
                        got=str(path.relative_to(home)),
                        expected="plain files and folders",
                        fix="put the file itself there",
                    )
                if stat.S_ISREG(mode) and not name.endswith(_UNWANTED):
                    yield str(path.relative_to(home))


def _unreadable(error: OSError) -> None:
    raise files.storage_error(Path(error.filename or "home"), error) from error


def _turn(name: str) -> tuple[int, str]:
    first = PurePosixPath(name).parts[0]
    return (0 if first in _FIRST else 1 if name.endswith(".db") else 2, name)


def _place(root: Path, name: str) -> Path:
    """Return the path of a file, with each folder above it private."""
    path = root
    for part in PurePosixPath(name).parts[:-1]:
        path /= part
        path.mkdir(mode=0o700, exist_ok=True)
    return root / name


def _stage(source: Path, target: Path) -> None:
    if source.suffix == ".db":
        # Only SQLite opens it: closing it ourselves would drop the locks this process holds on it.
        try:
            with (
                contextlib.closing(
                    sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=30.0)
                ) as reader,
                contextlib.closing(sqlite3.connect(target)) as writer,
            ):
                reader.backup(writer)
                writer.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise IntegrityError(
                "a database cannot be copied",
                code="backup-database",
                got=f"{source.name}: {error}",
                expected="a database that SQLite can read",
                fix="see `interlock doctor`; nothing was written",
            ) from error
        target.chmod(0o600)
        return
    try:
        files.write_private(target, source.read_bytes())
    except FileNotFoundError:
        return  # an old head that was forgotten, or a key that was erased, since it was listed
    except OSError as error:
        raise files.storage_error(source, error) from error


def _checked(home: Path, keys: Sequence[NoteKey] | None) -> Report:
    report = audit(home, keys)
    if report.ok:
        return report
    fault = report.faults[0]
    raise IntegrityError(
        "the ledger does not pass its check",
        code="backup-ledger",
        got=f"{fault.kind}: {fault.where}: {fault.got}"[:300],
        expected=fault.expected[:300],
        fix="run `interlock verify` on the home, or take another backup; nothing was written",
    )


def _digest(stream: Any, sink: Any = None, size: int | None = None) -> str:
    found, left = hashlib.sha256(), size
    while left is None or left > 0:
        chunk = stream.read(_CHUNK if left is None else min(left, _CHUNK))
        if not chunk:
            break
        found.update(chunk)
        if sink is not None:
            sink.write(chunk)
        left = None if left is None else left - len(chunk)
    return found.hexdigest()


def _write(staged: Path, made: Path) -> str:
    paths = sorted(p for p in staged.rglob("*") if p.is_file())
    listed = []
    for path in paths:
        with path.open("rb") as stream:
            name = str(path.relative_to(staged))
            listed.append(_File(name, path.stat().st_size, _digest(stream)))
    manifest = msgspec.json.encode(_Manifest(VERSION, time.time(), listed))
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "w+b") as out:  # noqa: PTH123 - a descriptor
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                tar.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
                for path, one in zip(paths, listed, strict=True):
                    with path.open("rb") as stream:
                        tar.addfile(_member(one.path, one.size), stream)
            out.flush()
            os.fsync(out.fileno())
            out.seek(0)
            return _digest(out)
    except OSError as error:
        raise files.storage_error(made, error) from error


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _unpack(stream: Any, staged: Path) -> None:
    """Write the files of a backup: those the manifest names, in its order, and no other."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for one, member in _named(tar):
                target = _place(staged, one.path)
                inner = tar.extractfile(member)
                fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(fd, "wb") as out:  # noqa: PTH123 - a descriptor
                    _compare(one.path, one.sha256, _digest(inner, out, one.size))
                    out.flush()
                    os.fsync(out.fileno())
    except (tarfile.TarError, EOFError, ValueError, FileExistsError, NotADirectoryError) as error:
        raise _no_backup(f"{type(error).__name__}: {error}") from error


def _named(tar: tarfile.TarFile) -> Iterator[tuple[_File, tarfile.TarInfo]]:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAX_MANIFEST:
        raise _no_backup("no manifest at its begin")
    inner = tar.extractfile(first)
    try:
        manifest = msgspec.json.decode(inner.read() if inner else b"", type=_Manifest)
    except msgspec.MsgspecError as error:
        raise _no_backup(str(error)) from error
    if manifest.interlock_backup != VERSION:
        raise _no_backup(f"version {manifest.interlock_backup}")
    for one in manifest.files:
        path, member = PurePosixPath(one.path), tar.next()
        if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in one.path:
            raise _no_backup(f"a file named {one.path!r}")
        if (
            member is None
            or not member.isreg()
            or member.sparse is not None
            or (member.name, member.size) != (one.path, one.size)
        ):
            raise _no_backup(f"{member.name if member else 'its end'!r} in place of {one.path!r}")
        yield one, member
    if (more := tar.next()) is not None:
        raise _no_backup(f"{more.name!r}, which the manifest does not name")


def _no_backup(got: str) -> InputError:
    return InputError(
        "this is no whole backup",
        code="backup-format",
        got=got[:300],
        expected=f"a file that `interlock backup` wrote, version {VERSION}",
        fix="take another backup; nothing was restored",
    )


def _compare(name: str, expected: str, got: str) -> None:
    if got != expected:
        raise IntegrityError(
            "a backup was changed",
            code="backup-changed",
            got=f"{name}: sha256 {got}",
            expected=f"sha256 {expected}"[:200],
            fix="take another backup; nothing was restored",
        )
