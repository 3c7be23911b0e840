"""A TPM behind tpm2-tools: extend a register with what boots, and have it quoted.

`software_tpm` starts swtpm on loopback; a machine's own TPM is `Tpm("device:/dev/tpmrm0")`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from interlock.errors import BackendError, SetupError
from interlock.monitor.firmware.boot import EventLog, Quote

__all__ = ["Tpm", "software_tpm"]

TOOLS = (
    "tpm2_createprimary",
    "tpm2_readpublic",
    "tpm2_flushcontext",
    "tpm2_pcrextend",
    "tpm2_quote",
)
ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
TIMEOUT_S = 30


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SetupError(
            "measured boot needs the TPM tools",
            code="monitor-tpm",
            got=f"no {name}",
            expected="tpm2-tools; swtpm for a software TPM",
            fix="apt-get install tpm2-tools swtpm",
        )
    return found


class Tpm:
    """One TPM.

    Args:
        tcti: how tpm2-tools reach it.

    Raises:
        SetupError: tpm2-tools are not installed.
    """

    def __init__(self, tcti: str) -> None:
        self._programs = {name: _program(name) for name in TOOLS}
        self._tcti = tcti

    def _run(self, folder: Path, name: str, *args: str) -> None:
        command = [self._programs[name], *args]
        environment = {**os.environ, "TPM2TOOLS_TCTI": self._tcti}
        try:
            subprocess.run(  # noqa: S603
                command, check=True, cwd=folder, env=environment, capture_output=True,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            said = getattr(error, "stderr", None) or b""
            raise BackendError(
                "the TPM does not answer",
                code="monitor-tpm",
                got=f"{name}: {said.decode('utf-8', 'replace').strip()[-200:] or error}",
                expected="a TPM 2.0 with SHA-256 registers",
                fix="check the device and who may use it",
            ) from error

    def _key(self, folder: Path) -> None:
        # A primary key of the owner's seed: the same key each time it is made.
        self._run(folder, "tpm2_createprimary", "-C", "o", "-G", "ecc256:ecdsa-sha256:null",
                  "-c", "ak.ctx", "-a", ATTRIBUTES)  # fmt: skip
        self._run(folder, "tpm2_flushcontext", "-t")

    def attestation_key(self) -> bytes:
        """Return the public half of the attestation key, PEM; to be recorded at enrolment."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._key(folder)
            self._run(folder, "tpm2_readpublic", "-c", "ak.ctx", "-f", "pem", "-o", "ak.pem")
            self._run(folder, "tpm2_flushcontext", "-t")
            return (folder / "ak.pem").read_bytes()

    def measure(self, log: EventLog, *, pcr: int) -> None:
        """Extend the register by each event, as a boot loader does."""
        with tempfile.TemporaryDirectory() as name:
            for _, digest in log.events:
                self._run(Path(name), "tpm2_pcrextend", f"{pcr}:sha256={digest.hex()}")

    def quote(self, nonce: bytes, *, pcr: int) -> Quote:
        """Have the register quoted under a nonce."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._key(folder)
            what = ("-c", "ak.ctx", "-l", f"sha256:{pcr}", "-g", "sha256", "-q", nonce.hex())
            self._run(folder, "tpm2_quote", *what, "-m", "q.msg", "-s", "q.sig", "-f", "plain")
            self._run(folder, "tpm2_flushcontext", "-t")
            return Quote(
                attest=(folder / "q.msg").read_bytes(), signature=(folder / "q.sig").read_bytes()
            )


def _two_ports() -> int:
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise SetupError(
        "no two free ports in a row for a software TPM",
        code="monitor-tpm",
        got="50 tries",
        expected="two neighbouring ports on loopback",
        fix="try again",
    )


@contextlib.contextmanager
def software_tpm(state: Path) -> Iterator[Tpm]:
    """Run swtpm on loopback: its keys stay in `state`, its registers start from zero.

    Raises:
        SetupError: swtpm or tpm2-tools are not installed.
        BackendError: it does not start.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = _two_ports()
    command = [
        _program("swtpm"), "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server",
        f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}",
        "--flags", "not-need-init,startup-clear",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port + 1), 1):
                break
            if server.poll() is not None:
                break
            time.sleep(0.02)
        yield Tpm(f"swtpm:host=127.0.0.1,port={port}")
    finally:
        server.terminate()
        server.wait(10)
