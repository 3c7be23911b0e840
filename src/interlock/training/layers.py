"""A quantum layer in a larger torch model, and the guard around it.

`QuantumLayer` is a batched statevector in torch, exact or with shots, so that it trains anywhere.
`interlock.training.circuit` runs a circuit on a guarded device instead. `GuardedLayer` holds what
either puts out to the filter's rules in training and inference alike, and puts a classical
surrogate in its place, counted and labelled, when it breaks one.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interlock import config
from interlock.errors import DeniedError, InterlockError
from interlock.guard.filter.rules import Constraint, violations
from interlock.guard.state import STOP_FILE

__all__ = ["FellBack", "GuardedLayer", "QuantumLayer"]


class FellBack(Exception):  # noqa: N818 - not a fault: another answered, and says why
    """Raised by a quantum module when the guarded path let the classical baseline answer.

    Args:
        rule: the rule that kept the quantum answer back.
    """


class QuantumLayer(nn.Module):
    """Angle encoding, `depth` layers of RY and RZ with a ring of CZ, and <Z> of every qubit.

    Args:
        num_qubits: features in and out, at most 12.
        depth: variational layers.
        shots: 0 for exact expectation values; else they are sampled, and the gradient is that of
            the exact ones (straight-through).
        seed: of the first angles and of the sampling.
    """

    def __init__(self, num_qubits: int, depth: int = 2, *, shots: int = 0, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= num_qubits <= 12:
            raise ValueError("1 to 12 qubits")
        self.num_qubits, self.shots = num_qubits, shots
        self._generator = torch.Generator().manual_seed(seed)
        start = torch.randn(depth, num_qubits, 2, generator=self._generator)
        self.angles = nn.Parameter(start * 0.3)
        index = torch.arange(2**num_qubits)
        bits = torch.stack([(index >> (num_qubits - 1 - q)) & 1 for q in range(num_qubits)])
        ring = torch.ones(2**num_qubits)
        for q in range(num_qubits if num_qubits > 2 else num_qubits - 1):
            ring = ring * (1 - 2 * (bits[q] & bits[(q + 1) % num_qubits]))
        self.register_buffer("signs", (1 - 2 * bits).float(), persistent=False)
        self.register_buffer("ring", ring.to(torch.complex64), persistent=False)

    def state(self, features: Tensor) -> Tensor:
        """Return the amplitudes, shape (batch, 2**n), of features of shape (batch, n)."""
        batch, n = features.shape
        state = torch.zeros(batch, 2**n, dtype=torch.complex64, device=features.device)
        state[:, 0] = 1
        for q in range(n):
            state = _ry(state, features[:, q], q, n)
        for layer in self.angles:
            state = state * self.ring
            for q in range(n):
                state = _ry(state, layer[q, 0].expand(batch), q, n)
                phase = torch.exp(-0.5j * layer[q, 1] * self.signs[q])
                state = state * phase
        return state

    def forward(self, features: Tensor) -> Tensor:
        """Return <Z> of every qubit for features of shape (..., n)."""
        flat = features.reshape(-1, self.num_qubits)
        probabilities = self.state(flat).abs().square()
        exact = probabilities @ self.signs.T
        if self.shots:
            with torch.no_grad():
                share = probabilities / probabilities.sum(-1, keepdim=True)
                drawn = torch.multinomial(
                    share.cpu(), self.shots, replacement=True, generator=self._generator
                )
                sampled = self.signs.T[drawn.to(exact.device)].mean(1)
            exact = exact + (sampled - exact).detach()
        return exact.reshape(features.shape)


def _ry(state: Tensor, angle: Tensor, qubit: int, n: int) -> Tensor:
    cos, sin = torch.cos(angle / 2)[:, None, None], torch.sin(angle / 2)[:, None, None]
    view = state.reshape(-1, 2**qubit, 2, 2 ** (n - qubit - 1))
    zero, one = view[:, :, 0], view[:, :, 1]
    return torch.stack((cos * zero - sin * one, sin * zero + cos * one), 2).reshape(state.shape)


class GuardedLayer(nn.Module):
    """Guards a quantum layer: its output obeys the rules, or a surrogate answers instead.

    Every row of every batch is held to `rules` (and must be finite); the rows that break one are
    answered by `surrogate`, with gradients through it, and counted in `reasons`. A layer that
    raises is answered by the surrogate whole, as is one whose job fell back (`FellBack`). What
    the guarded path refuses, or cannot record, stays refused. While the stop is set nothing is
    answered at all.
    The surrogate is held to the same rules and computed twice; if it breaks one too, or answers
    the same rows with other bits, `DeniedError`.

    Args:
        quantum: the layer, for instance a `QuantumLayer` or a `CircuitLayer`.
        surrogate: a classical module of the same shapes.
        rules: constraints on the field `values`, one row at a time.
        home: folder whose stop file stops it; `$INTERLOCK_HOME` or `~/.interlock` by default.
    """

    def __init__(
        self,
        quantum: nn.Module,
        surrogate: nn.Module,
        *,
        rules: tuple[Constraint, ...] = (
            Constraint(id="expectation", field="values", type="number", min=-1.0, max=1.0),
        ),
        home: Path | None = None,
    ) -> None:
        super().__init__()
        self.quantum, self.surrogate = quantum, surrogate
        self.rules, self.home = rules, config.home(home)
        self.rows = 0
        self.reasons: Counter[str] = Counter()

    @property
    def fallback_share(self) -> float:
        """Share of rows the surrogate answered."""
        return sum(self.reasons.values()) / self.rows if self.rows else 0.0

    @property
    def label(self) -> str:
        """`quantum`, `mixed` or `surrogate`: what has answered so far."""
        share = self.fallback_share
        return "quantum" if share == 0 else "surrogate" if share == 1 else "mixed"

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs that obey the rules, of the shape of the surrogate's output."""
        self._go_on()
        answer = self._answer(features)
        self._go_on()  # a device may have taken its time
        return answer

    def _go_on(self) -> None:
        try:
            os.lstat(self.home / STOP_FILE)
        except FileNotFoundError:
            return
        except OSError:
            pass  # one that cannot be looked at stops
        raise DeniedError(
            "everything is stopped",
            code="layer-stopped",
            got="the stop is set",
            expected="no stop in force",
            fix="`interlock resume` lifts the stop",
        )

    def _answer(self, features: Tensor) -> Tensor:
        classical: Tensor = self.surrogate(features)
        rows = classical.reshape(-1, classical.shape[-1])
        self.rows += len(rows)
        try:
            answer = _like(self.quantum(features), classical)
        except InterlockError:
            raise
        except FellBack as error:
            self.reasons[f"fallback: {error}"] += len(rows)
            return self._checked(classical, features, classical)
        except Exception as error:  # noqa: BLE001 - whatever a device raises, the model goes on
            self.reasons[f"raised {type(error).__name__}"] += len(rows)
            return self._checked(classical, features, classical)
        flat = answer.reshape(rows.shape)
        bad = self._bad(flat)
        if not bad:
            return answer
        for rule in bad.values():
            self.reasons[rule] += 1
        index = torch.tensor(sorted(bad), device=flat.device)
        self._checked(rows[index], features, classical)
        good = torch.ones(len(rows), dtype=torch.bool, device=flat.device)
        good[index] = False
        kept = flat[good]
        if "finite" in bad.values() and good.any() and flat.requires_grad:
            # 0 x NaN is NaN: in one graph the bad rows would spoil every gradient.
            kept = _again(self.quantum, features.reshape(len(rows), -1)[good], flat[good])
            if kept is None or self._bad(kept):
                self.reasons["unstable"] += int(good.sum())
                return self._checked(classical, features, classical)
        mixed = torch.empty_like(rows)
        mixed[good] = kept
        mixed[index] = rows[index]
        return mixed.reshape(classical.shape)

    def _bad(self, rows: Tensor) -> dict[int, str]:
        """Return row -> rule broken. The whole batch is tried first, and rows only if it fails."""
        values = rows.detach().cpu()
        if not values.isfinite().all():
            finite = values.isfinite().all(-1)
            bad = {int(i): "finite" for i in (~finite).nonzero().flatten()}
        else:
            bad = {}
        if all(_simple(r) for r in self.rules):
            return _out_of_range(values, self.rules) | bad
        for index, row in enumerate(values.tolist()):
            broken = next((r.id for r in self.rules if violations(r, _fields(row))), None)
            if broken is not None:
                bad.setdefault(index, broken)
        return bad

    def _checked(self, rows: Tensor, features: Tensor, classical: Tensor) -> Tensor:
        with torch.no_grad():
            again = self.surrogate(features)
        if not torch.allclose(again, classical, rtol=0, atol=0, equal_nan=True):
            raise DeniedError(
                "the surrogate is not deterministic",
                code="layer-not-repeatable",
                got="two answers to the same rows, with other bits",
                expected="the same bits each time",
                fix="take the randomness out: surrogate.eval() switches dropout off",
            )
        broken = self._bad(rows.reshape(-1, rows.shape[-1]))
        if broken:
            raise DeniedError(
                "neither the quantum layer nor its surrogate obeys the rules",
                code="layer-denied",
                got=f"{len(broken)} rows break {next(iter(broken.values()))!r}",
                expected="a surrogate whose output obeys the rules",
                fix="bound the surrogate, for instance with tanh",
            )
        return rows


def _like(answer: Any, classical: Tensor) -> Tensor:
    """Return an answer in the type and place of the surrogate's; what is no such answer raises."""
    if not isinstance(answer, Tensor):
        raise TypeError(f"no tensor but {type(answer).__name__}")
    if answer.is_complex() or answer.dtype is torch.bool:
        raise TypeError(f"{answer.dtype}, expected real numbers")
    if answer.shape != classical.shape:
        raise ValueError(f"shape {tuple(answer.shape)}")
    return answer.to(classical)


def _again(quantum: nn.Module, features: Tensor, like: Tensor) -> Tensor | None:
    """Ask for some rows once more; None when this time there is no answer."""
    try:
        return _like(quantum(features), like)
    except InterlockError:
        raise
    except Exception:  # noqa: BLE001 - as the first time: whatever a device raises
        return None


def _fields(row: list[float]) -> Mapping[str, Any]:
    return {"values": [v if math.isfinite(v) else None for v in row]}


def _simple(rule: Constraint) -> bool:
    return (
        rule.field == "values"
        and set(rule.kinds) <= {"type", "min", "max"}
        and (rule.type in (None, "number") and rule.when is None)
    )


def _out_of_range(values: Tensor, rules: tuple[Constraint, ...]) -> dict[int, str]:
    bad: dict[int, str] = {}
    for rule in rules:
        low = -math.inf if rule.min is None else rule.min
        high = math.inf if rule.max is None else rule.max
        # Float32 rounding may carry an expectation value past 1 by some 1e-7.
        over = ~((values >= low - 1e-5) & (values <= high + 1e-5)).all(-1)
        for index in over.nonzero().flatten():
            bad.setdefault(int(index), rule.id)
    return bad
