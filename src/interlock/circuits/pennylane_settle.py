"""A PennyLane tape in which nothing is computed when it is read.

A custom operation answers each time it is asked, and may answer another way when it runs. A settled
tape has in its place operations of PennyLane's own that do what was read of it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from interlock.circuits.faces import disagree, of_sdk, patched
from interlock.circuits.pennylane_adapter import Tape, read, sdk
from interlock.circuits.pennylane_faces import custom, plain_value, refuse_patched

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

__all__ = ["settled"]

_CLOSE = 1e-6


def settled(
    tape: QuantumScript,
    wires: Sequence[Any] | None = None,
    *,
    graph: bool = False,
    derivatives: bool = False,
    keep: str = "",
) -> tuple[QuantumScript, Tape]:
    """Return a tape that is the same whenever it is read, with what `read` gives for it.

    Args:
        tape: of PennyLane's own class.
        wires: as for `read`.
        graph: whether the results must carry a gradient graph (backpropagation).
        derivatives: whether the device computes derivatives by the tape's trainable parameters.
        keep: as for `read`.

    Raises:
        InputError: those of `read`; `circuit-two-faces` for an observable that is not PennyLane's
            own, and for a custom operation whose derivative is not that of its matrix.

    Example:
        >>> import pennylane as qml
        >>> class Flip(qml.operation.Operation):
        ...     num_wires = 1
        ...     @staticmethod
        ...     def compute_decomposition(wires):
        ...         return [qml.X(wires)]
        >>> settled(qml.tape.QuantumScript([Flip(0)]))[0].operations
        [X(0)]
    """
    reading = read(tape, wires, graph=graph, keep=keep)
    for process in tape.measurements:
        _measurement(process)
    if not reading.fixed:
        return tape, reading
    operations: list[Any] = []
    trainable = set(tape.trainable_params)
    learnt: list[int] = []
    before = after = 0
    for place, op in enumerate(tape.operations):
        learns = [before + i in trainable for i in range(len(op.data))]
        before += len(learns)
        made = reading.fixed.get(place)
        if made is None:
            made = [op]
        elif derivatives and any(learns):
            made = [_rotation(op, made)]
        else:
            learns = [False] * sum(len(part.data) for part in made)
        learnt += [after + i for i, learn in enumerate(learns) if learn]
        after += len(learns)
        operations += made
    learnt += [i - before + after for i in sorted(trainable) if i >= before]
    return tape.copy(operations=operations, trainable_params=learnt), reading


def _measurement(process: Any) -> None:
    """Refuse an observable of the user's: it tells the device gates that nothing has read."""
    owner = next(c for c in type(process).__mro__ if "diagonalizing_gates" in vars(c))
    if not of_sdk(owner, "pennylane") or patched(process, ("diagonalizing_gates",)):
        raise disagree(type(process).__name__, "a measurement with gates of its own")
    things = [] if process.obs is None else [process.obs]
    while things:
        observable = things.pop()
        refuse_patched(observable)
        if custom(observable):
            raise disagree(observable.name, "an observable that is no class of PennyLane's")
        for value in observable.data:
            plain_value(observable.name, value)
        base = getattr(observable, "base", None)
        things += [*getattr(observable, "operands", ()), *(() if base is None else (base,))]


def _rotation(op: Any, made: list[Any]) -> Any:
    """Return a rotation with the matrix that was read, and the generator that this is of."""
    qml = sdk()
    (angle, *more) = [qml.math.toarray(qml.math.detach(p)) for p in op.data]
    if more or np.ndim(angle) or [type(part) for part in made] != [qml.QubitUnitary]:
        raise disagree(op.name, "a trainable gate that is no rotation by one angle")
    (fixed,) = made
    matrix = np.asarray(qml.math.toarray(fixed.data[0]))
    try:
        told = qml.generator(op, format="observable")
        slope = np.array(qml.math.toarray(qml.matrix(told, wire_order=fixed.wires)), complex)
        values, vectors = np.linalg.eigh(slope)
        turned = (vectors * np.exp(1j * float(angle) * values)) @ vectors.conj().T
        overlap = np.vdot(turned, matrix) / len(matrix)
        same = np.allclose(slope, slope.conj().T) and np.allclose(
            matrix, overlap * turned, rtol=0, atol=_CLOSE
        )
    except Exception as error:
        raise disagree(op.name, f"{type(error).__name__}: {error}") from error
    if not same:
        raise disagree(op.name, "a generator that is not its matrix's")
    return _fixed_rotation()(float(angle), matrix, slope, fixed.wires)


@cache
def _fixed_rotation() -> Any:
    import pennylane as qml

    class FixedRotation(qml.operation.Operation):  # type: ignore[misc]
        """A rotation at one angle, by its matrix and its generator."""

        num_params = 1
        ndim_params = (0,)
        grad_method = "A"

        def __init__(self, angle: float, matrix: Any, slope: Any, wires: Any) -> None:
            self._hyperparameters = {"matrix": matrix, "slope": slope}
            super().__init__(angle, wires=wires)

        @staticmethod
        def compute_matrix(_angle: Any, *, matrix: Any, slope: Any) -> Any:  # noqa: ARG004
            return matrix

        def generator(self) -> Any:
            return qml.Hermitian(self.hyperparameters["slope"], wires=self.wires)

    return FixedRotation
