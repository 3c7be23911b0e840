"""A sampler that slips sentinels among the circuits of every job.

The device sees one job with circuits of one kind of shape in an order it cannot predict. The
sentinels' results are taken out before the user sees the rest; what they showed travels in the
result's metadata to the validate stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from qiskit.primitives import BaseSamplerV2, PrimitiveJob, PrimitiveResult
from qiskit.primitives.containers.sampler_pub import SamplerPub

from interlock.backends.sources import backend_of, calibration_of
from interlock.errors import BackendError, InputError
from interlock.guard.health.mirror import REGISTER, allowed_failure, mirror_of
from interlock.guard.health.sentinels import METADATA, Heard

__all__ = ["METADATA", "SentinelSampler"]

_MOST_CIRCUITS = 256


class SentinelSampler(BaseSamplerV2):
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
        self.inner = inner
        self._shots = max(1, shots // sentinels)
        self._sentinels = sentinels
        self._rng = np.random.default_rng(rng)
        self._clock = clock

    @property
    def backend(self) -> Any:
        """The backend of the wrapped sampler."""
        return backend_of(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """Run the pubs with sentinels among them; the result has the user's pubs alone."""
        own = [SamplerPub.coerce(p, shots) for p in pubs]
        job = PrimitiveJob(self._run, own)
        job._submit()
        return job

    def _run(self, own: list[SamplerPub]) -> Any:
        made, note = self._make(own)
        places = sorted(self._rng.choice(len(own) + len(made), len(made), replace=False).tolist())
        mixed: list[Any] = list(own)
        for place, (mirror, _) in zip(places, made, strict=True):
            mixed.insert(place, SamplerPub.coerce(mirror.circuit, self._shots))
        result = self.inner.run(mixed).result()
        taken = set(places)
        kept = [pub for index, pub in enumerate(result) if index not in taken]
        rows = []
        for place, (mirror, allowed) in zip(places, made, strict=True):
            counts = _counts(result, place, len(mixed))
            right = int(counts.get(mirror.answer, 0))
            total = int(sum(counts.values()))
            rows.append({"shots": total, "failures": total - right, "allowed": allowed})
        heard = Heard(device=note["device"], rows=tuple(rows), skipped=note["skipped"])
        return PrimitiveResult(kept, metadata={**result.metadata, METADATA: heard})

    def _make(self, own: list[SamplerPub]) -> tuple[list[tuple[Any, float]], dict[str, Any]]:
        calibration = calibration_of(self.inner, now=self._clock())
        if calibration is None or calibration.kind == "ideal" or len(own) > _MOST_CIRCUITS:
            why = "no calibration to compare with" if calibration is None else calibration.kind
            return [], {"device": getattr(calibration, "device", ""), "skipped": why}
        made: list[tuple[Any, float]] = []
        skipped = None
        for _ in range(self._sentinels):
            pub = own[int(self._rng.integers(len(own)))]
            try:
                mirror = mirror_of(pub.circuit, self._rng)
                made.append((mirror, allowed_failure(mirror.circuit, calibration)))
            except InputError as error:
                skipped = f"{error.code}: {error.got}"
        return made, {"device": calibration.device, "skipped": skipped}


def _counts(result: Any, place: int, expected: int) -> dict[str, int]:
    bits = getattr(result[place].data, REGISTER, None) if len(result) == expected else None
    if bits is None:
        raise BackendError(
            "the device's results are not in the order of the job",
            code="sentinel-missing",
            got=f"{len(result)} results, no sentinel at place {place}",
            expected=f"{expected} results in order",
            fix="run again; if it recurs, tell the provider and keep the receipt",
        )
    counts: dict[str, int] = bits.get_counts()
    return counts
