"""Guarding an unchanged script: SDK classes are wrapped as they are imported.

Every submitting method that a class of samplers, estimators, backends or devices defines goes
through one guard. A contextvar
says "inside the guard", and thread pools carry it along, so that what a primitive itself submits to
its backend is not guarded twice. Below that stand trip wires on the functions that really hand work
to a simulator or a provider: what reaches one from outside the guard went round it, and is recorded
as UNGUARDED.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from interlock.guard import events
from interlock.guard.hooks import uncaught
from interlock.guard.hooks.sdk_classes import is_sdk, is_sdk_object

__all__ = ["BASELINE", "INSIDE", "install"]

#: True while the guard itself is calling the SDK.
INSIDE: contextvars.ContextVar[bool] = contextvars.ContextVar("interlock_inside", default=False)
#: True while a fallback function computes: what is classical submits nothing.
BASELINE: contextvars.ContextVar[bool] = contextvars.ContextVar("interlock_baseline", default=False)
#: True while a class that is not an SDK's own runs a guarded job: what it submits itself is guarded
#: again, as a job of its own.
_NESTED: contextvars.ContextVar[bool] = contextvars.ContextVar("interlock_nested", default=False)
#: True below a trip wire that has reported already.
_REPORTED: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "interlock_reported", default=False
)

#: module -> (class, methods) that submit; the class's subclasses are wrapped as they are defined.
GUARDED: dict[str, tuple[str, tuple[str, ...]]] = {
    "braket.devices.device": ("Device", ("run", "run_batch")),
    "cirq.work.sampler": (
        "Sampler", ("run_sweep", "run_batch", "run_sweep_async", "run_batch_async")),
    "pennylane.devices.device_api": (
        "Device",
        ("execute", "compute_derivatives", "execute_and_compute_derivatives", "compute_jvp",
         "execute_and_compute_jvp", "compute_vjp", "execute_and_compute_vjp")),
    "qiskit.primitives.base.base_sampler": ("BaseSamplerV2", ("run",)),
    "qiskit.primitives.base.base_estimator": ("BaseEstimatorV2", ("run",)),
    "qiskit.providers.backend": ("BackendV2", ("run",)),
}  # fmt: skip

#: module -> (class, method) that hands work to a simulator or a provider; "" for a function.
TRIP_WIRES: dict[str, tuple[tuple[str, str], ...]] = {
    "braket.aws.aws_session": (("AwsSession", "create_quantum_task"),),
    "braket.default_simulator.simulator": (("BaseLocalSimulator", "run"),),
    "cirq.sim.simulator_base": (("SimulatorBase", "_run"),),
    "pennylane.devices._qubit_device": (("QubitDevice", "execute"),),
    "pennylane.devices.qubit.simulate": (("", "simulate"),),
    "pennylane_lightning.lightning_base.lightning_base": (("LightningBase", "simulate"),),
    "qiskit_aer.backends.aerbackend": (
        ("AerBackend", "_run_circuits"),
        ("AerBackend", "_execute_circuits_job"),
    ),
    "qiskit.primitives.statevector_sampler": (("StatevectorSampler", "_run_pub"),),
    "qiskit.primitives.statevector_estimator": (("StatevectorEstimator", "_run_pub"),),
    "qiskit.providers.basic_provider.basic_simulator": (("BasicSimulator", "_run_job"),),
    "qiskit_ibm_runtime.api.rest.runtime": (("Runtime", "program_run"),),
    "http.client": (("HTTPConnection", "putrequest"),),
}

#: Trip wires that stand at a provider: a device class of the user may be the one to reach them.
_REMOTE = frozenset({"create_quantum_task", "program_run", "putrequest"})

#: Hosts of providers whose job submissions are watched, whatever library sends them.
PROVIDER_HOSTS = (
    "quantum.ibm.com", "quantum-computing.ibm.com", "quantum.cloud.ibm.com", "ionq.co",
    "quantinuum.com", "quantum.azure.com", "cloud.dwavesys.com", "rigetti.com", "pasqal.cloud",
    "pasqal.com", "iqm.fi", "resonance.meetiqm.com", "xanadu.ai", "quandela.com",
    "oxfordquantumcircuits.com", "quera.com",
)  # fmt: skip
_JOB_PATHS = ("/jobs", "/quantum-task", "/tasks", "/programs", "/problems", "/sessions")

_lock = threading.Lock()


def _renew() -> None:
    """Give a forked child a lock that nobody holds."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)


def install() -> None:
    """Guard the SDKs as they are imported; called once at start-up by `interlock run`."""
    names = set(GUARDED) | set(TRIP_WIRES)
    sys.meta_path.insert(0, _Finder(names))
    for name in names & set(sys.modules):
        _patch(sys.modules[name])
    _carry_context_into_pools()
    uncaught.install()
    if os.environ.get(events.EVENTS):
        with contextlib.suppress(OSError):
            announce(os.environ[events.EVENTS])


def announce(path: str) -> None:
    """Say that the guard is loaded, without loading the guard."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, b'{"event":"loaded"}\n')
    finally:
        os.close(fd)


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the normal import happen, then patches the module."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self._busy = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names or getattr(self._busy, "name", None) == name:
            return None
        self._busy.name = name
        try:
            spec: importlib.machinery.ModuleSpec | None = importlib.util.find_spec(name)
        finally:
            self._busy.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._inner.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        _patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _patch(module: ModuleType) -> None:
    name = module.__name__
    if name in GUARDED:
        cls_name, methods = GUARDED[name]
        _wrap_subclasses(getattr(module, cls_name), methods)
    for cls_name, method in TRIP_WIRES.get(name, ()):
        owner = getattr(module, cls_name, None) if cls_name else module
        if owner is not None and hasattr(owner, method):
            _trip_wire(owner, method)


def _wrap_subclasses(base: type, methods: Sequence[str]) -> None:
    """Wrap the methods in every subclass that defines them, present and future."""
    own = base.__dict__.get("__init_subclass__")

    def init_subclass(cls: Any, /, **options: Any) -> None:
        if own is not None:
            own.__func__(cls, **options)
        else:
            super(base, cls).__init_subclass__(**options)  # type: ignore[arg-type]
        for method in methods:
            _wrap_method(cls, method)

    setattr(base, "__init_subclass__", classmethod(init_subclass))  # noqa: B010 - mypy
    pending: list[type] = list(base.__subclasses__())
    while pending:
        cls = pending.pop()
        for method in methods:
            _wrap_method(cls, method)
        pending += cls.__subclasses__()


def _wrap_method(cls: type, method: str) -> None:
    original = cls.__dict__.get(method)
    if original is None or getattr(cls, "interlock_guarded", False):
        return
    if getattr(original, "interlock_wrapper", False) or not callable(original):
        return

    @functools.wraps(original)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        if INSIDE.get():
            with _inside(self, cls):
                return original(self, *args, **options)
        _refuse_in_baseline(f"{cls.__qualname__}.{method}")
        return getattr(_guarded(self, method, original, cls), method)(*args, **options)

    if inspect.iscoroutinefunction(original):
        # The drop-in's own coroutine may need the SDK's event loop; its plain method needs none.
        plain = method.removesuffix("_async")

        @functools.wraps(original)
        async def run(self: Any, *args: Any, **options: Any) -> Any:
            if INSIDE.get():
                with _inside(self, cls):
                    return await original(self, *args, **options)
            _refuse_in_baseline(f"{cls.__qualname__}.{method}")
            made = _guarded(self, plain, getattr(cls, plain), cls)
            return getattr(made, plain)(*args, **options)

    del run.__wrapped__
    run.interlock_wrapper = True  # type: ignore[attr-defined]
    setattr(cls, method, run)


def _refuse_in_baseline(what: str) -> None:
    """Refuse what a fallback function submits: it would be neither classical nor paid for.

    Raises:
        InputError: code `fallback-quantum`.
    """
    if BASELINE.get():
        from interlock.errors import InputError

        raise InputError(
            "the fallback submits to a device, or to a simulator of one",
            code="fallback-quantum",
            got=f"{what} at {_caller()}",
            expected="a function that computes its answer by itself",
            fix="compute it classically, or pass a noiseless simulator itself as the fallback",
        )


class _Original:
    """Stands for an SDK object: its methods are called unwrapped, as the guard's own calls.

    A class that is not an SDK's own may submit whatever it likes while it runs: that is guarded.
    """

    def __init__(self, target: Any, method: str, original: Callable[..., Any], owner: type) -> None:
        self.__dict__["_target"] = target
        self.__dict__["_owner"] = owner
        self.__dict__["_method"] = method
        self.__dict__["_original"] = original

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._target)

    @property
    def interlock_wrapped(self) -> Any:
        """The SDK's object itself, for those who ask what it is and do not run it."""
        return self._target

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            run = functools.partial(self._original, self._target)
            return _setting(_flag(self._target, self._owner), run)
        value = getattr(self._target, name)
        if not inspect.ismethod(value):
            return value
        wrapped = getattr(value, "interlock_wrapper", False)  # it looks at the object itself
        return _setting(INSIDE if wrapped else _flag(self._target, type(self._target)), value)


@contextlib.contextmanager
def _inside(target: Any, owner: type) -> Iterator[None]:
    """Let a guarded job call a method; what a user's class submits in it is guarded again."""
    if _flag(target, owner) is INSIDE:
        yield
        return
    tokens = INSIDE.set(False), _NESTED.set(True)
    try:
        yield
    finally:
        INSIDE.reset(tokens[0])
        _NESTED.reset(tokens[1])


def _flag(target: Any, owner: type) -> contextvars.ContextVar[bool]:
    return INSIDE if is_sdk(owner) and is_sdk_object(target) else _NESTED


def _setting(flag: contextvars.ContextVar[bool], method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        token = flag.set(True)
        try:
            return method(*args, **options)
        finally:
            flag.reset(token)

    return call


_ATTRIBUTE = "_interlock_guarded"


class _Kept:
    """The drop-ins made for an object, kept with it. A copy of the object has none yet."""

    def __init__(self) -> None:
        self.made: dict[Any, tuple[Any, Any]] = {}

    def __deepcopy__(self, _memo: Any) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()


def _guarded(target: Any, method: str, original: Callable[..., Any], owner: type) -> Any:
    """Return the guarded drop-in of an object, made once and kept with it."""
    with _lock:
        kept = getattr(target, "__dict__", {}).get(_ATTRIBUTE, _Kept())
        found = kept.made.get(original)
        # A shallow copy of the object brings the attribute along; it must not submit to the first.
        if found is not None and found[0] is target:
            return found[1]
        token = INSIDE.set(True)
        try:
            from interlock.guard.hooks import Options, adapter_for

            guard = events.gateway_guard() or events.run_guard()
            options = Options(guard=guard, fallback=events.run_fallback())
            made = adapter_for(target).wrap(_Original(target, method, original, owner), options)
        finally:
            INSIDE.reset(token)
        if found is not None:
            kept = _Kept()
        kept.made[original] = (target, made)
        with contextlib.suppress(AttributeError, TypeError):
            target.__dict__[_ATTRIBUTE] = kept
        return made


def _trip_wire(owner: Any, method: str) -> None:
    original = getattr(owner, method)
    of_class = isinstance(owner, type)
    what = f"{owner.__module__}.{owner.__qualname__}" if of_class else owner.__name__

    @functools.wraps(original)
    def watched(*args: Any, **options: Any) -> Any:
        submits = method != "putrequest" or _to_provider(*args[:3])
        if INSIDE.get() or _REPORTED.get() or not submits:
            return original(*args, **options)
        _refuse_in_baseline(f"{what}.{method}")
        if _NESTED.get() and method in _REMOTE:
            return original(*args, **options)
        events.unguarded(f"{what}.{method}", _caller())
        token = _REPORTED.set(True)
        try:
            return original(*args, **options)
        finally:
            _REPORTED.reset(token)

    setattr(owner, method, watched)


def _to_provider(connection: Any, *request: Any) -> bool:
    """Whether an HTTP request (verb, path) submits a job to a provider."""
    host, verb, path = str(getattr(connection, "host", "")), *(str(a) for a in request[:2])
    watched = any(host == h or host.endswith("." + h) for h in PROVIDER_HOSTS) or (
        host.startswith("braket.") and host.endswith(".amazonaws.com")
    )
    return watched and verb in ("POST", "PUT") and any(p in path for p in _JOB_PATHS)


def _caller() -> str:
    """Return where the user's own code was, as `file:line`."""
    packages = (os.sep + "site-packages" + os.sep, os.sep + "interlock" + os.sep)
    for frame in reversed(traceback.extract_stack()):
        if not any(p in frame.filename for p in packages) and "lib/python3" not in frame.filename:
            return f"{frame.filename}:{frame.lineno}"
    return "(library code)"


def _carry_context_into_pools() -> None:
    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def carrying(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if any(flag.get() for flag in (INSIDE, BASELINE, _NESTED, _REPORTED)):
            return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)
        return submit(self, fn, *args, **kwargs)

    setattr(ThreadPoolExecutor, "submit", carrying)  # noqa: B010 - mypy
