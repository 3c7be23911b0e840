"""What a module does with each circuit it builds, as far as straight-line code tells."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from interlock.scan.code.base import Module

__all__ = ["Circuit", "Step", "circuits_of"]

_MEASURE = {"measure", "measure_all", "measure_active", "save_counts", "measure_x", "measure_y"}
_NOT_GATES = {
    "barrier", "draw", "depth", "size", "count_ops", "copy", "decompose", "assign_parameters",
    "bind_parameters", "compose", "append", "add_register", "add_bits", "initialize", "qasm",
    "if_test", "while_loop", "for_loop", "switch", "if_else", "global_phase", "width", "num_qubits",
    "save_statevector", "save_state", "remove_final_measurements", "inverse", "power", "control",
    "to_gate", "to_instruction", "delay", "tensor", "reverse_bits", "store", "add_var",
}  # fmt: skip
_RUNS = {"run", "run_sampler", "execute"}
_SAFE_USE = {"print", "transpile", "len", "display", "plot_circuit", "generate_preset_pass_manager"}
_ANGLES = {"rx": 1, "ry": 1, "rz": 1, "p": 1, "u": 3, "crx": 1, "cry": 1, "crz": 1, "cp": 1,
           "rzz": 1, "rxx": 1, "ryy": 1, "rzx": 1, "r": 2, "u1": 1, "u2": 2, "u3": 3}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One call on a circuit whose qubits are plain numbers."""

    kind: str
    name: str
    node: ast.AST
    qubits: tuple[int, ...] = ()
    clbits: tuple[int, ...] = ()
    conditional: bool = False


@dataclass(slots=True)
class Circuit:
    """A `QuantumCircuit` bound to a name in one scope."""

    name: str
    scope: ast.AST
    measured: bool = False
    gates: int = 0
    escapes: bool = False
    calls: list[ast.Call] = field(default_factory=list)
    runs: list[ast.Call] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


_CACHE: WeakKeyDictionary[Module, list[Circuit]] = WeakKeyDictionary()


def circuits_of(module: Module) -> list[Circuit]:
    """Return the circuits a module builds with `QuantumCircuit(...)`."""
    if module not in _CACHE:
        _CACHE[module] = list(_collect(module))
    return _CACHE[module]


def _collect(module: Module) -> list[Circuit]:
    found: dict[tuple[ast.AST, str], Circuit] = {}
    for node in module.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = module.name(node.value.func).rpartition(".")[2]
            if made == "QuantumCircuit":
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        key = (module.scope(node), target.id)
                        again = key in found
                        found.setdefault(key, Circuit(target.id, key[0])).escapes |= again
    if not found:
        return []
    names = {name for _, name in found}
    elsewhere: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load):
            used = found.get((module.scope(node), node.id))
            if used is None:
                elsewhere.add(node.id)
            else:
                _use(module, used, node)
    for (_, name), circuit in found.items():
        circuit.escapes |= name in elsewhere
    return list(found.values())


def _use(module: Module, circuit: Circuit, node: ast.Name) -> None:
    parent = module.parent(node)
    if isinstance(parent, ast.Attribute):
        call = module.parent(parent)
        if isinstance(call, ast.Call) and call.func is parent:
            circuit.calls.append(call)
            _method(module, circuit, parent.attr, call)
        return
    # the circuit is an argument: of a run, of something harmless, or of who knows what
    holder: ast.AST | None = parent
    while isinstance(holder, (ast.List, ast.Tuple, ast.Starred, ast.keyword)):
        holder = module.parent(holder)
    if isinstance(holder, ast.Call):
        last = getattr(holder.func, "attr", getattr(holder.func, "id", ""))
        if last in _RUNS:
            circuit.runs.append(holder)
        elif last == "transpile" or last not in _SAFE_USE:
            outer = module.parent(holder)
            if isinstance(outer, ast.Call) and getattr(outer.func, "attr", "") in _RUNS:
                circuit.runs.append(outer)
            elif last != "transpile":
                circuit.escapes = True
    elif not isinstance(holder, (ast.Expr, ast.FormattedValue)):
        circuit.escapes = True


def _numbers(nodes: list[ast.expr]) -> tuple[int, ...] | None:
    out: list[int] = []
    for node in nodes:
        items = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
        for item in items:
            if not (isinstance(item, ast.Constant) and type(item.value) is int):
                return None
            out.append(item.value)
    return tuple(out)


def _method(module: Module, circuit: Circuit, name: str, call: ast.Call) -> None:
    if name in _MEASURE or name.startswith("measure"):
        circuit.measured = True
    elif name in ("compose", "append"):
        circuit.escapes = True
    elif name not in _NOT_GATES and name != "reset":
        circuit.gates += 1
    loop, conditional = _around(module, call)
    if loop:
        circuit.steps.append(Step("barrier", name, call))
        return
    if name == "measure" and len(call.args) == 2:
        qubits, clbits = _numbers(call.args[:1]), _numbers(call.args[1:])
        if qubits is not None and clbits is not None:
            circuit.steps.append(Step("measure", name, call, qubits, clbits, conditional))
    elif name == "reset":
        circuit.steps.append(Step("reset", name, call, _numbers(call.args) or ()))
    elif name not in _NOT_GATES and name not in _MEASURE:
        operands = call.args[_ANGLES.get(name, 0) :]
        circuit.steps.append(Step("gate", name, call, _numbers(operands) or (), (), conditional))


def _around(module: Module, node: ast.AST) -> tuple[bool, bool]:
    """Return whether a node stands in a loop or branch, and whether under a quantum condition."""
    branch = conditional = False
    holder = module.parent(node)
    while holder is not None and not isinstance(holder, (ast.FunctionDef, ast.Module)):
        if isinstance(holder, (ast.For, ast.While, ast.If, ast.Try)):
            branch = True
        if isinstance(holder, ast.With):
            conditional = True
        holder = module.parent(holder)
    parent = module.parent(node)
    if isinstance(parent, ast.Attribute) and parent.attr == "c_if":
        conditional = True
    return branch, conditional
