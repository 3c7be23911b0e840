import dataclasses
import hashlib
import os
import shutil
import socket
import subprocess
import time

import numpy as np
import pytest

from interlock.errors import DeniedError, IntegrityError
from interlock.monitor.firmware import (
    Device,
    EventLog,
    Image,
    Quote,
    make_manifest,
    verify_quote,
)
from interlock.monitor.firmware.anomaly import BinaryBaseline
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


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_quote")), reason="swtpm is not installed"
)
@pytest.mark.enable_socket
def test_a_quote_by_a_software_tpm(tmp_path):
    port = free_port()
    server = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}", "--server",
         f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}",
         "--flags", "not-need-init,startup-clear"],
    )  # fmt: skip
    env = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={port}"}

    def tool(*args):
        subprocess.run(args, check=True, env=env, cwd=tmp_path, capture_output=True, timeout=30)

    log = EventLog()
    log.measure("loader", b"loader code")
    log.measure("firmware", IMAGE.data)
    nonce = b"\x07" * 16
    try:
        time.sleep(0.5)
        attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
        tool("tpm2_createprimary", "-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-c", "ak.ctx",
             "-a", attributes)  # fmt: skip
        tool("tpm2_flushcontext", "-t")
        tool("tpm2_readpublic", "-c", "ak.ctx", "-f", "pem", "-o", "ak.pem")
        tool("tpm2_flushcontext", "-t")
        for _, digest in log.events:
            tool("tpm2_pcrextend", f"10:sha256={digest.hex()}")
        tool("tpm2_quote", "-c", "ak.ctx", "-l", "sha256:10", "-q", nonce.hex(), "-m", "q.msg",
             "-s", "q.sig", "-g", "sha256", "-f", "plain")  # fmt: skip
    finally:
        server.terminate()
        server.wait(10)
    pem = (tmp_path / "ak.pem").read_bytes()
    quote = Quote(
        attest=(tmp_path / "q.msg").read_bytes(), signature=(tmp_path / "q.sig").read_bytes()
    )
    verify_quote(quote, key_pem=pem, nonce=nonce, log=log, pcr=10)
    changed = EventLog([("loader", log.events[0][1]), ("firmware", hashlib.sha256(b"x").digest())])
    broken = dataclasses.replace(quote, attest=quote.attest[:-1] + b"\x00")
    for bad in (
        lambda: verify_quote(quote, key_pem=pem, nonce=b"old", log=log, pcr=10),
        lambda: verify_quote(quote, key_pem=pem, nonce=nonce, log=changed, pcr=10),
        lambda: verify_quote(quote, key_pem=pem, nonce=nonce, log=log, pcr=11),
        lambda: verify_quote(broken, key_pem=pem, nonce=nonce, log=log, pcr=10),
    ):
        with pytest.raises(IntegrityError) as caught:
            bad()
        assert caught.value.code == "monitor-quote"
