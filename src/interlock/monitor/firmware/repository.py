"""Firmware releases as a TUF repository: root, targets, snapshot and timestamp, each with keys.

The Update Framework 1.0 by python-tuf, both sides. Every role has an Ed25519 and an ML-DSA-65 key
and a threshold of two, so that both must sign. The timestamp expires soon, so that a device that is
kept from news notices (freeze); versions only rise (rollback); snapshot ties the rest together
(mix and match); root signs its own successor (rotation).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.crypto.files import locked, write_private
from interlock.errors import SetupError
from interlock.monitor.firmware.image import Image, wrong_firmware
from interlock.monitor.signed import DualKey

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

__all__ = ["ROLES", "FirmwareClient", "FirmwareRepository"]

ROLES = ("root", "timestamp", "snapshot", "targets")
SCHEMES = {"ed25519", "ml-dsa-65/1"}
#: How long each role's statement holds, in days.
DAYS = {"root": 365.0, "targets": 90.0, "snapshot": 7.0, "timestamp": 1.0}
MAX_IMAGE_BYTES = 256 << 20


def _tuf() -> Any:
    try:
        from tuf.api import metadata
    except ImportError as error:
        raise SetupError(
            "firmware roles need tuf",
            code="monitor-extra",
            got=str(error),
            expected="the extra `monitor-firmware`",
            fix="pip install 'interlock[monitor-firmware]'",
        ) from error
    return metadata


class FirmwareRepository:
    """The owner's side: makes and signs releases in a folder that devices read.

    Args:
        folder: `metadata/` and `targets/` go here.
        keys: role -> its key pair; keep root's offline.
        now: when, timezone-aware; the wall clock by default.
    """

    def __init__(
        self, folder: Path, keys: dict[str, DualKey], *, now: dt.datetime | None = None
    ) -> None:
        self.folder, self.keys = folder, keys
        self._tuf = _tuf()
        self._now = now
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        (folder / "targets").mkdir(exist_ok=True)
        with self._alone():
            if not (folder / "metadata" / "1.root.json").exists():
                self._create()

    def _alone(self) -> AbstractContextManager[None]:
        """Keep a second owner out: two statements of one version would hide one image."""
        return locked(self.folder.resolve() / ".lock")

    def _moment(self) -> dt.datetime:
        return self._now or dt.datetime.now(dt.UTC)

    def _signers(self, role: str, keys: dict[str, DualKey] | None = None) -> list[Any]:
        from securesystemslib.signer import CryptoSigner

        return [CryptoSigner(key) for key in (keys or self.keys)[role].private_keys]

    def _create(self) -> None:
        tuf = self._tuf
        root = tuf.Root(consistent_snapshot=True)
        for role in ROLES:
            for signer in self._signers(role):
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = 2
        for role, signed in (
            ("targets", tuf.Targets()),
            ("snapshot", tuf.Snapshot()),
            ("timestamp", tuf.Timestamp()),
            ("root", root),  # last: where it is, the rest is too
        ):
            self._write(role, signed)

    def unknown(self) -> list[str]:
        """Return the roles whose keys here are not the root's; what they sign nobody believes."""
        root = self._latest("root")
        return [
            role
            for role in self.keys
            if {s.public_key.keyid for s in self._signers(role)} != set(root.roles[role].keyids)
        ]

    def _path(self, role: str, version: int) -> Path:
        name = f"{role}.json" if role == "timestamp" else f"{version}.{role}.json"
        return self.folder / "metadata" / name

    def _latest(self, role: str) -> Any:
        from securesystemslib.exceptions import StorageError
        from tuf.api.exceptions import RepositoryError

        found = (self.folder / "metadata").glob(f"*.{role}.json")
        heads = (p.name.removesuffix(f".{role}.json") for p in found)
        path = self._path(role, max((int(h) for h in heads if h.isdecimal()), default=0))
        try:
            return self._tuf.Metadata.from_file(str(path)).signed
        except (RepositoryError, StorageError) as error:
            raise wrong_firmware(f"{path.name}: {error}"[:200]) from error

    def _write(self, role: str, signed: Any, extra: dict[str, DualKey] | None = None) -> None:
        signed.expires = (self._moment() + dt.timedelta(days=DAYS[role])).replace(microsecond=0)
        made = self._tuf.Metadata(signed)
        for signer in self._signers(role) + (self._signers(role, extra) if extra else []):
            made.sign(signer, append=True)
        write_private(self._path(role, signed.version), made.to_bytes(), mode=0o644)

    def publish(self, image: Image) -> None:
        """Make an image the current one of its name; only current images boot."""
        with self._alone():
            self._publish(image)

    def _publish(self, image: Image) -> None:
        targets = self._latest("targets")
        info = self._tuf.TargetFile.from_data(image.name, image.data, ["sha256"])
        targets.targets = {**targets.targets, image.name: info}
        targets.version += 1
        stored = self.folder / "targets" / f"{info.hashes['sha256']}.{image.name}"
        write_private(stored, image.data, mode=0o644)
        self._write("targets", targets)
        self._resign("snapshot")
        self._resign("timestamp")

    def refresh(self) -> None:
        """Sign a fresh timestamp, and what else runs out and has its key here.

        Due before the timestamp expires, each day. A statement runs out in the last quarter of its
        term; `expiries` tells which are left because their keys are elsewhere.
        """
        with self._alone():
            due = {r for r, left in self.expiries().items() if left < DAYS[r] / 4}
            if "targets" in due and "targets" in self.keys:
                due.add("snapshot")  # which names the version of the targets
            for role in ("root", "targets", "snapshot"):
                if role in due and role in self.keys:
                    self._resign(role)
            self._resign("timestamp")

    def expiries(self) -> dict[str, float]:
        """Return for each role how many days its statement still holds."""
        now = self._moment()
        return {r: (self._latest(r).expires - now) / dt.timedelta(days=1) for r in ROLES}

    def _resign(self, role: str) -> None:
        """Sign a role's next version: the same statement, about what is newest now."""
        signed = self._latest(role)
        if role == "snapshot":
            version = self._latest("targets").version
            signed.meta["targets.json"] = self._tuf.MetaFile(version=version)
        elif role == "timestamp":
            signed.snapshot_meta = self._tuf.MetaFile(version=self._latest("snapshot").version)
        signed.version += 1
        self._write(role, signed)

    def rotate(self, role: str, key: DualKey) -> None:
        """Give a role a new key pair, by a new root that the old root keys sign too."""
        with self._alone():
            self._rotate(role, key)

    def _rotate(self, role: str, key: DualKey) -> None:
        root, old = self._latest("root"), dict(self.keys)
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        self.keys[role] = key
        for signer in self._signers(role):
            root.add_key(signer.public_key, role)
        root.version += 1
        self._write("root", root, extra=old if role == "root" else None)
        if role in ("targets", "snapshot", "timestamp"):
            for name in ("targets", "snapshot", "timestamp"):
                self._resign(name)


def _fetcher(folder: Path) -> FetcherInterface:
    """Return a fetcher of `file:` addresses below one folder."""
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Files(FetcherInterface):  # type: ignore[misc, unused-ignore]
        def _fetch(self, url: str) -> Iterator[bytes]:
            path = (folder / url.removeprefix("file:///")).resolve()
            if not path.is_relative_to(folder.resolve()) or not path.is_file():
                raise DownloadHTTPError("no such file", 404)
            with path.open("rb") as source:
                while part := source.read(1 << 16):
                    yield part

    return Files()


class FirmwareClient:
    """The device's side: what the owner says is current, checked role by role.

    Args:
        state: folder with the trusted metadata; it outlasts a restart, so versions only rise.
        root: the first root, built into the device.
        source: folder of the repository, or a fetcher of python-tuf for a network.
    """

    def __init__(self, state: Path, *, root: bytes, source: Path | FetcherInterface) -> None:
        _tuf()
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._state, self._root = state, root
        self._fetcher = _fetcher(source) if isinstance(source, Path) else source

    def _updater(self) -> Any:
        """Return an updater that has read and checked the newest metadata.

        Raises:
            IntegrityError: a signature, a version, an expiry or a key does not hold.
        """
        from tuf.api.exceptions import DownloadError, RepositoryError
        from tuf.ngclient import Updater, UpdaterConfig

        targets = self._state / "targets"
        targets.mkdir(exist_ok=True)
        try:
            updater = Updater(
                str(self._state), "file:///metadata", str(targets), "file:///targets",
                fetcher=self._fetcher, bootstrap=self._root,
                config=UpdaterConfig(max_root_rotations=64),
            )  # fmt: skip
            updater.refresh()
            self._check_keys()
        except (RepositoryError, DownloadError, OSError, ValueError) as error:
            raise wrong_firmware(f"{type(error).__name__}: {error}"[:200]) from error
        return updater

    def _check_keys(self) -> None:
        root = _tuf().Metadata.from_file(str(self._state / "root.json")).signed
        for role in ROLES:
            entry = root.roles[role]
            schemes = {root.keys[k].scheme for k in entry.keyids}
            if not schemes >= SCHEMES or entry.threshold < len(entry.keyids):
                raise wrong_firmware(f"role {role} can do without one of {sorted(SCHEMES)}")

    def fetch(self, name: str) -> Image:
        """Return the current image of a name, its length and hash checked."""
        from tuf.api.exceptions import DownloadError, RepositoryError

        updater = self._updater()
        info = updater.get_targetinfo(name)
        if info is None or info.length > MAX_IMAGE_BYTES:
            raise wrong_firmware("no current image of this name, or one too large")
        try:
            path = Path(updater.download_target(info, str(self._state / "targets" / "image")))
            return Image(name=name, data=path.read_bytes())
        except (RepositoryError, DownloadError, OSError) as error:
            raise wrong_firmware(f"{type(error).__name__}: {error}"[:200]) from error

    def check(self, image: Image) -> int:
        """Raise unless the image is the current one of its name; return the targets' version.

        Raises:
            IntegrityError: it is not, or what the owner says cannot be read.
        """
        from tuf.api.exceptions import RepositoryError

        updater = self._updater()
        info = updater.get_targetinfo(image.name)
        if info is None:
            raise wrong_firmware("no current image of this name")
        try:
            info.verify_length_and_hashes(image.data)
        except RepositoryError as error:
            raise wrong_firmware("bytes that differ from the current release") from error
        version = _tuf().Metadata.from_file(str(self._state / "targets.json")).signed.version
        return int(version)
