"""Randomness that cannot be repeated, in code whose results are compared."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["UnseededRandom"]

_NEED_ARGUMENT = {
    "numpy.random.default_rng", "numpy.random.RandomState", "random.Random",
    "qiskit.circuit.random.random_circuit", "qiskit.quantum_info.random_unitary",
    "qiskit.quantum_info.random_statevector", "qiskit.quantum_info.random_clifford",
}  # fmt: skip
_GLOBAL = {
    "numpy.random": (
        {"rand", "randn", "randint", "random", "choice", "shuffle", "permutation", "normal",
         "uniform"},
        {"numpy.random.seed", "numpy.random.set_state"},
    ),
    "random": (
        {"random", "randint", "choice", "shuffle", "sample", "uniform", "gauss", "choices"},
        {"random.seed", "random.setstate"},
    ),
    "torch": (
        {"rand", "randn", "randint", "randperm", "normal"},
        {"torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.random.seed",
         "torch.set_rng_state"},
    ),
}  # fmt: skip


#: With one of these imported the results are of a kind that is compared; the standard library's
#: generator serves many other ends.
_FIELD = {
    "qiskit", "qiskit_aer", "qiskit_ibm_runtime", "qiskit_algorithms", "qiskit_machine_learning",
    "qiskit_nature", "pennylane", "cirq", "tensorflow_quantum", "braket", "pytket", "qutip", "stim",
    "perceval", "strawberryfields", "dimod", "dwave", "pyquil", "bluequbit", "interlock", "mitiq",
    "numpy", "scipy", "pandas", "torch", "torchvision", "tensorflow", "keras", "jax", "flax",
    "optax", "sklearn", "xgboost", "lightgbm", "catboost", "transformers", "datasets", "lightning",
    "pytorch_lightning", "gymnasium", "gym", "stable_baselines3", "optuna", "rdkit",
}  # fmt: skip


class UnseededRandom:
    """A generator, simulator or transpiler without a seed, where quantum or ML code is imported."""

    id: ClassVar[str] = "unseeded-random"
    title: ClassVar[str] = "Randomness without a seed"
    severity: ClassVar[Severity] = Severity.LOW
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = "two runs differ for a reason nobody can tell from a fault or an attack"
    fix: ClassVar[str] = (
        "pass a seed: default_rng(seed), torch.manual_seed, seed_simulator, seed_transpiler"
    )

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the first unseeded use of each generator, and each unseeded constructor."""
        names = {id(call): module.name(call.func) for call in module.calls}
        called = set(names.values())
        reported: set[str] = set()
        field = bool(module.roots & _FIELD)
        imported = "random" in module.roots
        for call in module.calls:
            name = names[id(call)]
            if name.startswith("random.") and not (field and imported):
                continue  # a variable of that name, or a module of another kind
            if name in _NEED_ARGUMENT:
                if not self._seeded(call, 1 if "random_" not in name else 9):
                    yield module.hit(call, f"{name} without a seed")
                continue
            owner, _, function = name.rpartition(".")
            functions, seeds = _GLOBAL.get(owner, (set(), set()))
            given = {keyword.arg for keyword in call.keywords}
            if function in functions and not seeds & called and owner not in reported:
                if "generator" not in given:
                    reported.add(owner)
                    yield module.hit(call, f"{name} before any seed in this module")
            elif name == "qiskit.transpile" and not given & {"seed_transpiler", None}:
                yield module.hit(call, "transpile without seed_transpiler")

    def _seeded(self, call: ast.Call, position: int) -> bool:
        given = [*call.args[position - 1 :], *(k.value for k in call.keywords if k.arg in _SEEDS)]
        star = any(k.arg is None for k in call.keywords)
        return star or any(not (isinstance(v, ast.Constant) and v.value is None) for v in given)


_SEEDS = {"seed", "x", "rng", "random_state"}
