"""Checked conversions between amplitudes, probabilities, counts and tensors.

Every value carries the order of its qubits: `LITTLE` as in Qiskit (qubit 0 is the last character
of a bit string and the least significant bit of an index), `BIG` as in Cirq, Braket and PennyLane.
Two values of different order are never combined; `ordered` converts. Norm, finiteness, sign, shape
and dtype are checked when a value is made, so that what exists is sound. Amplitudes say more than
any measurement can, so they carry a sensitivity, are not printed, and leave only with a clearance.
The sensitivity of a job's amplitudes is that of its labels: `sensitivity:confidential` and so on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlock.errors import DeniedError, InputError
from interlock.extras import missing

__all__ = [
    "Amplitudes",
    "Counts",
    "Order",
    "Probabilities",
    "Sensitivity",
    "amplitudes_from_tensor",
    "amplitudes_of_job",
    "check_clearance",
    "counts_of",
    "distance",
    "export_amplitudes",
    "from_tensor",
    "ordered",
    "probabilities_of",
    "sensitivity_of",
    "to_tensor",
]

#: Largest deviation of a norm or a sum from one: what rounding in single precision leaves.
TOLERANCE = 1e-6
MAX_QUBITS = 30
#: How a label of a job begins that says how sensitive its amplitudes are.
LABEL = "sensitivity:"


class Order(enum.StrEnum):
    """Which qubit comes first in a bit string."""

    LITTLE = "little"
    BIG = "big"


class Sensitivity(enum.IntEnum):
    """How far amplitudes may go, and how far a reader is cleared."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3


def _bad(message: str, got: object, expected: str) -> InputError:
    return InputError(
        message,
        code="data-invalid",
        got=str(got)[:120],
        expected=expected,
        fix="check where the values come from; do not rescale what should be normalised",
    )


def _level(given: Any) -> Sensitivity:
    try:
        return Sensitivity(given)
    except ValueError as error:
        known = ", ".join(level.name for level in Sensitivity)
        raise _bad("there is no such sensitivity or clearance", given, known) from error


def _qubits(size: int) -> int:
    qubits = size.bit_length() - 1
    if size < 1 or size != 1 << qubits or qubits > MAX_QUBITS:
        raise _bad("the length is no power of two", size, f"2^n values, n up to {MAX_QUBITS}")
    return qubits


def _array(values: Any, dtype: type[np.generic]) -> NDArray[Any]:
    try:
        found = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise _bad("the values are no array", error, "numbers") from error
    kinds = "fiu" if dtype is np.float64 else "fciu"
    if found.dtype.kind not in kinds or found.dtype == np.float16:
        raise _bad("the values have a type that loses digits", found.dtype, dtype.__name__)
    if found.ndim != 1:
        raise _bad("the values are no vector", f"shape {found.shape}", "one dimension")
    out: NDArray[Any] = np.array(found, dtype=dtype)
    if not np.isfinite(out).all():
        raise _bad("a value is not finite", "NaN or infinity", "finite numbers")
    out.setflags(write=False)
    return out


class Amplitudes:
    """A normalised state vector, whose numbers only `export_amplitudes` and `to_tensor` hand out.

    Its `repr` shows no value, so that none gets into a log, and it is not pickled.

    Raises:
        InputError: `data-invalid`; wrong length, dtype, norm, or not finite.

    Example:
        >>> Amplitudes([1, 0], Order.LITTLE)
        Amplitudes(1 qubits, little, INTERNAL)
    """

    __slots__ = ("_held", "_order", "_sensitivity")

    def __init__(
        self, values: Any, order: Order, sensitivity: Sensitivity = Sensitivity.INTERNAL
    ) -> None:
        array = _array(values, np.complex128)
        _qubits(len(array))
        norm = float(np.vdot(array, array).real)
        if abs(norm - 1) > TOLERANCE:
            raise _bad("the amplitudes are not normalised", f"norm^2 {norm:.9g}", "1")
        self._held: NDArray[np.complex128] = array
        self._order = Order(order)
        self._sensitivity = _level(sensitivity)

    @property
    def order(self) -> Order:
        """Which qubit comes first."""
        return self._order

    @property
    def sensitivity(self) -> Sensitivity:
        """How far the values may go."""
        return self._sensitivity

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return _qubits(len(self._held))

    def __repr__(self) -> str:
        return f"Amplitudes({self.num_qubits} qubits, {self.order}, {self.sensitivity.name})"

    def __copy__(self) -> Amplitudes:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Amplitudes:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise DeniedError(
            "amplitudes are not pickled",
            code="data-clearance",
            got=repr(self),
            expected="values handed out to a reader with a clearance",
            fix="export_amplitudes(state, clearance)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """A point of the simplex over all bit strings.

    Raises:
        InputError: `data-invalid`; wrong length, dtype, sum, negative, or not finite.
    """

    values: NDArray[np.float64]
    order: Order

    def __post_init__(self) -> None:
        array = _array(self.values, np.float64)
        _qubits(len(array))
        lowest, total = float(array.min()), float(array.sum())
        if lowest < -TOLERANCE:
            raise _bad("a probability is negative", f"{lowest:.3g}", "0 or more")
        if abs(total - 1) > TOLERANCE:
            raise _bad("the probabilities do not add up", f"{total:.9g}", "1")
        object.__setattr__(self, "values", array)
        object.__setattr__(self, "order", Order(self.order))

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return _qubits(len(self.values))


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each bit string was seen.

    Raises:
        InputError: `data-invalid`; a string of another width, a count that is no whole number.
    """

    counts: Mapping[str, int]
    num_qubits: int
    order: Order
    shots: int = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.num_qubits <= 65_536:
            raise _bad("the number of qubits makes no sense", self.num_qubits, "1 or more")
        for bits, count in self.counts.items():
            if not isinstance(bits, str) or len(bits) != self.num_qubits or set(bits) - set("01"):
                raise _bad("a bit string is wrong", bits, f"{self.num_qubits} characters 0 or 1")
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
                raise _bad("a count is wrong", f"{bits}: {count!r}", "a whole number, 0 or more")
        shots = sum(int(c) for c in self.counts.values())
        if shots < 1:
            raise _bad("there is no shot", shots, "1 or more")
        object.__setattr__(self, "counts", {k: int(v) for k, v in self.counts.items()})
        object.__setattr__(self, "order", Order(self.order))
        object.__setattr__(self, "shots", shots)


_Value = TypeVar("_Value", Amplitudes, Probabilities, Counts)


def _reversed(values: NDArray[Any]) -> NDArray[Any]:
    n = _qubits(len(values))
    return values.reshape([2] * n).transpose().reshape(-1) if n else values


def ordered(value: _Value, order: Order) -> _Value:
    """Return the same value with its qubits in another order.

    Example:
        >>> ordered(Counts({"001": 5}, 3, Order.LITTLE), Order.BIG).counts
        {'100': 5}
    """
    if value.order is Order(order):
        return value
    if isinstance(value, Counts):
        turned = {bits[::-1]: count for bits, count in value.counts.items()}
        return Counts(turned, value.num_qubits, Order(order))
    if isinstance(value, Amplitudes):
        return Amplitudes(_reversed(value._held), Order(order), value.sensitivity)
    return Probabilities(_reversed(value.values), Order(order))


def probabilities_of(value: Amplitudes | Counts) -> Probabilities:
    """Return the probabilities of a state, or the shares of counts, in the same order."""
    if isinstance(value, Amplitudes):
        weights: NDArray[np.float64] = np.abs(value._held) ** 2
        return Probabilities(weights / weights.sum(), value.order)
    if value.num_qubits > MAX_QUBITS:
        raise _bad("the counts are too wide for a vector", value.num_qubits, f"<= {MAX_QUBITS}")
    out = np.zeros(1 << value.num_qubits)
    for bits, count in value.counts.items():
        out[int(bits, 2)] = count / value.shots
    return Probabilities(out, value.order)


def counts_of(
    value: Probabilities, shots: int, *, rng: np.random.Generator | int | None = None
) -> Counts:
    """Return counts drawn from probabilities."""
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise _bad("the number of shots makes no sense", shots, "1 or more")
    weights = np.clip(value.values, 0, None)
    drawn = np.random.default_rng(rng).multinomial(shots, weights / weights.sum())
    n = value.num_qubits
    seen = {format(int(i), f"0{n}b"): int(drawn[i]) for i in np.flatnonzero(drawn)}
    return Counts(seen, n, value.order)


def distance(left: Probabilities, right: Probabilities) -> float:
    """Return the total variation distance.

    Raises:
        InputError: `data-order`; the qubits are in different order, or not as many.
    """
    if left.order is not right.order or left.num_qubits != right.num_qubits:
        raise InputError(
            "the values cannot be compared",
            code="data-order",
            got=f"{left.num_qubits} qubits {left.order}, {right.num_qubits} qubits {right.order}",
            expected="the same qubits in the same order",
            fix="convert one with ordered(value, order)",
        )
    return float(np.abs(left.values - right.values).sum() / 2)


def to_tensor(
    value: Probabilities | Amplitudes, *, dtype: Any = None, clearance: Sensitivity | None = None
) -> Any:
    """Return probabilities as a torch tensor of float64, amplitudes as one of complex128.

    Args:
        value: what to hand over.
        dtype: half the width when asked for: float32 or complex64.
        clearance: of the reader; amplitudes above `PUBLIC` need one.

    Raises:
        InputError: `data-invalid`; a dtype that loses digits, or of the other kind.
        DeniedError: `data-clearance`.
        SetupError: `extra-missing`; torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing(error) from error

    amplitudes = isinstance(value, Amplitudes)
    known = (torch.complex128, torch.complex64) if amplitudes else (torch.float64, torch.float32)
    chosen = known[0] if dtype is None else dtype
    if chosen not in known:
        raise _bad("the tensor type loses digits", chosen, " or ".join(map(str, known)))
    if isinstance(value, Amplitudes):
        cleared = Sensitivity.PUBLIC if clearance is None else clearance
        return torch.tensor(export_amplitudes(value, cleared), dtype=chosen)
    return torch.tensor(value.values, dtype=chosen)


def from_tensor(tensor: Any, order: Order) -> Probabilities:
    """Return a torch tensor as probabilities, checked like any other input.

    Raises:
        InputError: `data-invalid`.
    """
    return Probabilities(tensor.detach().cpu().numpy(), order)


def amplitudes_from_tensor(
    tensor: Any, order: Order, sensitivity: Sensitivity = Sensitivity.INTERNAL
) -> Amplitudes:
    """Return a torch tensor as amplitudes, checked like any other input.

    Raises:
        InputError: `data-invalid`.
    """
    return Amplitudes(tensor.detach().cpu().resolve_conj().numpy(), order, sensitivity)


def sensitivity_of(labels: Iterable[str]) -> Sensitivity:
    """Return how far the amplitudes of a job with these labels may go.

    Of several labels `sensitivity:LEVEL` the highest counts; without one it is `INTERNAL`.

    Raises:
        InputError: `data-label`; a level that there is not, or one text in the place of labels.

    Example:
        >>> sensitivity_of(["study-7", "sensitivity:confidential"]).name
        'CONFIDENTIAL'
    """
    if isinstance(labels, str):  # its letters would be labels, none of which says anything
        raise InputError(
            "one text is no collection of labels",
            code="data-label",
            got=labels[:80],
            expected="a tuple or list of texts",
            fix=f"write ({labels[:80]!r},)",
        )
    found = [x.strip()[len(LABEL) :] for x in labels if x.strip().casefold().startswith(LABEL)]
    levels = {level.name.lower(): level for level in Sensitivity}
    for name in found:
        if name not in levels:
            raise InputError(
                "a label names a sensitivity that there is not",
                code="data-label",
                got=f"{LABEL}{name}"[:80],
                expected=", ".join(LABEL + known for known in levels),
                fix="mend the label of the job",
            )
    return max((levels[name] for name in found), default=Sensitivity.INTERNAL)


def amplitudes_of_job(values: Any, order: Order, labels: Iterable[str]) -> Amplitudes:
    """Return amplitudes that are as sensitive as the labels of their job say.

    Raises:
        InputError: `data-invalid`, `data-label`.
    """
    return Amplitudes(values, order, sensitivity_of(labels))


def check_clearance(sensitivity: Sensitivity, clearance: Sensitivity) -> None:
    """Refuse to hand amplitudes to a reader who may not see them.

    Raises:
        DeniedError: `data-clearance`.
    """
    clearance = _level(clearance)
    if clearance < sensitivity:
        raise DeniedError(
            "amplitudes may not leave with this clearance",
            code="data-clearance",
            got=clearance.name,
            expected=f"at least {sensitivity.name}",
            fix="export probabilities_of(state) instead, or ask for a clearance",
        )


def export_amplitudes(value: Amplitudes, clearance: Sensitivity) -> NDArray[np.complex128]:
    """Hand out the numbers of a state to a reader with a clearance.

    Raises:
        DeniedError: `data-clearance`; the state is more sensitive than the reader may see.
    """
    check_clearance(value.sensitivity, clearance)
    return value._held.copy()
