"""A covert channel in pulse times: run, found, quarantined; then signed, measured firmware only.

    python examples/covert/run.py [--report report.html]

The firmware is an emulator and its pulse times are simulated. The exercise is bounded: it stops
after a fixed number of windows.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from interlock.errors import DeniedError, IntegrityError
from interlock.monitor.covert import CovertDetector, embed, legitimate
from interlock.monitor.firmware import Device, EventLog, Image
from interlock.monitor.firmware.repository import ROLES, FirmwareClient, FirmwareRepository
from interlock.monitor.firmware.tpm import software_tpm
from interlock.monitor.signed import DualKey

PCR, LOADER = 10, b"loader: measure the image, then jump to it\n"
LENGTH, MAX_WINDOWS, BUDGET_BITS_PER_S, LEVEL = 1000, 20, 1000.0, 0.01
CLEAN = b"firmware: emit pulses on schedule\n" * 64
MODULATING = CLEAN.replace(b"on schedule", b"as secret  ", 1)


def emit(image: Image, rng: np.random.Generator) -> np.ndarray:
    """Emulate one window of the firmware's pulses: the modified image hides bits in them."""
    honest = legitimate(LENGTH, rng=rng)
    return honest if image.data == CLEAN else embed(honest, "pair-swap", rng=rng)


def exercise(image: Image, detector: CovertDetector, rng: np.random.Generator) -> str | None:
    """Run at most MAX_WINDOWS windows; return why the device should be stopped, or None.

    The product of the windows' e-values is compared with 1/LEVEL, so that LEVEL bounds false alarms
    of the whole run, not of each window (Ville's inequality).
    """
    evidence = 1.0
    for window in range(1, MAX_WINDOWS + 1):
        verdict = detector.test(emit(image, rng))
        evidence *= verdict.e_value
        if evidence >= 1 / LEVEL and verdict.alarm:
            return (
                f"covert channel in window {window}: evidence {evidence:.3g} above "
                f"{1 / LEVEL:g} by {verdict.strongest}, about {verdict.bits_per_s:.0f} bits/s"
            )
    return None


def attempt(device: Device, image: Image, release: FirmwareClient | None) -> str:
    """Return what became of booting an image."""
    try:
        device.boot(image, release, now_s=0)
    except (DeniedError, IntegrityError) as error:
        return f"refused: {error.code} ({error.got})"
    return "booted"


def measured(device: Device, image: Image, expected: Image, folder: Path) -> str:
    """Boot past every check, as someone with the hardware could; return what the quote says."""
    if not (shutil.which("swtpm") and shutil.which("tpm2_quote")):
        return "not shown: install swtpm and tpm2-tools"
    nonce = secrets.token_bytes(16)
    with software_tpm(folder / "tpm") as tpm:
        key = tpm.attestation_key()  # recorded when the device was enrolled
        tpm.measure(boot_log(image), pcr=PCR)
        quote = tpm.quote(nonce, pcr=PCR)
    try:
        device.attest(quote, boot_log(expected), key_pem=key, nonce=nonce, pcr=PCR)
    except IntegrityError as error:
        return f"refused: {error.code} ({error.got}); device {device.quarantined!r}"
    return "attested"


def boot_log(image: Image) -> EventLog:
    """Return what a boot of this image measures."""
    log = EventLog()
    log.measure("loader", LOADER)
    log.measure(image.name, image.data)
    return log


def power(detector: CovertDetector, rng: np.random.Generator, windows: int = 60) -> list[str]:
    """Return the share found, at 1 % false positives, by the shift of one bit's pulses."""
    lines = []
    for size in (0.0, 0.2, 0.3, 0.5, 0.8, 1.0):
        shifted = [
            legitimate(LENGTH, rng=rng) * np.exp(0.134 * size * (rng.integers(0, 2, LENGTH) - 0.5))
            for _ in range(windows)
        ]
        found = np.mean([detector.test(w).found for w in shifted])
        # Shannon's bound for two levels half a shift either side, in white jitter: an estimate
        bits = 0.5 * np.log2(1.0 + (size / 2) ** 2)
        lines.append(f"shift {size:.1f} sd: found {found:.2f}, about {bits:.3f} bits a pulse")
    return lines


def exercise_all(say: Callable[[str], None]) -> None:
    """Run the exercise and say each step."""
    rng = np.random.default_rng(1)
    say("learning honest timing (simulated)")
    detector = CovertDetector(
        np.array([legitimate(LENGTH, rng=rng) for _ in range(1500)]),
        budget_bits_per_s=BUDGET_BITS_PER_S,
    )
    good, bad = Image(name="pulse-fw", data=CLEAN), Image(name="pulse-fw", data=MODULATING)
    quiet = exercise(good, detector, rng)
    say(f"clean firmware: {quiet or 'no alarm'}")
    keys = {role: DualKey(bytes([k]) * 32, bytes([k + 9]) * 32) for k, role in enumerate(ROLES)}
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        folder = Path(name)
        device = Device("qpu-0", keys["root"].public, folder / "state.json")
        reason = exercise(bad, detector, rng)
        say(f"modulating firmware: {reason or 'NOT FOUND'}")
        device.quarantine(reason or "not found")

        repository = FirmwareRepository(folder / "repository", keys)
        root = (folder / "repository" / "metadata" / "1.root.json").read_bytes()
        first = Image(name="pulse-fw", data=b"first release")
        repository.publish(first)
        shutil.copytree(folder / "repository", folder / "old")
        repository.publish(good)
        client = FirmwareClient(folder / "device", root=root, source=folder / "repository")
        say(f"boot while quarantined: {attempt(device, good, client)}")
        device.lift()
        say(f"owner lifts; released firmware: {attempt(device, client.fetch(good.name), client)}")
        say(f"its measured boot: {measured(device, good, good, folder)}")

        old = FirmwareClient(folder / "device", root=root, source=folder / "old")
        thief = {role: DualKey(b"x" * 32, b"y" * 32) for role in ROLES}
        shutil.copytree(folder / "repository", folder / "forged")
        FirmwareRepository(folder / "forged", thief).publish(bad)
        forged = FirmwareClient(folder / "device-2", root=root, source=folder / "forged")
        booted = 0
        for label, image, release in (
            ("rerun, unsigned", bad, None),
            ("rerun, modified bytes", bad, client),
            ("rerun, signed by other keys", bad, forged),
            (
                "rerun, an older release replayed",
                Image(name="pulse-fw", data=b"first release"),
                old,
            ),
        ):
            outcome = attempt(device, image, release)
            booted += outcome == "booted"
            say(f"{label}: {outcome}")
            device.lift()
        say(f"rerun, loaded past the checks: {measured(device, bad, good, folder)}")
        say(f"boot after that: {attempt(device, good, client)}")
        say(f"modified images booted: {booted}")
        say(f"power by size, {LENGTH} pulses a window, 1 % false positives:")
        for line in power(detector, rng):
            say(f"  {line}")
        say("blind zone: small shifts, and channels that copy honest timing that is independent")


def main() -> None:
    """Run it, print it, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    path = parser.parse_args().report
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    exercise_all(say)
    if path:
        text = html.escape("\n".join(lines))
        path.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            "<title>Covert pulse timing</title>"
            "<style>body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto}"
            "pre{white-space:pre-wrap}</style>"
            f"<h1>Covert pulse timing</h1><p>Simulated.</p><pre>{text}</pre></html>\n",
            encoding="utf-8",
        )
        print(f"report: {path}")


if __name__ == "__main__":
    main()
