import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from interlock.errors import DeniedError, IntegrityError, SetupError
from interlock.monitor.firmware import (
    Device,
    EventLog,
    Image,
    make_manifest,
    verify_quote,
)
from interlock.monitor.firmware.anomaly import BinaryBaseline
from interlock.monitor.firmware.tpm import software_tpm
from interlock.monitor.signed import DualKey

OWNER, OTHER = DualKey(b"o" * 32, b"p" * 32), DualKey(b"x" * 32, b"y" * 32)
IMAGE = Image(name="fw", data=bytes(range(256)) * 8)


def release(version=5, image=IMAGE, key=OWNER, expires_s=1000):
    return make_manifest(image, version=version, expires_s=expires_s, key=key)


@pytest.fixture
def device(tmp_path):
    made = Device("d", OWNER.public, tmp_path / "state.json")
    made.boot(IMAGE, release(), now_s=0)
    return made


def flipped():
    data = bytearray(IMAGE.data)
    data[77] ^= 1
    return Image(name="fw", data=bytes(data))


def half_signed():
    manifest = release()
    return dataclasses.replace(manifest, signatures={"ed25519": manifest.signatures["ed25519"]})


@pytest.mark.parametrize(
    ("image", "manifest", "now_s"),
    [
        (flipped(), release(), 0),
        (IMAGE, release(version=4), 0),
        (IMAGE, None, 0),
        (IMAGE, release(key=OTHER), 0),
        (IMAGE, half_signed(), 0),
        (IMAGE, release(), 1000),
        (Image(name="other", data=IMAGE.data), release(), 0),
        (IMAGE, dataclasses.replace(release(), body={**release().body, "version": 9}), 0),
    ],
    ids=[
        "one byte",
        "rollback",
        "unsigned",
        "wrong key",
        "one signature",
        "expired",
        "name",
        "body",
    ],
)
def test_anything_but_the_released_image_quarantines(device, image, manifest, now_s):
    with pytest.raises(IntegrityError):
        device.boot(image, manifest, now_s=now_s)
    assert device.quarantined
    assert device.running is None
    again = Device("d", OWNER.public, device.state)
    with pytest.raises(DeniedError) as caught:
        again.boot(IMAGE, release(), now_s=0)
    assert caught.value.code == "monitor-quarantined"
    again.lift()
    again.boot(IMAGE, release(version=6), now_s=0)


def test_a_benign_update_passes(device):
    update = Image(name="fw", data=IMAGE.data + b"new")
    device.boot(update, release(6, update), now_s=0)
    assert device.running is update


def test_a_damaged_state_file_does_not_open_the_device(device):
    device.state.write_text("{")
    with pytest.raises(IntegrityError):
        device.boot(IMAGE, release(), now_s=0)


def test_anomaly_score_sees_large_patches_only():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(256) * 0.1)

    def make():
        return rng.choice(256, 60_000, p=weights).astype("u1").tobytes()

    baseline = BinaryBaseline.learn([make() for _ in range(20)])
    clean = [baseline.score(make()) for _ in range(20)]
    assert baseline.score(rng.bytes(20_000) + make()[20_000:]) > max(clean)


PCR, NONCE = 10, b"\x07" * 16
NEEDS_TPM = pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_quote")), reason="swtpm is not installed"
)


def boot_log(firmware):
    log = EventLog()
    log.measure("loader", b"loader code")
    log.measure("firmware", firmware)
    return log


@NEEDS_TPM
def test_a_quote_by_a_software_tpm(tmp_path):
    log = boot_log(IMAGE.data)
    with software_tpm(tmp_path / "tpm") as tpm:
        pem = tpm.attestation_key()
        tpm.measure(log, pcr=PCR)
        quote = tpm.quote(NONCE, pcr=PCR)
    verify_quote(quote, key_pem=pem, nonce=NONCE, log=log, pcr=PCR)
    changed = EventLog([("loader", log.events[0][1]), ("firmware", hashlib.sha256(b"x").digest())])
    broken = dataclasses.replace(quote, attest=quote.attest[:-1] + b"\x00")
    for bad in (
        lambda: verify_quote(quote, key_pem=pem, nonce=b"old", log=log, pcr=PCR),
        lambda: verify_quote(quote, key_pem=pem, nonce=NONCE, log=changed, pcr=PCR),
        lambda: verify_quote(quote, key_pem=pem, nonce=NONCE, log=log, pcr=11),
        lambda: verify_quote(broken, key_pem=pem, nonce=NONCE, log=log, pcr=PCR),
    ):
        with pytest.raises(IntegrityError) as caught:
            bad()
        assert caught.value.code == "monitor-quote"


@NEEDS_TPM
def test_a_device_that_measured_something_else_is_quarantined_over_reboots(tmp_path, device):
    with software_tpm(tmp_path / "tpm") as tpm:
        pem = tpm.attestation_key()
        tpm.measure(boot_log(IMAGE.data), pcr=PCR)
        quote = tpm.quote(NONCE, pcr=PCR)
        device.attest(quote, boot_log(IMAGE.data), key_pem=pem, nonce=NONCE, pcr=PCR)
        assert device.quarantined is None
    with software_tpm(tmp_path / "tpm") as tpm:  # a reboot: same keys, registers from zero
        assert tpm.attestation_key() == pem
        tpm.measure(boot_log(flipped().data), pcr=PCR)
        quote = tpm.quote(b"\x08" * 16, pcr=PCR)
    with pytest.raises(IntegrityError):
        device.attest(quote, boot_log(IMAGE.data), key_pem=pem, nonce=b"\x08" * 16, pcr=PCR)
    assert "measured boot" in device.quarantined
    with pytest.raises(DeniedError):
        Device("d", OWNER.public, device.state).boot(IMAGE, release(), now_s=0)


def test_a_missing_tpm_tool_says_so(monkeypatch):
    from interlock.monitor.firmware import tpm as module

    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(SetupError) as caught:
        module.Tpm("device:/dev/null")
    assert caught.value.code == "monitor-tpm"
