"""A torch layer whose circuit runs on a device of any SDK, with gradients by parameter shift.

Each angle that depends on a parameter is shifted by itself and the chain rule does the rest, so a
parameter may stand in several gates and in any expression. The rules are exact: two terms for
gates with one frequency (Schuld et al., Phys. Rev. A 99, 032331 (2019)), four for controlled
rotations (Anselmetti et al., New J. Phys. 23, 113010 (2021)).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.convert import canonical
from interlock.circuits.expression import Param, normalise, split, symbols
from interlock.errors import InputError
from interlock.guard.hooks import Options, adapter_for
from interlock.guard.hooks.common import Receipts, unknown_object
from interlock.training.circuit import TWO_TERMS, Rule, shifted
from interlock.training.expectations import Terms, expectations, parse_observable

__all__ = ["DeviceLayer", "wrap"]

#: Gates with one frequency in each of their angles (of `r` and `xx_...` in the first only).
_TWO = {"rx", "ry", "rz", "p", "u1", "u2", "u3", "U", "rxx", "ryy", "rzz", "rzx", "cp", "r"}
#: Gates with the frequencies 1/2 and 1.
_FOUR = {"crx", "cry", "crz", "xx_plus_yy", "xx_minus_yy"}
_FIRST_ONLY = {"r", "xx_plus_yy", "xx_minus_yy"}
_NEAR, _FAR = (math.sqrt(2) + 1) / math.sqrt(32), (math.sqrt(2) - 1) / math.sqrt(32)
_FOUR_TERMS: Rule = (
    (math.pi / 2, _NEAR), (-math.pi / 2, -_NEAR), (3 * math.pi / 2, -_FAR),
    (-3 * math.pi / 2, _FAR),
)  # fmt: skip


class DeviceLayer(nn.Module):
    """Expectation values of a circuit that a device runs.

    A forward pass is one job: the rows, and while gradients are recorded their shifted copies too,
    so that an answer and its gradient share one receipt.
    `interlock.guard(layer, policy=..., fallback=...)` returns the layer, with the same weights, on
    a guarded device; the fallback is one of that device's SDK, and gradients go through it.

    Args:
        circuit: a template without measurements, of Qiskit, Cirq, PennyLane or Braket, or in
            canonical form.
        device: a Qiskit estimator, a Cirq sampler, a PennyLane device or a Braket device.
        observables: Pauli products such as `"Z0"` or `"X0 Y2"`; Z of every qubit by default.
        inputs: names of the parameters that are features, in order; all others are weights.
        shots: for each row and observable group; 0 for exact values (Qiskit: the estimator's own
            precision), which a Cirq sampler does not give.
        seed: of the first weights.

    Attributes:
        weights: the trained parameters, in the order of `names`.
        receipts: of the newest guarded jobs, with a `label`: quantum, mixed or fallback.

    Raises:
        InputError: `layer-circuit` for a measured circuit or an unknown name, `layer-no-shift` for
            a gate whose angle has no shift rule.

    Example:
        >>> from qiskit.primitives import StatevectorEstimator
        >>> from interlock.circuits.canonical import Circuit, Operation
        >>> turn = Circuit(num_qubits=1, operations=(Operation("ry", ("x",), (0,)),))
        >>> layer = DeviceLayer(turn, StatevectorEstimator(), inputs=("x",))
        >>> x = torch.tensor([[0.5]], requires_grad=True)
        >>> layer(x).backward()
        >>> round(float(x.grad + torch.sin(torch.tensor(0.5))), 6)
        0.0
    """

    def __init__(
        self,
        circuit: Any,
        device: Any,
        *,
        observables: Sequence[str] | None = None,
        inputs: Sequence[str] = (),
        shots: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        source = canonical(circuit)
        unknown = sorted(set(inputs) - set(source.parameters))
        if unknown or source.num_clbits:
            raise InputError(
                "this circuit makes no layer",
                code="layer-circuit",
                got=f"no parameter {', '.join(unknown)}" if unknown else "a measured circuit",
                expected=f"parameters among {', '.join(source.parameters)}, and no measurement",
                fix="name the circuit's parameters; the layer measures by itself",
            )
        self.device, self.shots = device, shots
        self.inputs = tuple(inputs)
        self.names = tuple(n for n in source.parameters if n not in self.inputs)
        labels = observables or [f"Z{q}" for q in range(source.num_qubits)]
        self.observables: tuple[Terms, ...] = tuple(
            parse_observable(o, source.num_qubits) for o in labels
        )
        self.template, self._angles, self._rules = _unrolled(source)
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.randn(len(self.names), generator=generator) * 0.3)
        self.receipts = Receipts()

    def extra_repr(self) -> str:
        """Say what it has."""
        return f"inputs={self.inputs}, weights={self.names}, device={type(self.device).__name__}"

    def forward(self, features: Tensor | None = None) -> Tensor:
        """Return the expectation values, shape (..., observables), of features (..., inputs).

        Without inputs it takes nothing and returns one row.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        if features is None:
            features = self.weights.new_zeros(0)
        if features.shape[-1] != len(self.inputs):
            raise ValueError(f"{features.shape[-1]} features for {len(self.inputs)} inputs")
        rows = features.reshape(-1, len(self.inputs)) if self.inputs else features.reshape(1, 0)
        values = {n: rows[:, i].double() for i, n in enumerate(self.inputs)}
        count = len(rows)
        values |= {
            n: w.double().expand(count) for n, w in zip(self.names, self.weights, strict=True)
        }
        columns = [_evaluated(text, values) for text in self._angles]
        angles = torch.stack(columns, -1) if columns else rows.new_zeros(count, 0).double()
        # An angle of which nothing is learned is not shifted.
        rules = [r if c.requires_grad else () for r, c in zip(self._rules, columns, strict=True)]
        found = shifted(angles, self.run, rules)
        found = found.to(self.weights.dtype).to(self.weights.device)
        return found.reshape(*features.shape[:-1], len(self.observables))

    def run(self, angles: Any) -> Any:
        """Return the expectation values, (rows, observables), of angles, (rows, angles)."""
        names = [f"a{i}" for i in range(len(self._angles))]
        values, receipts = expectations(
            self.device, self.template, names, angles, self.observables, self.shots
        )
        for receipt in receipts:
            self.receipts.add(receipt)
        return values


def _unrolled(circuit: Circuit) -> tuple[Circuit, tuple[str, ...], tuple[Rule, ...]]:
    """Return the circuit with a parameter of its own for each angle, their expressions, rules."""
    angles: list[str] = []
    rules: list[Rule] = []
    operations = []
    for op in circuit.operations:
        params: list[Param] = []
        for place, param in enumerate(op.params):
            if not isinstance(param, str) or not symbols(param):
                params.append(param)
                continue
            four = op.name in _FOUR
            if (op.name not in _TWO and not four) or (place and op.name in _FIRST_ONLY):
                raise InputError(
                    "an angle of this gate has no shift rule",
                    code="layer-no-shift",
                    got=str(op),
                    expected="a free parameter in one of " + ", ".join(sorted(_TWO | _FOUR)),
                    fix="write the gate out in rotations",
                )
            params.append(f"a{len(angles)}")
            angles.append(param)
            rules.append(_FOUR_TERMS if four else TWO_TERMS)
        operations.append(Operation(op.name, tuple(params), op.qubits, op.clbits, op.control))
    template = msgspec.structs.replace(circuit, operations=tuple(operations), global_phase=0.0)
    return template, tuple(angles), tuple(rules)


_TORCH: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos,
    "atan": torch.atan, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "abs": torch.abs,
    "sign": torch.sign,
}  # fmt: skip


def _evaluated(text: Param, values: Mapping[str, Tensor]) -> Tensor:
    """Return the value of an expression for each row, with its gradient."""
    if not isinstance(text, str):
        return torch.tensor(text, dtype=torch.float64)
    total: Tensor | float = 0.0
    for coefficient, factors in split(text):
        term: Tensor | float = coefficient
        for (kind, *rest), power in factors:
            if kind == "symbol":
                atom = values[rest[0]]
            elif kind == "pow":
                atom = _evaluated(normalise(rest[0]), values) ** _evaluated(
                    normalise(rest[1]), values
                )
            else:
                atom = _TORCH[kind](_evaluated(normalise(rest[0]), values))
            term = term * (atom if power == 1 else atom**power)
        total = total + term
    return torch.as_tensor(total)


def wrap(target: Any, options: Options) -> Any:
    """Return a `DeviceLayer` with the same weights on a guarded device.

    Raises:
        InputError: it is another module.
    """
    if not isinstance(target, DeviceLayer):
        raise unknown_object(target, "a DeviceLayer; of another module, the device it runs on")
    made = copy.copy(target)
    made.device = adapter_for(target.device).wrap(target.device, options)
    made.receipts = Receipts()
    return made
