"""Learned policy against the tuned integrator, and the shield under poisoned telemetry.

python benchmarks/adaptive_calibration.py [--seeds 20]
"""

from __future__ import annotations

import argparse

import numpy as np

from interlock.monitor.calibration import DriftingDevice, LearnedPolicy, Shield, learn_policy
from interlock.monitor.calibration.controllers import Integrator, episode, tune
from interlock.monitor.calibration.shield import Event


def attacked(seed: int, kind: str, shielded: bool, steps: int = 4000) -> tuple[float, int]:
    device = DriftingDevice(seed=seed)
    shield = Shield(device, Integrator(0.05))
    control, worst = np.zeros(16), 0.0
    for k in range(steps):
        size = 1.0 if kind == "step" else 2.0 * k / steps
        bias = size if k > 500 else 0.0
        if shielded:
            shield.step(bias=bias)
            control = shield.control
        else:
            device.advance()
            control = control + 0.05 * device.sense(control, bias=bias)
        worst = max(worst, device.error(control))
    return worst, sum(e is Event.RECALIBRATED for _, e in shield.events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    train = range(10_000, 10_006)
    base = tune(train)
    learned = learn_policy(train)
    fixed, ours, theirs = [], [], []
    for seed in range(seeds):
        theirs.append(episode(Integrator(base.gain), seed=seed))
        ours.append(episode(LearnedPolicy(learned.gain, learned.trend_gain), seed=seed))
        fixed.append(episode(Integrator(0.0), seed=seed))
    rng = np.random.default_rng(0)
    gain = np.array(theirs) - np.array(ours)
    means = rng.choice(gain, (4000, seeds)).mean(axis=1)
    print(f"mean gate error over {seeds} seeds (simulated; floor 2.00e-03)")
    print(f"  no control          {np.mean(fixed):.3e}")
    print(f"  integrator {base.gain:<8.2f} {np.mean(theirs):.3e}")
    print(f"  learned policy      {np.mean(ours):.3e}")
    print(
        f"  integrator less learned: {gain.mean():.2e} "
        f"[{np.quantile(means, 0.025):.2e}, {np.quantile(means, 0.975):.2e}]"
    )
    for kind in ("step", "ramp"):
        bare = [attacked(s, kind, False)[0] for s in range(5)]
        kept = [attacked(s, kind, True) for s in range(5)]
        print(
            f"  {kind} bias on the sensor: worst error {max(bare):.3f} bare, "
            f"{max(w for w, _ in kept):.3f} shielded, "
            f"{np.mean([n for _, n in kept]):.0f} recalibrations"
        )


if __name__ == "__main__":
    main()
