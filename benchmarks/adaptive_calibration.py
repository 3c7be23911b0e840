"""Learned policy against the tuned integrator, and the shield under poisoned telemetry.

python benchmarks/adaptive_calibration.py              the test, on seeds 30_000 and up
python benchmarks/adaptive_calibration.py --validate   the choice of method, on 20_000 and up

Integrator and policy are fitted to the same training episodes of the drift that they are tested on.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from interlock.monitor.calibration import DriftingDevice, Shield, learn_policy, record, tune
from interlock.monitor.calibration.controllers import Controller, Integrator, LearnedPolicy, episode
from interlock.monitor.calibration.device import FLOOR
from interlock.monitor.calibration.shield import Event

TRAIN, VALIDATE, TEST = range(10_000, 10_032), range(20_000, 20_020), range(30_000, 30_040)
DRIFTS = {
    "momentum .98": {"momentum": 0.98},
    "momentum .999": {"momentum": 0.999},
    "momentum .98, a tenth as wide": {"momentum": 0.98, "drift": 0.003},
    "random walk": {"momentum": 0.0},
}
FORMER_MEMORY = 0.9995


def devices(seeds: range, drift: str) -> list[DriftingDevice]:
    return [DriftingDevice(seed=s, **DRIFTS[drift]) for s in seeds]


def excess(make: Callable[[], Controller], seeds: range, drift: str) -> npt.NDArray[np.float64]:
    """Return the mean gate error above the floor of each seed's episode."""
    return np.array([episode(make(), d) - FLOOR for d in devices(seeds, drift)])


def interval(gain: npt.NDArray[np.float64]) -> str:
    """Return mean and 95 % bootstrap interval over the seeds."""
    means = np.random.default_rng(0).choice(gain, (10_000, len(gain))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{gain.mean():.2e} [{low:.2e}, {high:.2e}]"


def numbers(policy: LearnedPolicy) -> tuple[float, float, float]:
    return policy.gain, policy.trend_gain, policy.memory


def validate() -> None:
    """Compare two ways to learn: the trend's memory fixed as it was formerly, and learnt."""
    print(f"mean gate error above the floor, {len(VALIDATE)} validation seeds (simulated)")
    fitted = {}
    for drift in DRIFTS:
        train = record(devices(TRAIN, drift))
        gain = tune(train).gain
        fixed = numbers(learn_policy(train, memory=FORMER_MEMORY))
        learnt = numbers(learn_policy(train))
        base = excess(lambda gain=gain: Integrator(gain), VALIDATE, drift)
        print(f"{drift}: integrator {base.mean():.3e}")
        for name, found in (("fixed", fixed), ("learnt", learnt)):
            ours = excess(lambda found=found: LearnedPolicy(*found), VALIDATE, drift)
            print(f"  memory {name:<7} {ours.mean():.3e}   gain {interval(base - ours)}")
        fitted[drift] = gain, learnt
    for learnt_on, used_on in itertools.permutations(["momentum .98", "momentum .999"]):
        gain, found = fitted[learnt_on]
        base = excess(lambda gain=gain: Integrator(gain), VALIDATE, used_on)
        ours = excess(lambda found=found: LearnedPolicy(*found), VALIDATE, used_on)
        print(f"both fitted to {learnt_on}, used on {used_on}: integrator {base.mean():.3e}")
        print(f"  memory learnt  {ours.mean():.3e}   gain {interval(base - ours)}")


def test() -> tuple[float, LearnedPolicy]:
    """Print the comparison on the test seeds; return what was fitted to the default drift."""
    print(f"mean gate error over {len(TEST)} test seeds (simulated; floor {FLOOR:.2e})")
    fitted = {}
    for drift in DRIFTS:
        train = record(devices(TRAIN, drift))
        gain, learnt = tune(train).gain, learn_policy(train)
        found = numbers(learnt)
        theirs = excess(lambda gain=gain: Integrator(gain), TEST, drift)
        ours = excess(lambda found=found: LearnedPolicy(*found), TEST, drift)
        none = excess(lambda: Integrator(0.0), TEST, drift)
        fitted[drift] = gain, learnt
        share = 1 - ours.mean() / theirs.mean()
        print(f"{drift}: {none.mean() + FLOOR:.3e} without control")
        print(f"  integrator {gain:.4f}  {theirs.mean() + FLOOR:.4e}  excess {theirs.mean():.3e}")
        print(f"  learned policy     {ours.mean() + FLOOR:.4e}  excess {ours.mean():.3e}", end="")
        print(f"  ({', '.join(f'{v:.2g}' for v in found[:2])}, {found[2]:.4f})")
        print(f"  gain {interval(theirs - ours)}, {share:.1%} of the excess")
    return fitted["momentum .999"]


def attacked(seed: int, kind: str, controller: Controller, shielded: bool) -> tuple[float, ...]:
    """Return worst error, recalibrations, and mean error of 1000 steps after the attack."""
    device, control, errors = DriftingDevice(seed=seed), np.zeros(16), []
    shield = Shield(device, controller)
    for k in range(5000):
        size = 1.0 if kind == "step" else 2.0 * k / 4000
        bias = size if 500 < k < 4000 else 0.0
        if shielded:
            shield.step(bias=bias)
            control = shield.control
        else:
            device.advance()
            control = control + controller.propose(device.sense(control, bias=bias))
        errors.append(device.error(control))
    again = sum(e is Event.RECALIBRATED for _, e in shield.events)
    return max(errors[:4000]), again, float(np.mean(errors[4000:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--validate", action="store_true")
    if parser.parse_args().validate:
        validate()
        return
    gain, policy = test()
    makers: dict[str, Callable[[], Controller]] = {
        "integrator": lambda: Integrator(gain),
        "learned policy": lambda: LearnedPolicy(*numbers(policy)),
    }
    for kind in ("step", "ramp"):
        for name, make in makers.items():
            bare = [attacked(s, kind, make(), False) for s in range(5)]
            kept = [attacked(s, kind, make(), True) for s in range(5)]
            print(
                f"{kind} bias, {name}: worst error {max(b[0] for b in bare):.3f} bare, "
                f"{max(w[0] for w in kept):.3f} shielded, "
                f"{np.mean([w[1] for w in kept]):.0f} recalibrations; "
                f"{np.mean([w[2] for w in kept]):.2e} after it"
            )


if __name__ == "__main__":
    main()
