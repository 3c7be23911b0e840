"""TUF roles with two algorithms each: what an attacker with some of it cannot do."""

import contextlib
import datetime as dt
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from interlock.crypto.files import write_private
from interlock.errors import DeniedError, IntegrityError
from interlock.monitor.firmware import Device, Image
from interlock.monitor.signed import DualKey

pytest.importorskip("tuf")
from interlock.monitor.firmware import repository
from interlock.monitor.firmware.repository import ROLES, FirmwareClient, FirmwareRepository

KEYS = {r: DualKey(bytes([k]) * 32, bytes([k + 9]) * 32) for k, r in enumerate(ROLES)}
FIRST, SECOND = Image(name="fw", data=b"one" * 100), Image(name="fw", data=b"two" * 100)


class Setup:
    """A repository with one release, and a device that booted it."""

    def __init__(self, folder):
        self.folder = folder
        self.repository = FirmwareRepository(folder / "repo", dict(KEYS))
        self.repository.publish(FIRST)
        self.root = (folder / "repo" / "metadata" / "1.root.json").read_bytes()
        self.client = FirmwareClient(folder / "device", root=self.root, source=folder / "repo")
        self.device = Device("d", KEYS["root"].public, folder / "state.json")
        self.device.boot(self.client.fetch("fw"), self.client, now_s=0)

    def path(self, name):
        return self.folder / "repo" / "metadata" / name


@pytest.fixture
def made(tmp_path):
    return Setup(tmp_path)


def refused(made, image=FIRST):
    with pytest.raises(IntegrityError) as caught:
        made.device.boot(image, made.client, now_s=0)
    assert caught.value.code == "monitor-firmware"
    assert made.device.quarantined
    with pytest.raises(DeniedError):
        made.device.boot(FIRST, made.client, now_s=0)
    return caught.value.got


def test_an_update_boots_and_the_old_image_does_not(made):
    made.repository.publish(SECOND)
    made.device.boot(made.client.fetch("fw"), made.client, now_s=0)
    assert made.device.running.data == SECOND.data
    assert "differ" in refused(made, FIRST)


def test_every_role_rotates_and_devices_follow(made):
    for k, role in enumerate(ROLES):
        made.repository.rotate(role, DualKey(bytes([60 + k]) * 32, bytes([70 + k]) * 32))
        assert made.client.check(FIRST) >= 1
    made.repository.publish(SECOND)
    assert made.client.fetch("fw").data == SECOND.data
    FirmwareRepository(made.folder / "repo", dict(KEYS)).publish(FIRST)
    with pytest.raises(IntegrityError):  # the old keys sign nothing any more
        made.client.fetch("fw")


def test_old_metadata_replayed_is_refused(made):
    old = made.folder / "old"
    shutil.copytree(made.folder / "repo", old)
    made.repository.publish(SECOND)
    made.client.check(SECOND)
    replaying = FirmwareClient(made.folder / "device", root=made.root, source=old)
    with pytest.raises(IntegrityError) as caught:
        made.device.boot(FIRST, replaying, now_s=0)
    assert "BadVersion" in caught.value.got


def test_a_device_kept_from_news_notices(made):
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    FirmwareRepository(made.folder / "repo", dict(KEYS), now=past).refresh()
    assert "Expired" in refused(made)


@pytest.mark.parametrize("algorithm", [0, 1])
@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_one_of_the_two_signatures_is_not_enough(made, role, algorithm):
    made.repository.publish(SECOND)
    newest = max(made.path("").glob(f"*{role}.json"), key=lambda p: (len(p.name), p.name))
    document = json.loads(newest.read_text())
    del document["signatures"][algorithm]
    newest.write_text(json.dumps(document))
    assert "Unsigned" in refused(made, SECOND)


def test_a_stolen_timestamp_and_snapshot_key_cannot_release_an_image(made):
    """Those keys are online; targets and root are not."""
    thief = {
        **KEYS,
        "targets": DualKey(b"t" * 32, b"u" * 32),
        "root": DualKey(b"v" * 32, b"w" * 32),
    }
    FirmwareRepository(made.folder / "repo", thief).publish(SECOND)
    assert "Unsigned" in refused(made, SECOND)


def test_one_changed_byte_and_an_unknown_name_are_refused(made):
    flipped = bytearray(FIRST.data)
    flipped[7] ^= 1
    assert "differ" in refused(made, Image(name="fw", data=bytes(flipped)))
    made.device.lift()
    assert "name" in refused(made, Image(name="other", data=FIRST.data))
    (stored,) = (made.folder / "repo" / "targets").iterdir()
    stored.write_bytes(bytes(flipped))
    with pytest.raises(IntegrityError):
        made.client.fetch("fw")
    shutil.rmtree(made.folder / "repo")
    with pytest.raises(IntegrityError):
        made.client.fetch("fw")


def test_a_root_that_can_do_without_one_algorithm_is_refused(tmp_path):
    class Weak(FirmwareRepository):
        def _signers(self, role, keys=None):
            return super()._signers(role, keys)[:1] * 2

        def _write(self, role, signed, extra=None):
            if role == "root":
                for name in ROLES:
                    signed.roles[name].threshold = 1
            super()._write(role, signed, extra)

    Weak(tmp_path / "repo", dict(KEYS)).publish(FIRST)
    root = (tmp_path / "repo" / "metadata" / "1.root.json").read_bytes()
    client = FirmwareClient(tmp_path / "device", root=root, source=tmp_path / "repo")
    with pytest.raises(IntegrityError) as caught:
        client.fetch("fw")
    assert "can do without" in caught.value.got


@pytest.mark.parametrize("writes", range(5))
def test_a_release_cut_off_anywhere_leaves_one_that_boots(made, monkeypatch, writes):
    """After so many files: the old image or the new one is current, and a second try works."""
    left = [writes]

    def write(path, data, *, mode):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_private(path, data, mode=mode)

    monkeypatch.setattr(repository, "write_private", write)
    cut = writes < 4  # image, targets, snapshot, timestamp
    with pytest.raises(KeyboardInterrupt) if cut else contextlib.nullcontext():
        made.repository.publish(SECOND)
    monkeypatch.undo()
    current, other = (FIRST, SECOND) if cut else (SECOND, FIRST)
    made.device.boot(current, made.client, now_s=0)
    assert "differ" in refused(made, other)
    made.device.lift()
    made.repository.publish(SECOND)
    made.device.boot(made.client.fetch("fw"), made.client, now_s=0)
    assert made.device.running.data == SECOND.data


@pytest.mark.parametrize("writes", range(4))
def test_a_repository_cut_off_while_it_is_made_is_made_again(tmp_path, monkeypatch, writes):
    left = [writes]

    def write(path, data, *, mode):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_private(path, data, mode=mode)

    monkeypatch.setattr(repository, "write_private", write)
    with pytest.raises(KeyboardInterrupt):
        FirmwareRepository(tmp_path / "repo", dict(KEYS))
    monkeypatch.undo()
    made = Setup(tmp_path)
    assert made.device.running.data == FIRST.data


def test_two_owners_at_once_lose_no_release(made):
    names = [f"fw{k}" for k in range(6)]
    repositories = [FirmwareRepository(made.folder / "repo", dict(KEYS)) for _ in names]
    with ThreadPoolExecutor() as pool:
        images = [Image(name=n, data=n.encode()) for n in names]
        list(pool.map(lambda r, i: r.publish(i), repositories, images))
    for name in names:
        assert made.client.fetch(name).data == name.encode()
