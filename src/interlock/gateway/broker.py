"""The broker: knows the backends, holds their credentials, and alone talks to providers.

`backends.yaml` in the home names what is there:

    backends:
      aer_simulator: {provider: aer}
      kyiv_twin: {provider: twin, device: kyiv}
      ibm_torino: {provider: ibm, device: ibm_torino, credential: ibm}

A credential is a file in the home's `credentials` folder. It is read when it is used, handed to
the provider's client, and never put into the environment, a log or the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from interlock.confine import Level
from interlock.crypto import files
from interlock.errors import BackendError, InputError, PolicyError, SetupError
from interlock.guard.control import Program
from interlock.guard.policy import parse_yaml
from interlock.guard.result import Result

__all__ = ["BackendSpec", "Broker", "Opened"]


class BackendSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a backend is reached.

    Attributes:
        provider: `aer`, `twin` or `ibm`.
        device: the provider's name of it.
        credential: name of a file in the credentials folder.
        tenant: whose it is; empty means shared.
    """

    provider: str
    device: str = ""
    credential: str = ""
    tenant: str = ""

    @property
    def replayable(self) -> bool:
        """Whether running a job twice costs nothing and is seen by nobody."""
        return self.provider in ("aer", "twin")


_DEFAULT = {
    "aer_simulator": BackendSpec(provider="aer"),
    "StatevectorSampler": BackendSpec(provider="aer"),
    "StatevectorEstimator": BackendSpec(provider="aer"),
    "fake_manila": BackendSpec(provider="twin", device="manila"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A backend that is ready.

    Attributes:
        name: as jobs name it.
        backend: the SDK's object.
        replayable: running a job twice costs nothing and is seen by nobody.
        level: isolation level of its execution.
    """

    name: str
    backend: Any
    replayable: bool
    level: str


class Broker:
    """Opens backends and runs programs on them.

    Args:
        home: folder with `backends.yaml` and `credentials`.
        isolation: level that simulators run at; above `none`, each job in a child of its own. A
            provider's device runs elsewhere and has no level here.
    """

    def __init__(self, home: Path, isolation: str = "none") -> None:
        self.home = home
        self.isolation = isolation
        self._lock = threading.Lock()
        self._open = lru_cache(maxsize=64)(self._make)

    @property
    def specs(self) -> Mapping[str, BackendSpec]:
        """All backends by name.

        Raises:
            PolicyError: the file is wrong.
        """
        path = self.home / "backends.yaml"
        if not path.exists():
            return _DEFAULT
        try:
            raw = parse_yaml(path.read_text("utf-8"), str(path))
            return msgspec.convert(raw["backends"], dict[str, BackendSpec])
        except (OSError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise PolicyError(
                "the list of backends is wrong",
                code="backends-file",
                got=f"{type(error).__name__}: {error}",
                expected="backends: {NAME: {provider: aer|twin|ibm, device: ..., credential: ...}}",
                fix=f"mend {path}",
            ) from error

    def names(self, tenant: str) -> list[str]:
        """Return the backends a tenant may know of."""
        return sorted(n for n, s in self.specs.items() if s.tenant in ("", tenant))

    def open(self, name: str, tenant: str) -> Opened:
        """Return a backend; another tenant's is as good as none.

        Raises:
            InputError: there is no such backend for this tenant.
            SetupError: its SDK is missing.
            BackendError: the provider refused.
        """
        spec = self.specs.get(name)
        if spec is None or spec.tenant not in ("", tenant):
            raise InputError(
                "there is no such backend",
                code="backend-unknown",
                got=name[:80],
                expected="one of " + ", ".join(self.names(tenant)),
                fix="choose one of these, or ask the operator to add it",
            )
        with self._lock:
            return self._open(name, spec)

    def _make(self, name: str, spec: BackendSpec) -> Opened:
        safe = spec.replayable
        try:
            if spec.provider == "aer":
                from qiskit_aer import AerSimulator

                return Opened(
                    name=name,
                    backend=AerSimulator(),
                    replayable=spec.replayable,
                    level=self.isolation,
                )
            if spec.provider == "twin":
                from interlock.backends.twins import twin

                device = twin(spec.device or name.removeprefix("fake_"))
                return Opened(name=name, backend=device, replayable=safe, level=self.isolation)
            if spec.provider == "ibm":
                from qiskit_ibm_runtime import QiskitRuntimeService

                service = QiskitRuntimeService(token=self.credential(spec.credential))
                device = service.backend(spec.device or name)
                return Opened(name=name, backend=device, replayable=safe, level="none")
        except ImportError as error:
            raise SetupError(
                f"backend {name} needs an SDK that is not installed",
                code="extra-missing",
                got=str(error),
                expected="the provider's SDK",
                fix="pip install 'interlock[qiskit]'",
            ) from error
        except (InputError, SetupError, PolicyError):
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # The provider's message may hold the token: only its type is told.
            raise BackendError(
                f"backend {name} cannot be opened",
                code="backend-open",
                got=type(error).__name__,
                expected="a provider that answers",
                fix="check the credential and the provider's status",
            ) from None
        raise PolicyError(
            "no such provider",
            code="backends-file",
            got=spec.provider,
            expected="aer, twin or ibm",
            fix="mend backends.yaml",
        )

    def credential(self, name: str) -> str:
        """Return a credential; it must be a file that only its owner can read.

        Raises:
            SetupError: it is missing, or others can read it.
        """
        path = self.home / "credentials" / name
        raw = files.read_private(path) if name and "/" not in name else None
        if raw is None:
            raise SetupError(
                "a provider's credential is missing",
                code="credential-missing",
                got=name or "no name",
                expected=f"a file {path} with mode 0600",
                fix="put the provider's token there",
            )
        return raw.decode("utf-8").strip()


def with_native(programs: Sequence[Program]) -> tuple[Program, ...]:
    """Return the programs with the SDK's circuits made from the canonical ones."""
    from interlock.circuits.qiskit_adapter import to_qiskit

    return tuple(replace(p, native=to_qiskit(p.circuit)) for p in programs)


def run(opened: Opened, kind: str, programs: Sequence[Program], seed: int | None) -> Result:
    """Run programs on an opened backend.

    Raises:
        BackendError: the device failed.
    """
    import time

    from interlock.guard.hooks.qiskit_checked import neutral
    from interlock.guard.hooks.qiskit_targets import backend_of, level_of

    started = time.perf_counter()
    if kind == "run":
        options = {} if seed is None else {"seed_simulator": seed}
        circuits = [p.native for p in programs]
        native = _device(opened, seed).run(circuits, shots=programs[0].shots, **options).result()
    elif kind == "sample":
        native = _sampler(opened, seed).run([_pub(p) for p in programs]).result()
    else:
        native = _estimator(opened, seed).run([_pub(p, kind) for p in programs]).result()
    seconds = time.perf_counter() - started
    level = level_of(opened.backend, backend_of(opened.backend))
    return neutral(native, kind, programs, seconds, seed=seed, level=level)


def _pub(program: Program, kind: str = "sample") -> Any:
    import numpy as np

    circuit = program.native
    order = [p.name for p in circuit.parameters]
    values: Any = None
    if program.values and program.parameters:
        columns = [program.parameters.index(name) for name in order]
        values = np.asarray(program.values, dtype=float)[:, columns]
    elif len(program.values) > 1:
        values = np.zeros((len(program.values), 0))
    if kind == "sample":
        return (
            (circuit, values, program.shots)
            if values is not None
            else (circuit, None, program.shots)
        )
    observables = [_observable(text, circuit.num_qubits) for text in program.observables]
    if len(observables) > 1 and values is not None and len(values) not in (1, len(observables)):
        raise InputError(
            "observables and parameter sets do not pair up",
            code="observable",
            got=f"{len(observables)} observables, {len(values)} parameter sets",
            expected="one observable, one parameter set, or as many of both",
            fix="send each pair",
        )
    return (circuit, observables, values, program.precision)


def _observable(text: str, num_qubits: int) -> Any:
    """Read an observable: a literal mapping of Pauli label -> coefficient."""
    import ast

    from qiskit.quantum_info import SparsePauliOp

    try:
        terms = ast.literal_eval(text)
        pairs = [(str(label), float(value)) for label, value in terms.items()]
        operator = SparsePauliOp.from_list(pairs)
        if operator.num_qubits != num_qubits:
            raise ValueError(f"{operator.num_qubits} qubits for a circuit of {num_qubits}")
    except Exception as error:
        raise InputError(
            "an observable cannot be read",
            code="observable",
            got=f"{text[:80]!r}: {error}",
            expected="Pauli label to coefficient, for instance {'ZZ': 1.0}",
            fix="send it with the client",
        ) from error
    return operator


def _device(opened: Opened, seed: int | None) -> Any:
    if opened.level == "none":
        return opened.backend
    from interlock.backends.confined import ConfinedBackend

    return ConfinedBackend(opened.backend, _sampler(opened, seed))


def _sampler(opened: Opened, seed: int | None) -> Any:
    from qiskit_aer import AerSimulator

    if opened.level != "none":
        from interlock.backends.confined import ConfinedSampler

        return ConfinedSampler(opened.backend, seed=seed, minimum=Level[opened.level.upper()])
    if isinstance(opened.backend, AerSimulator):
        from qiskit_aer.primitives import SamplerV2

        return SamplerV2(seed=seed)
    if type(opened.backend).__name__ == "Twin":
        from interlock.backends.twins import TwinSampler

        return TwinSampler(opened.backend, seed=seed)
    from qiskit_ibm_runtime import SamplerV2 as RuntimeSampler

    return RuntimeSampler(mode=opened.backend)


def _estimator(opened: Opened, seed: int | None) -> Any:
    from qiskit_aer import AerSimulator

    if opened.level != "none":
        from interlock.backends.confined import ConfinedEstimator

        return ConfinedEstimator(opened.backend, seed=seed, minimum=Level[opened.level.upper()])
    if isinstance(opened.backend, AerSimulator):
        from qiskit_aer.primitives import EstimatorV2

        options = {} if seed is None else {"run_options": {"seed_simulator": seed}}
        return EstimatorV2(options=options)
    if type(opened.backend).__name__ == "Twin":
        from interlock.backends.twins import TwinEstimator

        return TwinEstimator(opened.backend)
    from qiskit_ibm_runtime import EstimatorV2 as RuntimeEstimator

    return RuntimeEstimator(mode=opened.backend)
