"""Guarded PennyLane devices: QNodes, gradients and `TorchLayer` work as before.

PennyLane's results are numbers and tensors with no place for a label, so the receipts are with the
device: `qnode.device.receipts[-1]`.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.tape import QuantumScript

from interlock.circuits.faces import of_sdk
from interlock.circuits.pennylane_adapter import Tape
from interlock.circuits.pennylane_settle import settled
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks import Options
from interlock.guard.hooks.common import (
    Guarded,
    Receipts,
    answered,
    baseline,
    classical,
    decoder,
    hold_amplitudes,
    on_record,
    receipt_of,
    unknown_object,
    wrong_result,
)
from interlock.guard.hooks.pennylane_results import bases, bounds, finite, item, plain, to_native
from interlock.guard.hooks.reseed import repeatable
from interlock.guard.result import Result

__all__ = ["GuardedDevice", "wrap"]


def wrap(target: Any, options: Options) -> Any:
    """Return a guarded device, or a QNode or `TorchLayer` on a guarded device.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(target, Device):
        return GuardedDevice(target, options)
    if isinstance(target, qml.QNode):
        return target.update(device=GuardedDevice(target.device, options))
    if isinstance(getattr(target, "qnode", None), qml.QNode):
        made = copy.copy(target)  # with the parameters of the layer itself
        made.qnode = wrap(target.qnode, options)
        return made
    raise unknown_object(target, "a device, a QNode or a TorchLayer of PennyLane")


@dataclass(frozen=True, slots=True)
class _Call:
    """What the device was asked for.

    Attributes:
        method: of the device; each gives the results, with derivatives besides where it says so.
        arguments: besides the circuits and the configuration.
        config: the execution configuration.
        needs_graph: whether the results must carry a gradient graph (backpropagation).
        grad_enabled: whether torch records a graph where the call came from.
    """

    method: str
    arguments: tuple[Any, ...]
    config: Any
    needs_graph: bool = False
    grad_enabled: bool = True

    def on(self, device: Any, tapes: Sequence[Any]) -> Any:
        return getattr(device, self.method)(tuple(tapes), *self.arguments, self.config)

    def results(self, native: Any) -> Any:
        return native if self.method == "execute" else native[0]


class GuardedDevice(Guarded, Device):
    """A device whose every execution goes the guarded path: a batch of tapes is one job.

    Attributes:
        receipts: of the newest jobs, with a count of their outcomes and a `label`.
    """

    def __init__(self, inner: Any, options: Options) -> None:
        super().__init__(inner, options)
        self.receipts = Receipts()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "_inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        # such as `simulate` of lightning
        raise AttributeError(f"{name!r} would go round the guard: use a QNode, or execute")

    def __repr__(self) -> str:
        return f"<guarded {self._inner!r}>"

    name = property(lambda self: self._inner.name)
    wires = property(lambda self: self._inner.wires)
    shots = property(lambda self: self._inner.shots)
    capabilities = property(lambda self: self._inner.capabilities)
    tracker = property(
        lambda self: self._inner.tracker,
        lambda self, tracker: setattr(self._inner, "tracker", tracker),
    )
    _debugger = property(
        lambda self: self._inner._debugger,
        lambda self, debugger: setattr(self._inner, "_debugger", debugger),
    )

    def setup_execution_config(self, config: Any = None, circuit: Any = None) -> Any:
        """Return the device's own configuration."""
        return self._inner.setup_execution_config(config, circuit)

    def preprocess_transforms(self, execution_config: Any = None) -> Any:
        """Return the device's own transforms."""
        return self._inner.preprocess_transforms(execution_config)

    def supports_derivatives(self, execution_config: Any = None, circuit: Any = None) -> bool:
        """Whether the device computes derivatives itself."""
        return bool(self._inner.supports_derivatives(execution_config, circuit))

    def supports_jvp(self, execution_config: Any = None, circuit: Any = None) -> bool:
        """Whether the device computes Jacobian-vector products itself."""
        return bool(self._inner.supports_jvp(execution_config, circuit))

    def supports_vjp(self, execution_config: Any = None, circuit: Any = None) -> bool:
        """Whether the device computes vector-Jacobian products itself."""
        return bool(self._inner.supports_vjp(execution_config, circuit))

    def execute(self, circuits: Any, execution_config: Any = None) -> Any:
        """Execute tapes as one job; see `Device.execute`.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        return self._call("execute", circuits, (), execution_config)

    def compute_derivatives(self, circuits: Any, execution_config: Any = None) -> Any:
        """Compute Jacobians as one job; the values they are of are what is recorded."""
        return self.execute_and_compute_derivatives(circuits, execution_config)[1]

    def execute_and_compute_derivatives(self, circuits: Any, execution_config: Any = None) -> Any:
        """Execute tapes and compute their Jacobians as one job."""
        return self._call("execute_and_compute_derivatives", circuits, (), execution_config)

    def compute_jvp(self, circuits: Any, tangents: Any, execution_config: Any = None) -> Any:
        """Compute Jacobian-vector products as one job."""
        return self.execute_and_compute_jvp(circuits, tangents, execution_config)[1]

    def execute_and_compute_jvp(
        self, circuits: Any, tangents: Any, execution_config: Any = None
    ) -> Any:
        """Execute tapes and compute Jacobian-vector products as one job."""
        return self._call("execute_and_compute_jvp", circuits, (tangents,), execution_config)

    def compute_vjp(self, circuits: Any, cotangents: Any, execution_config: Any = None) -> Any:
        """Compute vector-Jacobian products as one job."""
        return self.execute_and_compute_vjp(circuits, cotangents, execution_config)[1]

    def execute_and_compute_vjp(
        self, circuits: Any, cotangents: Any, execution_config: Any = None
    ) -> Any:
        """Execute tapes and compute vector-Jacobian products as one job."""
        return self._call("execute_and_compute_vjp", circuits, (cotangents,), execution_config)

    @on_record("sample")
    def _call(self, method: str, circuits: Any, arguments: tuple[Any, ...], config: Any) -> Any:
        config = config or ExecutionConfig()
        if isinstance(circuits, QuantumScript):
            # The derivatives' arguments are of this one tape, as the results are.
            single = tuple((argument,) for argument in arguments)
            native = self._call(method, (circuits,), single, config)
            return native[0] if method == "execute" else tuple(part[0] for part in native)
        tapes = [tape.copy() for tape in circuits]
        _no_snapshots(self._inner, tapes)
        if not tapes:
            return _Call(method, arguments, config).on(self._inner, tapes)
        graph, enabled = _graph(tapes, config)
        taken = [
            settled(
                tape,
                self._inner.wires,
                graph=graph,
                derivatives=method != "execute",
                keep=_plugin(self._inner),
            )
            for tape in tapes
        ]  # what is checked is what runs
        kinds = ["sample" if reading.samples else "estimate" for _, reading in taken]
        call = _Call(method, arguments, config, graph, enabled)
        if len(set(kinds)) == 1:
            return self._submit(kinds[0], taken, call)
        return self._by_kind(kinds, taken, call)

    def _by_kind(self, kinds: list[str], taken: list[tuple[Any, Tape]], call: _Call) -> Any:
        """Run a batch of samples and estimates as two jobs."""
        found: dict[int, Any] = {}
        for kind in dict.fromkeys(kinds):
            which = [i for i, k in enumerate(kinds) if k == kind]
            part = tuple(tuple(a[i] for i in which) for a in call.arguments)
            native = self._submit(kind, [taken[i] for i in which], replace(call, arguments=part))
            rows = native if call.method == "execute" else zip(*native, strict=True)
            found |= dict(zip(which, rows, strict=True))
        ordered = tuple(found[i] for i in range(len(taken)))
        return ordered if call.method == "execute" else tuple(zip(*ordered, strict=True))

    def _submit(self, kind: str, taken: list[tuple[Any, Tape]], call: _Call) -> Any:
        options, inner = self.interlock, self._inner
        tapes, readings = [tape for tape, _ in taken], [reading for _, reading in taken]
        programs = [_program(r, t) for r, t in zip(readings, tapes, strict=True)]
        fallback = options.fallback
        if fallback is not None:
            classical(fallback, "execute")
        if kind == "estimate" and getattr(options.guard, "remote", False):
            raise InputError(
                "a gateway gives counts to PennyLane, and nothing else",
                code="circuit-unsupported",
                got=", ".join(str(m) for m in tapes[0].measurements)[:120],
                expected="qml.counts, qml.sample or qml.probs with shots",
                fix="guard the device in this process, or send counts",
            )

        hold_amplitudes(options, [m for t in tapes for m in t.measurements])

        def run() -> Result:
            with _grad_mode(call.grad_enabled):
                return _neutral(lambda: call.on(inner, tapes), call, tapes, readings)

        def compute() -> Result:
            with _grad_mode(call.grad_enabled):
                return _baseline(fallback, call, tapes, readings)

        backend = getattr(inner, "interlock_wrapped", inner)
        released = options.guard.submit(
            programs,
            kind=kind,
            backend_name=str(inner.name),
            backend=backend,
            execute=run,
            baseline=None if fallback is None else baseline(fallback, compute),
            decode=decoder(options, lambda native: plain(call.results(native))),
            labels=options.labels,
        )
        self.receipts.add(receipt_of(released))
        native = released.result.native
        if isinstance(native, dict):
            wrong = InputError(
                "a rule that fixes the output cannot give PennyLane a number back",
                code="result-format",
                got=f"fixed fields {sorted(native)}",
                expected="rules that fall back or deny",
                fix="set on_fail: fallback in filter.constraints for this device",
            )
            wrong.receipt = released.receipt
            raise wrong
        return to_native(released.result, tapes) if native is None else native


def _plugin(device: Any) -> str:
    """Return the package of a device plugin, which knows operations of its own by their class."""
    kind = device.__class__
    root = str(kind.__module__).partition(".")[0]
    return root if root.startswith("pennylane_") and of_sdk(kind, root) else ""


def _no_snapshots(device: Any, tapes: Sequence[Any]) -> None:
    """Refuse snapshots that a debugger takes: states that would come past the path."""
    active = getattr(getattr(device, "_debugger", None), "active", False)
    if active and any(isinstance(op, qml.Snapshot) for t in tapes for op in t.operations):
        raise InputError(
            "a snapshot hands out values that nothing has checked",
            code="circuit-unsupported",
            got="qml.snapshots of a circuit with qml.Snapshot",
            expected="values that the circuit measures",
            fix="measure what you need, or take snapshots on a simulator that is not guarded",
        )


def _program(reading: Tape, tape: Any) -> Program:
    shots = int(tape.shots.total_shots or 0)
    estimate = not reading.samples
    return Program(
        circuit=reading.circuit,
        native=tape,
        parameters=reading.parameters,
        values=reading.values,
        shots=shots,
        observables=tuple(str(m)[:200] for m in tape.measurements) if estimate else (),
        bounds=bounds(tape) if estimate else (),
        executions=bases(tape) * max(len(reading.values), 1) if shots and estimate else None,
    )


def _graph(tapes: Sequence[Any], config: Any) -> tuple[bool, bool]:
    """Return whether the results must carry a graph, and whether torch records one here."""
    torch = sys.modules.get("torch")
    enabled = bool(torch.is_grad_enabled()) if torch is not None else True
    if config.gradient_method != "backprop":
        return False, enabled
    wanted = any(
        qml.math.requires_grad(p) for t in tapes for p in t.get_parameters(trainable_only=False)
    )
    return wanted and (enabled or str(config.interface) != "Interface.TORCH"), enabled


def _grad_mode(enabled: bool) -> Any:
    """Return a context with the caller's gradient mode, which belongs to the caller's thread."""
    from contextlib import nullcontext

    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.set_grad_enabled(enabled)


def _neutral(
    compute: Callable[[], Any], call: _Call, tapes: Sequence[Any], readings: Sequence[Tape]
) -> Result:
    started = time.perf_counter()
    native = compute()
    seconds = time.perf_counter() - started
    try:
        if not call.needs_graph:  # what the device does to its arrays later is lost
            native = copy.deepcopy(native)
        if call.method != "execute":
            values, derivatives = native
            finite(derivatives)
            native = values, derivatives
        results = call.results(native)
        items = tuple(item(r, t, k) for r, t, k in zip(results, tapes, readings, strict=True))
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise wrong_result(native, error) from error
    exact = all(not t.shots for t in tapes)
    extra = {"exact": True, "derivatives": call.method} if exact else {"derivatives": call.method}
    if call.method == "execute":
        extra.pop("derivatives")
    return Result(items=items, native=native, seconds=seconds, extra=extra)


def _baseline(fallback: Any, call: _Call, tapes: Sequence[Any], readings: Sequence[Tape]) -> Result:
    """Compute the classical answer: from a noiseless device, or from a function.

    A function gets the list of tapes and answers each as a device would: a number, an array or a
    tuple with one for each measurement.
    """
    if hasattr(fallback, "execute"):
        return _neutral(lambda: _prepared(repeatable(fallback), call, tapes), call, tapes, readings)
    if call.method != "execute":
        raise _no_gradient(fallback, call.method)
    seconds: list[float] = []
    native = answered(fallback, tapes, tuple, seconds)
    values = [v for result in native for v in (result if isinstance(result, tuple) else (result,))]
    if call.needs_graph and not all(qml.math.requires_grad(v) for v in values):
        raise _no_gradient(fallback, "backprop")
    return _neutral(lambda: native, call, tapes, readings)


def _no_gradient(fallback: Any, method: str) -> InputError:
    return InputError(
        "the fallback has values and no gradients",
        code="fallback-no-gradient",
        got=f"{getattr(fallback, '__name__', type(fallback).__name__)} for {method}",
        expected="a device without noise, or diff_method='parameter-shift'",
        fix="pass qml.device('default.qubit', wires=...) as the fallback",
    )


def _prepared(device: Any, call: _Call, tapes: Sequence[Any]) -> Any:
    """Run tapes that were prepared for another device."""
    if call.method != "execute":
        return call.on(device, tapes)
    config = call.config if call.config.gradient_method == "backprop" else ExecutionConfig()
    made, finish = device.preprocess_transforms(config)(tuple(tapes))
    return tuple(finish(device.execute(made, config)))
