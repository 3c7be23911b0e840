"""Simulation of a BB84 or E91 link with an eavesdropper. Its output is bits, never a key.

Sifting, error estimation with a bound for sampling (Serfling), abort at the bound, leakage of error
correction counted at 1.16 times the Shannon limit, privacy amplification by a Toeplitz hash
(leftover hash lemma). Error correction itself is not simulated: the bits are corrected by fiat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlock.errors import UsageError

__all__ = ["LinkResult", "LinkSettings", "simulate_bb84", "simulate_e91", "toeplitz_hash"]

Bits = NDArray[np.uint8]
#: Above this error rate no secret bits are left (Shor and Preskill 2000).
ABORT_QBER = 0.11


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """A link and what is done to it.

    Attributes:
        pulses: photons or pairs sent.
        transmission: share that arrives.
        noise: error rate of the link itself.
        intercept: share measured and sent on by an eavesdropper.
        sample_share: share of the sifted bits that is disclosed to estimate errors.
        epsilon: chance allowed for each estimate to be wrong.
    """

    pulses: int = 100_000
    transmission: float = 0.5
    noise: float = 0.01
    intercept: float = 0.0
    sample_share: float = 0.2
    epsilon: float = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResult:
    """What a simulated run gave.

    Attributes:
        label: always `simulation`.
        sifted: bits after sifting.
        qber: error rate in the disclosed sample.
        qber_bound: upper bound of it in the rest.
        aborted: why there are no bits, or empty.
        bits: simulated bits that would be secret; empty after an abort.
        chsh: CHSH value of the test rounds (E91), or None.
    """

    label: str
    sifted: int
    qber: float
    qber_bound: float
    aborted: str
    bits: Bits
    chsh: float | None = None


def _entropy(p: float) -> float:
    return 0.0 if p <= 0 or p >= 1 else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def toeplitz_hash(bits: Bits, seed: Bits, length: int) -> Bits:
    """Return `length` bits of the Toeplitz hash that `seed` (length + n - 1 bits) defines.

    Computed by a fast Fourier transform: exact, since every sum is far below 2^53.
    """
    n = bits.size
    if seed.size != length + n - 1:
        raise UsageError(
            "the seed of a Toeplitz hash has the wrong length",
            code="qkd-seed",
            got=f"{seed.size} bits",
            expected=f"{length + n - 1} bits",
            fix="draw length + n - 1 bits",
        )
    size = 1 << (seed.size + n - 1).bit_length()
    product = np.fft.irfft(
        np.fft.rfft(seed.astype(np.float64), size) * np.fft.rfft(bits.astype(np.float64), size),
        size,
    )
    window = np.rint(product[n - 1 : n - 1 + length]).astype(np.int64)
    return (window & 1).astype(np.uint8)


def _measure(rng: np.random.Generator, bit: Bits, basis: Bits, chosen: Bits) -> Bits:
    """Measure in a chosen basis: the bit where it fits, a coin where not."""
    coin = rng.integers(0, 2, bit.size, dtype=np.uint8)
    return np.where(basis == chosen, bit, coin).astype(np.uint8)


def simulate_bb84(settings: LinkSettings, rng: np.random.Generator) -> LinkResult:
    """Run BB84 with an intercept-resend eavesdropper on part of the pulses."""
    n = int(rng.binomial(settings.pulses, settings.transmission))
    bit, basis, his = (rng.integers(0, 2, n, dtype=np.uint8) for _ in range(3))
    flying, flying_basis = bit, basis
    touched = rng.random(n) < settings.intercept
    eve = rng.integers(0, 2, n, dtype=np.uint8)
    seen = _measure(rng, bit, basis, eve)
    flying = np.where(touched, seen, flying).astype(np.uint8)
    flying_basis = np.where(touched, eve, flying_basis).astype(np.uint8)
    got = _measure(rng, flying, flying_basis, his)
    got ^= (rng.random(n) < settings.noise).astype(np.uint8)
    kept = basis == his
    return _distil(settings, rng, bit[kept], got[kept], None)


def simulate_e91(settings: LinkSettings, rng: np.random.Generator) -> LinkResult:
    """Run E91: two thirds of the pairs test CHSH, the rest give bits."""
    n = int(rng.binomial(settings.pulses, settings.transmission))
    visibility = (1 - 2 * settings.noise) * np.where(rng.random(n) < settings.intercept, 0.5, 1.0)
    test = rng.random(n) < 2 / 3
    x, y = (rng.integers(0, 2, n) for _ in range(2))
    sign = np.where((x == 1) & (y == 1), -1.0, 1.0)
    correlation = np.where(test, sign / math.sqrt(2), 1.0) * visibility
    mine = rng.integers(0, 2, n, dtype=np.uint8)
    same = rng.random(n) < (1 + correlation) / 2
    other = np.where(same, mine, 1 - mine).astype(np.uint8)
    agree = np.where(mine == other, 1.0, -1.0)
    chsh = 0.0
    for a in (0, 1):
        for b in (0, 1):
            cell = agree[test & (x == a) & (y == b)]
            mean = float(cell.mean()) if cell.size else 0.0
            chsh += -mean if a and b else mean
    return _distil(settings, rng, mine[~test], other[~test], chsh)


def _distil(
    settings: LinkSettings, rng: np.random.Generator, mine: Bits, other: Bits, chsh: float | None
) -> LinkResult:
    n = mine.size
    order = rng.permutation(n)
    sample, rest = np.split(order, [int(n * settings.sample_share)])
    qber = float(np.mean(mine[sample] != other[sample])) if sample.size else 1.0
    bound = 1.0
    if sample.size and rest.size:
        k, m = sample.size, rest.size
        bound = qber + math.sqrt(
            (m + k) * (k + 1) / (m * k * k) * math.log(1 / settings.epsilon) / 2
        )
    empty = np.zeros(0, np.uint8)
    aborted = ""
    if bound >= ABORT_QBER:
        aborted = f"error bound {bound:.4f} is not below {ABORT_QBER}"
    elif chsh is not None and chsh <= 2.0:
        aborted = f"CHSH value {chsh:.3f} is not above 2"
    length = 0
    if not aborted:
        secret = rest.size * (1 - _entropy(bound) - 1.16 * _entropy(max(qber, 1e-4)))
        length = math.floor(secret - 2 * math.log2(1 / settings.epsilon))
        if length <= 0:
            aborted = "too few bits are left for privacy amplification"
    bits = empty
    if not aborted:
        seed = rng.integers(0, 2, length + rest.size - 1, dtype=np.uint8)
        bits = toeplitz_hash(mine[rest], seed, length)
    return LinkResult(
        label="simulation",
        sifted=n,
        qber=qber,
        qber_bound=min(bound, 1.0),
        aborted=aborted,
        bits=bits,
        chsh=chsh,
    )
