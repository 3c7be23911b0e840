"""What the adapters of all SDKs share: guarded objects, their threads, their fallbacks."""

from __future__ import annotations

import functools
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np
from msgspec.structs import replace

from interlock.backends import calibration_of
from interlock.circuits.data import Sensitivity, check_clearance, sensitivity_of
from interlock.circuits.faces import of_sdk
from interlock.errors import DeniedError, InputError, InterlockError
from interlock.guard.hooks import Options
from interlock.guard.hooks.sdk_classes import is_sdk, is_sdk_object
from interlock.guard.jobs import Released, labels_in_force
from interlock.guard.result import Result
from interlock.guard.service import Guard
from interlock.guard.validate.interval import intervals_of

__all__ = [
    "Closed",
    "FallbackWarning",
    "Guarded",
    "Receipts",
    "answered",
    "baseline",
    "classical",
    "counted",
    "decoder",
    "expanded",
    "hold_amplitudes",
    "job_of",
    "native_of",
    "on_record",
    "receipt_of",
    "recorded_options",
    "stripped",
    "unknown_object",
    "wrong_result",
]


P = ParamSpec("P")
R = TypeVar("R")

#: What gives amplitudes: result types of Braket, measurement processes of PennyLane.
_STATES = frozenset({"Amplitude", "DensityMatrix", "StateVector", "DensityMatrixMP", "StateMP"})


#: Names on record of what a result held besides; more are counted.
_NAMED = 50
#: Characters of a run option's value on record.
_OPTION = 200


class FallbackWarning(UserWarning):
    """The classical baseline answered, in an SDK whose results have no place for a label."""


class Guarded:
    """Base of the guarded drop-ins: what it wraps, and how it is copied.

    A copy guards a copy of the wrapped object with the same guard. What comes out of a pickle has
    a guard of its own on the same home.
    """

    interlock_guarded = True

    def __init__(self, inner: Any, options: Options) -> None:
        self._inner = inner
        self.interlock = options

    def device_name(self) -> str:
        """Return the name of what is wrapped, as the policy and the ledger name it."""
        name = getattr(self._inner, "name", None)
        return name if isinstance(name, str) else type(self._inner).__name__

    def __copy__(self) -> Self:
        return type(self)(self._inner, self.interlock)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(deepcopy(self._inner, memo), self.interlock)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return type(self), (self._inner, self.interlock)


def on_record(kind: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Put what a drop-in's method refuses before the path on record, and raise it all the same.

    Args:
        kind: of the job, as far as it is known before its circuits are read.
    """

    def wrap(method: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(method)
        def run(*args: P.args, **options: P.kwargs) -> R:
            try:
                return method(*args, **options)
            except (InputError, DeniedError) as error:
                guarded: Any = args[0]
                guard = guarded.interlock.guard
                if error.receipt is None and isinstance(guard, Guard):
                    error.receipt = guard.refuse(
                        error,
                        kind=kind,
                        backend_name=guarded.device_name(),
                        labels=guarded.interlock.labels,
                    )
                    error.add_note(f"  receipt:  interlock explain {error.receipt.id}")
                raise

        return run

    return wrap


class Closed(Guarded):
    """A guarded object that passes on no other methods: they would go round the guard.

    Attributes:
        ways: its own methods, for the error.
    """

    ways = "run"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        value = getattr(self._inner, name)
        if callable(value) and not hasattr(value, "qubit_set"):
            raise AttributeError(f"{name!r} would go round the guard: use {self.ways}")
        return value


class Receipts:
    """Receipts of an SDK whose results have no place for one: the newest of them, and a count.

    Attributes:
        outcomes: outcome -> jobs.
    """

    def __init__(self, keep: int = 1024) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=keep)
        self.outcomes: Counter[str] = Counter()

    def add(self, receipt: dict[str, Any]) -> None:
        """Keep the receipt of a job; one that fell back is said aloud."""
        self._kept.append(receipt)
        self.outcomes[receipt["outcome"]] += 1
        if receipt["outcome"] == "FALLBACK":
            warnings.warn(
                f"FALLBACK({receipt['rule']}): the classical baseline answered; "
                f"interlock explain {receipt['id']}",
                FallbackWarning,
                stacklevel=4,
            )

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._kept[index]

    @property
    def total(self) -> int:
        """Jobs so far, those whose receipts are no longer kept too."""
        return sum(self.outcomes.values())

    def since(self, total: int) -> list[dict[str, Any]]:
        """Return the receipts of the jobs after the first `total`."""
        new = self.total - total
        return list(self._kept)[-new:] if new else []

    @property
    def label(self) -> str:
        """`quantum`, `mixed` or `fallback`: what has answered so far; `none` before the first."""
        fell, jobs = self.outcomes["FALLBACK"], self.total
        if fell == jobs:
            return "fallback" if jobs else "none"
        return "mixed" if fell else "quantum"


def unknown_object(target: Any, expected: str) -> InputError:
    """Return the error for an object that an adapter cannot guard."""
    return InputError(
        f"cannot guard a {type(target).__qualname__}",
        code="guard-unknown-object",
        got=type(target).__qualname__,
        expected=expected,
        fix="wrap the object that submits the jobs",
    )


def classical(fallback: Any, method: str = "run") -> None:
    """Refuse a fallback that is a device, or a simulator of one.

    Args:
        fallback: an object of the SDK, or a function.
        method: what an object of the SDK runs circuits with.

    Raises:
        InputError: it would be the quantum answer once more, not filtered by health and not paid.
    """
    if not hasattr(fallback, method):
        return
    calibration = calibration_of(fallback, now=0.0)
    if calibration is None or calibration.kind != "ideal":
        raise InputError(
            "the fallback is a device, or a simulator of one",
            code="fallback-quantum",
            got=type(fallback).__qualname__,
            expected="a function, or a simulator without noise",
            fix="pass a classical baseline; see docs/how-to/fallback.md",
        )


def answered(
    fallback: Any, given: Sequence[Any], read: Callable[[Any], Any], seconds: list[float]
) -> Any:
    """Ask a baseline function, and read its answers.

    Args:
        fallback: a function from the list of what would have run to one answer each.
        given: what would have run.
        read: turns the list of answers into the SDK's result.
        seconds: the time it took is appended.

    Raises:
        InputError: there is not one answer each, or one is of the wrong kind.
    """
    started = time.perf_counter()
    answers = fallback(list(given))
    seconds.append(time.perf_counter() - started)
    try:
        answers = list(answers)
        if len(answers) != len(given):
            raise ValueError(f"{len(answers)} answers for {len(given)} circuits")
        return read(answers)
    except InterlockError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            "the fallback's answer is of the wrong kind",
            code="fallback-answer",
            got=f"{type(error).__name__}: {error}",
            expected="one answer for each circuit, in the SDK's own form",
            fix="see docs/how-to/fallback.md",
        ) from error


def job_of(
    options: Options, inner: Any, execute: Callable[[], Result], compute: Callable[[Any], Result]
) -> dict[str, Any]:
    """Return what a job is started with besides its circuits: where and how it runs.

    Args:
        options: of the guarded object.
        inner: what it wraps.
        execute: runs the job on it.
        compute: the answer of a classical baseline.

    Raises:
        InputError: the fallback is a device (`fallback-quantum`).
    """
    fallback = options.fallback
    if fallback is not None:
        classical(fallback)
    return {
        "backend": getattr(inner, "interlock_wrapped", inner),
        "execute": execute,
        "baseline": None if fallback is None else baseline(fallback, lambda: compute(fallback)),
        "decode": decoder(options),
        "labels": options.labels,
    }


def hold_amplitudes(options: Options, asked: Iterable[Any]) -> None:
    """Refuse to hand the program amplitudes that the job's labels keep from it.

    A program is cleared for `INTERNAL`, which is what a job without a label is.

    Args:
        options: of the guarded object.
        asked: result types or measurements; one of a class that is not the SDK's may be anything.

    Raises:
        DeniedError: `data-clearance`.
        InputError: `data-label`.
    """
    kinds = {type(a) for a in asked}
    if not any(
        _STATES & {c.__name__ for c in kind.__mro__} or not of_sdk(kind, "braket", "pennylane")
        for kind in kinds
    ):
        return
    check_clearance(sensitivity_of(labels_in_force(options.labels)), Sensitivity.INTERNAL)


def native_of(released: Released, rebuild: Callable[[Result], Any]) -> Any:
    """Return the SDK's result of a released job, made anew where it came in the form of no SDK.

    Raises:
        InputError: it is no result of these circuits (`result-format`).
    """
    native = released.result.native
    if native is None:
        try:
            return rebuild(released.result)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            wrong = wrong_result(released.result, error)
            wrong.receipt = released.receipt
            raise wrong from error
    if isinstance(native, dict):  # fields that a filter has fixed, in place of the raw result
        native.metadata = {"interlock": receipt_of(released)}  # type: ignore[attr-defined]
    return native


def counted(bits: Any) -> dict[str, int]:
    """Count the rows of an array of bits, (shots, bits), bit 0 first; keys have it last.

    Example:
        >>> counted(np.array([[1, 0], [1, 0], [0, 0]]))
        {'00': 1, '01': 2}
    """
    rows = np.ascontiguousarray(np.asarray(bits, dtype=np.uint8)[:, ::-1])
    packed = np.packbits(rows, axis=1)
    outcomes, first, counts = np.unique(packed, axis=0, return_index=True, return_counts=True)
    del outcomes
    keys = ["".join(map(str, rows[i].tolist())) for i in first]
    return dict(zip(keys, counts.tolist(), strict=True))


def expanded(counts: Mapping[str, int], shots: int, width: int) -> Any:
    """Return counts as an array of bits, (shots, bits), bit 0 first, sorted by outcome.

    Raises:
        ValueError: the counts do not add up, or an outcome has another width.
    """
    # Checked before anything is built: a wrong total must not fill the memory.
    if sum(counts.values()) != shots or any(n < 0 for n in counts.values()):
        raise ValueError(f"{sum(counts.values())} counts for {shots} shots")
    for key in counts:
        if len(key) != width or key.strip("01"):
            raise ValueError(f"outcome {key!r} for {width} bits")
    rows = [[int(b) for b in key[::-1]] for key in sorted(counts)]
    return np.repeat(
        np.array(rows, dtype=np.uint8).reshape(len(rows), width),
        [counts[key] for key in sorted(counts)],
        axis=0,
    )


def stripped(names: Sequence[str]) -> dict[str, Any]:
    """Return what the record and the receipt say of fields that no control looks at.

    Such a field of a device's result is not handed over; its name is.

    Example:
        >>> stripped(["0.data.secret"]), stripped([])
        ({'stripped': ['0.data.secret']}, {})
    """
    if not names:
        return {}
    short = [f"{name!s:.80}" for name in names[:_NAMED]]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return {"stripped": short + more}


def receipt_of(released: Released) -> dict[str, Any]:
    """Return the receipt as a result carries it: with intervals, and what was stripped."""
    left_out = released.result.extra.get("stripped")
    named = {"stripped": left_out} if left_out else {}
    return released.receipt.as_dict() | named | intervals_of(released.trace)


def recorded_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return run options as plain values for the record of the job.

    Example:
        >>> recorded_options({"memory": True, "noise_model": None, "scale": float("nan")})
        {'memory': True, 'scale': 'nan'}
    """
    plain = {str(k): v for k, v in options.items() if v is not None}
    return {
        k: v if isinstance(v, bool | int) else f"{v!s:.{_OPTION}}" for k, v in sorted(plain.items())
    }


def wrong_result(native: Any, error: Exception) -> InputError:
    """Return the error for something that came back and is no result."""
    return InputError(
        "what came back is no result for these circuits",
        code="result-format",
        got=f"{type(native).__name__}: {type(error).__name__}: {error}",
        expected="a result with one entry a circuit",
        fix="return the SDK's own result object, one entry for each circuit",
    )


def decoder(options: Options, copied: Callable[[Any], Any] = deepcopy) -> Any:
    """Return the guard's decoder, which gives the user's a copy: what it writes into it is lost."""
    decode = options.decode
    return (lambda result: decode(copied(result.native))) if decode else None


def baseline(fallback: Any, compute: Callable[[], Result]) -> Callable[[], Result]:
    """Return what computes the classical answer, named in the record.

    A noiseless simulator of an SDK runs as it is. A function, or a class of the user's own, must
    not submit anything: under `interlock run` that is refused.
    """
    from interlock.guard.hooks.autoguard import BASELINE, INSIDE

    name = getattr(fallback, "__name__", type(fallback).__name__)
    flag = INSIDE if is_sdk(type(fallback)) and is_sdk_object(fallback) else BASELINE

    def named() -> Result:
        token = flag.set(True)
        try:
            result = compute()
        finally:
            flag.reset(token)
        return replace(result, extra={**result.extra, "baseline": name})

    return named
