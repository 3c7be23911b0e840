"""A parametrised circuit on a guarded device as a torch layer, with parameter-shift gradients.

The forward pass and its shifted copies are one job on the guarded path, so an answer and its
gradient share one receipt: both are released, or neither is. Mitarai et al., Phys. Rev. A 98,
032309 (2018); Schuld et al., Phys. Rev. A 99, 032331 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from interlock.errors import InputError
from interlock.guard.hooks import guard
from interlock.training.layers import FellBack, GuardedLayer

__all__ = ["TWO_TERMS", "CircuitLayer", "Evaluate", "Rule", "guarded_circuit", "shifted"]

Rows = npt.NDArray[np.float64]
#: Rows of angles, (rows, inputs + weights), to expectation values, (rows, outputs).
Evaluate = Callable[[Rows], Rows]

#: (shift, weight) terms: the derivative is the weighted sum of the shifted values.
Rule = tuple[tuple[float, float], ...]
TWO_TERMS: Rule = ((math.pi / 2, 0.5), (-math.pi / 2, -0.5))

#: Gates exp(-i t G / 2) whose G has two eigenvalues 1 apart in t: shifts of pi/2 are exact.
_SHIFT_GATES = frozenset({"rx", "ry", "rz", "p", "rxx", "ryy", "rzz", "rzx"})


class CircuitLayer(nn.Module):
    """Rows of inputs to expectation values; gradients of inputs and weights by parameter shift.

    Args:
        evaluate: computes rows of angles, the inputs first, then the weights. It raises
            `FellBack` when something else than the circuit answered.
        num_inputs: features of a row.
        weights: the first angles, shape (number of weights,).

    Example:
        >>> layer = CircuitLayer(lambda a: np.cos(a[:, :1] + a[:, 1:]), 1, torch.tensor([0.5]))
        >>> layer(torch.tensor([[0.25]])).backward()
        >>> round(layer.weights.grad.item(), 4), round(-math.sin(0.75), 4)
        (-0.6816, -0.6816)
    """

    def __init__(self, evaluate: Evaluate, num_inputs: int, weights: Tensor) -> None:
        super().__init__()
        self.evaluate, self.num_inputs = evaluate, num_inputs
        self.weights = nn.Parameter(weights.detach().clone().float())

    def forward(self, features: Tensor) -> Tensor:
        """Return values of shape (..., outputs) for features of shape (..., inputs)."""
        flat = features.reshape(-1, self.num_inputs)
        values = shifted(flat, self.evaluate, weights=self.weights)
        return values.reshape(*features.shape[:-1], -1)


def shifted(
    features: Tensor,
    evaluate: Evaluate,
    rules: Sequence[Rule] | None = None,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the values of rows of angles, with their gradient by parameter shift.

    Args:
        features: angles, shape (rows, inputs).
        evaluate: computes the values.
        rules: of each column; two terms by default. A column with no terms has no gradient.
        weights: angles that all rows share, after the others.
    """
    shared = features.new_zeros(0) if weights is None else weights
    if rules is None:
        rules = [TWO_TERMS] * (features.shape[-1] + len(shared))
    values: Tensor = _Shift.apply(features, shared, evaluate, torch.is_grad_enabled(), rules)
    return values


class _Shift(torch.autograd.Function):
    """All rows of the value and of its derivative in one evaluation."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weights: Tensor,
        evaluate: Evaluate,
        learning: bool,
        rules: Sequence[Rule],
    ) -> Tensor:
        rows = features.detach().double().cpu().numpy()
        shared = np.broadcast_to(weights.detach().double().cpu().numpy(), (len(rows), len(weights)))
        base = np.concatenate([rows, shared], axis=1)
        terms = [
            (column, shift, weight)
            for column, rule in enumerate(rules)
            if learning and ctx.needs_input_grad[column >= rows.shape[1]]
            for shift, weight in rule
        ]
        angles = np.repeat(base[None], 1 + len(terms), axis=0)
        for k, (column, shift, _) in enumerate(terms):
            angles[1 + k, :, column] += shift
        flat = np.asarray(evaluate(angles.reshape(-1, base.shape[1])), dtype=float)
        values = flat.reshape(len(angles), len(rows), -1)
        slopes = np.zeros((base.shape[1], *values.shape[1:]))
        for (column, _, weight), value in zip(terms, values[1:], strict=True):
            slopes[column] += weight * value
        ctx.slopes = torch.as_tensor(slopes, dtype=features.dtype, device=features.device)
        ctx.num_inputs = rows.shape[1]
        return torch.as_tensor(values[0], dtype=features.dtype, device=features.device)

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        by_column = torch.einsum("cbo,bo->bc", ctx.slopes, outer[0])
        inputs, weights = by_column[:, : ctx.num_inputs], by_column[:, ctx.num_inputs :].sum(0)
        needs = ctx.needs_input_grad
        return inputs if needs[0] else None, weights if needs[1] else None, None, None, None


def guarded_circuit(
    estimator: Any,
    circuit: Any,
    observables: Sequence[Any],
    *,
    inputs: Sequence[Any],
    surrogate: nn.Module,
    policy: Mapping[str, Any] | str | Path | None = None,
    home: Path | None = None,
    pipeline: str = "layer",
    seed: int = 0,
    **layer_options: Any,
) -> GuardedLayer:
    """Return a guarded layer of a Qiskit circuit: every batch is a job on the guarded path.

    When the path falls back, the surrogate's values are what the filter sees and the ledger
    records, and the gradient is the surrogate's. A job that is denied or held raises.

    Args:
        estimator: a bare `EstimatorV2`; it is guarded here.
        circuit: parametrised, in the device's own gates; each parameter in one rotation.
        observables: one an output.
        inputs: the parameters that take features, in order; all others are weights.
        surrogate: a classical module of the same shapes, bounded like the observables.
        policy: see `interlock.guard`.
        home: see `interlock.guard`.
        pipeline: see `interlock.guard`.
        seed: of the first weights.
        layer_options: see `GuardedLayer`.

    Raises:
        InputError: parameter shift does not hold for a parameter (`layer-shift`).
    """
    names = list(circuit.parameters)
    trained = [p for p in names if p not in set(inputs)]
    _check(circuit, names)
    order = [names.index(p) for p in [*inputs, *trained]]

    def classical(pubs: list[Any]) -> list[Any]:
        rows = pubs[0].parameter_values.as_array(names).reshape(-1, len(names))
        features = torch.as_tensor(rows[:, order[: len(inputs)]], dtype=torch.float32)
        with torch.no_grad():
            return [surrogate(features).double().cpu().numpy()]

    guarded = guard(estimator, policy=policy, home=home, pipeline=pipeline, fallback=classical)

    def evaluate(angles: Rows) -> Rows:
        values = np.empty_like(angles)
        values[:, order] = angles
        result = guarded.run([(circuit, list(observables), values[:, None, :])]).result()
        receipt = result.metadata["interlock"]
        if receipt["outcome"] == "FALLBACK":
            raise FellBack(str(receipt["rule"]))
        return np.asarray(result[0].data.evs, dtype=float)

    start = torch.randn(len(trained), generator=torch.Generator().manual_seed(seed)) * 0.3
    layer = CircuitLayer(evaluate, len(inputs), start)
    return GuardedLayer(layer, surrogate, home=home, **layer_options)


def _check(circuit: Any, names: Sequence[Any]) -> None:
    """Refuse parameters for which a shift of pi/2 is not the derivative."""
    uses = dict.fromkeys(names, 0)
    for item in circuit.data:
        for angle in item.operation.params:
            for parameter in getattr(angle, "parameters", ()):
                uses[parameter] += 1
                slope = angle.gradient(parameter)
                plain = isinstance(slope, int | float) and abs(slope) == 1
                if item.operation.name not in _SHIFT_GATES or not plain:
                    raise _no_shift(f"{parameter.name} in {item.operation.name}({angle})")
    for parameter, count in uses.items():
        if count != 1:
            raise _no_shift(f"{parameter.name} in {count} gates")


def _no_shift(got: str) -> InputError:
    return InputError(
        "the derivative of a parameter is no shift of pi/2",
        code="layer-shift",
        got=got,
        expected="each parameter once, with factor 1 or -1, in one of: "
        + ", ".join(sorted(_SHIFT_GATES)),
        fix="give every rotation a parameter of its own and transpile to the device's gates",
    )
