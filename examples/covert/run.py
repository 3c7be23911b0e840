"""A covert channel in pulse times: run, found, quarantined; then signed firmware only.

    python examples/covert/run.py

The firmware is an emulator and its pulse times are simulated. The exercise is bounded: it stops
after a fixed number of windows.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np

from interlock.errors import DeniedError, IntegrityError
from interlock.monitor.covert import CovertDetector, embed, legitimate
from interlock.monitor.firmware import Device, Image, Manifest, make_manifest
from interlock.monitor.signed import DualKey

LENGTH, MAX_WINDOWS, BUDGET_BITS_PER_S = 1000, 20, 1000.0
CLEAN = b"firmware: emit pulses on schedule\n" * 64
MODULATING = CLEAN.replace(b"on schedule", b"as secret  ", 1)


def emit(image: Image, rng: np.random.Generator) -> np.ndarray:
    """Emulate one window of the firmware's pulses: the modified image hides bits in them."""
    honest = legitimate(LENGTH, rng=rng)
    return honest if image.data == CLEAN else embed(honest, "pair-swap", rng=rng)


def exercise(image: Image, detector: CovertDetector, rng: np.random.Generator) -> str | None:
    """Run at most MAX_WINDOWS windows; return why the device should be stopped, or None."""
    for window in range(1, MAX_WINDOWS + 1):
        verdict = detector.test(emit(image, rng))
        if verdict.alarm:
            return (
                f"covert channel in window {window}: e-value {verdict.e_value:.3g} above "
                f"{verdict.threshold:.3g} by {verdict.strongest}, about "
                f"{verdict.bits_per_s:.0f} bits/s"
            )
    return None


def attempt(device: Device, image: Image, manifest: Manifest | None) -> str:
    """Return what became of booting an image."""
    try:
        device.boot(image, manifest, now_s=0)
    except (DeniedError, IntegrityError) as error:
        return f"refused: {error.code} ({error.got})"
    return "booted"


def main() -> None:
    """Run the exercise and print each step."""
    rng = np.random.default_rng(1)
    print("learning honest timing (simulated)")
    detector = CovertDetector(
        np.array([legitimate(LENGTH, rng=rng) for _ in range(1500)]),
        budget_bits_per_s=BUDGET_BITS_PER_S,
    )
    quiet = exercise(Image(name="pulse-fw", data=CLEAN), detector, rng)
    print(f"clean firmware: {quiet or 'no alarm'}")
    owner, attacker = DualKey(b"o" * 32, b"p" * 32), DualKey(b"x" * 32, b"y" * 32)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        device = Device("qpu-0", owner.public, Path(folder) / "state.json")
        bad = Image(name="pulse-fw", data=MODULATING)
        reason = exercise(bad, detector, rng)
        print(f"modulating firmware: {reason or 'NOT FOUND'}")
        device.quarantine(reason or "not found")
        good = Image(name="pulse-fw", data=CLEAN)
        release = make_manifest(good, version=2, expires_s=10**10, key=owner)
        print(f"boot while quarantined: {attempt(device, good, release)}")
        device.lift()
        print(f"owner lifts; released firmware: {attempt(device, good, release)}")
        old = make_manifest(good, version=1, expires_s=10**10, key=owner)
        forged = make_manifest(bad, version=3, expires_s=10**10, key=attacker)
        booted = 0
        for label, image, manifest in (
            ("rerun, unsigned", bad, None),
            ("rerun, old manifest over new bytes", bad, release),
            ("rerun, another key", bad, forged),
            ("rerun, older version", good, old),
        ):
            outcome = attempt(device, image, manifest)
            booted += outcome == "booted"
            print(f"{label}: {outcome}")
            device.lift()
        print(f"modified images booted: {booted}")


if __name__ == "__main__":
    main()
