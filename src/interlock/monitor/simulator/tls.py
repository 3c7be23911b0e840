"""T1 of a superconducting qubit coupled to two-level systems.

1/T1 = G0 + a sum of random telegraph terms, read with a fit error. The parameters reproduce four
statistics of the public daily calibrations of two devices over 57 days in 2020: sd of ln T1 .25,
sd of its daily change .305, lag-1 autocorrelation .23, and T1 halving on 2.1 % of days. Slow
switching follows arXiv:1901.04417.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["TlsDevice", "daily_statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDevice:
    """A device whose qubits each see `systems` two-level systems.

    Args:
        qubits: how many qubits.
        t1_us: T1 with every two-level system off.
        systems: two-level systems a qubit.
        coupling: mean added rate of one system, as a share of the base rate.
        fit_error: relative sd of the T1 fit.
    """

    qubits: int = 27
    t1_us: float = 200.0
    systems: int = 8
    coupling: float = 0.3
    rate_hz: tuple[float, float] = (1e-6, 1e-3)
    duty: tuple[float, float] = (0.7, 1.6)
    fit_error: float = 0.08

    def sample(
        self, rows: int, *, period_s: float = 86_400.0, rng: np.random.Generator | int | None = None
    ) -> npt.NDArray[np.float64]:
        """Return T1 in microseconds, (rows, qubits), every `period_s` seconds.

        Each telegraph process is sampled exactly: given its state now, the chance of being on
        one period later is duty + (state - duty) * exp(-rate * period).
        """
        rng = np.random.default_rng(rng)
        shape = (self.qubits, self.systems)
        coupling = rng.exponential(self.coupling, shape)
        rate = np.exp(rng.uniform(np.log(self.rate_hz[0]), np.log(self.rate_hz[1]), shape))
        duty = rng.beta(*self.duty, shape)
        keep = np.exp(-rate * period_s)
        state = (rng.random(shape) < duty).astype(np.float64)
        out = np.empty((rows, self.qubits))
        for start in range(0, rows, 4096):
            draws = rng.random((min(4096, rows - start), *shape))
            for i, draw in enumerate(draws):
                state = (draw < duty + (state - duty) * keep).astype(np.float64)
                out[start + i] = 1.0 + (coupling * state).sum(axis=1)
        noise = np.exp(rng.normal(0.0, self.fit_error, out.shape))
        return self.t1_us / out * noise


def daily_statistics(t1_us: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the four published statistics of daily T1 values (days, qubits).

    Example:
        >>> flat = daily_statistics(np.full((57, 3), 100.0))
        >>> round(flat["sd_ln"], 9), flat["halvings"]
        (0.0, 0.0)
    """
    log = np.log(t1_us)
    centred = log - log.mean(axis=0)
    power = (centred**2).sum(axis=0)
    lagged = (centred[1:] * centred[:-1]).sum(axis=0)
    step = np.diff(log, axis=0)
    return {
        "sd_ln": float(np.mean(log.std(axis=0))),
        "sd_delta_ln": float(np.mean(step.std(axis=0))),
        "lag1": float(np.mean(lagged / np.where(power > 0, power, 1.0))),
        "halvings": float(np.mean(step < np.log(0.5))),
    }
