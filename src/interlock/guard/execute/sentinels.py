"""Primitives that slip sentinels among the circuits of every job.

The device sees one job with circuits of one kind of shape in an order it cannot predict. The
sentinels' results are taken out before the user sees the rest; what they showed travels in the
result's metadata to the validate stage.
"""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2, PrimitiveJob, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from interlock.backends.calibration import Calibration
from interlock.backends.sources import backend_of, calibration_of
from interlock.errors import BackendError, InputError
from interlock.guard.health.mirror import ESTIMATED, REGISTER, allowed_failure, mirror_of
from interlock.guard.health.sentinels import METADATA, Heard
from interlock.guard.hooks.qiskit_targets import default_precision

__all__ = ["METADATA", "SentinelEstimator", "SentinelSampler"]

_MOST_CIRCUITS = 256


class _Interleaving:
    """What both kinds of primitive share: sentinels made, placed, and taken out again."""

    def __init__(
        self,
        inner: Any,
        *,
        shots: int | None,
        sentinels: int,
        rng: np.random.Generator | int | None,
        clock: Callable[[], float],
    ) -> None:
        if sentinels < 1 or (shots is not None and shots < sentinels):
            raise InputError(
                "a job needs at least one sentinel, and each at least one shot",
                code="sentinel-settings",
                got=f"{sentinels} sentinels, {shots} shots",
                expected="sentinels >= 1, shots >= sentinels",
                fix="leave the defaults",
            )
        self.inner = inner
        self._shots = None if shots is None else shots // sentinels
        self._sentinels = sentinels
        self._rng = np.random.default_rng(rng)
        self._clock = clock

    @property
    def backend(self) -> Any:
        """The backend of the wrapped primitive."""
        return backend_of(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _run(self, own: list[Any]) -> Any:
        made, note = self._make(own)
        places = sorted(self._rng.choice(len(own) + len(made), len(made), replace=False).tolist())
        mixed = list(own)
        for place, sentinel in zip(places, made, strict=True):
            mixed.insert(place, sentinel.pub)
        result = self.inner.run(mixed).result()
        taken = set(places)
        kept = [pub for index, pub in enumerate(result) if index not in taken]
        rows = []
        for place, sentinel in zip(places, made, strict=True):
            if len(result) != len(mixed):
                raise _lost(result, place, len(mixed))
            found = sentinel.read(result[place])
            if found is None:
                raise _lost(result, place, len(mixed))
            shots, failures = found
            rows.append({"shots": shots, "failures": failures, "allowed": sentinel.allowed})
        heard = Heard(device=note["device"], rows=tuple(rows), skipped=note["skipped"])
        return PrimitiveResult(kept, metadata={**result.metadata, METADATA: heard})

    def _make(self, own: list[Any]) -> tuple[list[_Sentinel], dict[str, Any]]:
        calibration = calibration_of(self.inner, now=self._clock())
        if calibration is None or calibration.kind == "ideal" or len(own) > _MOST_CIRCUITS:
            why = "no calibration to compare with" if calibration is None else calibration.kind
            return [], {"device": getattr(calibration, "device", ""), "skipped": why}
        made: list[_Sentinel] = []
        skipped = None
        for _ in range(self._sentinels):
            pub = own[int(self._rng.integers(len(own)))]
            try:
                made.append(self._one(pub, calibration))
            except InputError as error:
                skipped = f"{error.code}: {error.got}"
        return made, {"device": calibration.device, "skipped": skipped}

    @abc.abstractmethod
    def _one(self, pub: Any, calibration: Calibration) -> _Sentinel:
        """Make one sentinel of a pub."""


class _Sentinel(NamedTuple):
    """One sentinel: its pub, the failure rate allowed, and how its result is read."""

    pub: Any
    allowed: float
    read: Callable[[Any], tuple[int, int] | None]


class SentinelSampler(_Interleaving, BaseSamplerV2):
    """Wraps a sampler; guard the wrapped one: `guard(SentinelSampler(sampler))`.

    Args:
        inner: the sampler to run on.
        shots: sentinel shots for each job.
        sentinels: sentinel circuits for each job, between which the shots are shared.
        rng: places, quarter turns and Paulis; keep it secret from the device.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        inner: BaseSamplerV2,
        *,
        shots: int = 64,
        sentinels: int = 2,
        rng: np.random.Generator | int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(inner, shots=shots, sentinels=sentinels, rng=rng, clock=clock)

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """Run the pubs with sentinels among them; the result has the user's pubs alone."""
        own = [SamplerPub.coerce(p, shots) for p in pubs]
        job = PrimitiveJob(self._run, own)
        job._submit()
        return job

    def _one(self, pub: SamplerPub, calibration: Calibration) -> _Sentinel:
        mirror = mirror_of(pub.circuit, self._rng)

        def read(result: Any) -> tuple[int, int] | None:
            bits = getattr(result.data, REGISTER, None)
            if bits is None:
                return None
            counts = bits.get_counts()
            total = int(sum(counts.values()))
            return total, total - int(counts.get(mirror.answer, 0))

        sentinel = SamplerPub.coerce(mirror.circuit, self._shots)
        return _Sentinel(sentinel, allowed_failure(mirror.circuit, calibration), read)


class SentinelEstimator(_Interleaving, BaseEstimatorV2):
    """Wraps an estimator; guard the wrapped one: `guard(SentinelEstimator(estimator))`.

    The observable of a sentinel is the projector on its one right answer, so that what the
    estimator returns is the share of right shots, scored like those of a sampler. On more than
    six qubits it is the answer of six of them, drawn anew for each sentinel.

    Args:
        inner: the estimator to run on; one that mitigates errors hides them from the sentinels.
        shots: sentinel shots for each job; by default each sentinel has the precision of the pub
            it was made from, which no device can tell from the user's own.
        sentinels: sentinel circuits for each job.
        rng: places, quarter turns and Paulis; keep it secret from the device.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        inner: BaseEstimatorV2,
        *,
        shots: int | None = None,
        sentinels: int = 1,
        rng: np.random.Generator | int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(inner, shots=shots, sentinels=sentinels, rng=rng, clock=clock)

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """Run the pubs with sentinels among them; the result has the user's pubs alone."""
        wanted = precision if precision is not None else default_precision(self.inner)
        own = [EstimatorPub.coerce(p, wanted) for p in pubs]
        job = PrimitiveJob(self._run, own)
        job._submit()
        return job

    def _one(self, pub: EstimatorPub, calibration: Calibration) -> _Sentinel:
        precision = pub.precision if self._shots is None else self._shots**-0.5
        if not precision:
            raise InputError(
                "an exact estimate has no shots to score",
                code="sentinel-exact",
                got=f"precision {precision}",
                expected="a precision above 0",
                fix="give run() a precision",
            )
        mirror = mirror_of(pub.circuit, self._rng, most=ESTIMATED)
        circuit, projector = mirror.estimated()
        asked = math.ceil(1 / precision**2)

        def read(result: Any) -> tuple[int, int] | None:
            value = np.asarray(getattr(result.data, "evs", math.nan), dtype=float)
            if value.shape != () or not np.isfinite(value):
                return None
            shots = _shots_of(result, asked)
            # Rounded down: an estimator that mitigates may end between two counts.
            failures = math.floor(shots * min(1.0, max(0.0, 1 - float(value))) + 1e-6)
            return shots, failures

        sentinel = EstimatorPub.coerce((circuit, projector), precision)
        return _Sentinel(sentinel, allowed_failure(mirror.circuit, calibration), read)


def _shots_of(result: Any, asked: int) -> int:
    """Return the shots to count, at most those asked for: fewer than were run cost only power.

    An average over more shots than are counted has less spread, and the wealth of a bet is convex
    in it, so its expectation stays at most one. An error above that of the shots, as an estimator
    that extrapolates reports it, counts as fewer shots.
    """
    told = (getattr(result, "metadata", None) or {}).get("shots")
    error = float(np.max(np.asarray(getattr(result.data, "stds", 0.0), dtype=float)))
    shots = min(asked, told) if isinstance(told, int) and told > 0 else asked
    if math.isfinite(error) and error > 0:
        shots = min(shots, math.ceil(1 / error**2))
    return max(1, shots)


def _lost(result: Any, place: int, expected: int) -> BackendError:
    return BackendError(
        "the device's results are not in the order of the job",
        code="sentinel-missing",
        got=f"{len(result)} results, no sentinel at place {place}",
        expected=f"{expected} results in order",
        fix="run again; if it recurs, tell the provider and keep the receipt",
    )
