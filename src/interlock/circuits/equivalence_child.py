"""What the confined child does to compare two lists of gates."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.equivalence import DENIED, Answer, Comparison, Question, after, denied
from interlock.circuits.expression import split, symbols
from interlock.circuits.matrices import gate_matrix, unitary, written

__all__ = ["compare", "warm_up"]

MATRIX_QUBITS = 7
STATE_QUBITS = 14
CANARIES = 5
STATES = 3
POINTS = 3
#: What rounding may add up to in a matrix or a state; compilers leave less than 1e-12.
TOLERANCE = 1e-7
#: How far QCEC lets the trace of two diagrams be from that of equal ones.
TRACE = 1e-12
#: Parameters are drawn up to this, in rad; up to pi where they are not linear and could overflow.
REACH = 64.0
#: The smallest rotation of a qubit that is told from rounding: by matrices and states, by QCEC.
FINEST, FINEST_QCEC = 1e-6, 1e-5

_SAME = ("equivalent", "equivalent_up_to_global_phase")

Vector: TypeAlias = NDArray[np.complex128]


def compare(payload: bytes) -> bytes:
    """Answer one question."""
    question = msgspec.msgpack.decode(payload, type=Question)
    return msgspec.msgpack.encode(_answer(question))


def _answer(asked: Question) -> Comparison:
    rng = np.random.default_rng(asked.seed)
    if not asked.symbols:
        return _bound(asked, {}, "proven")
    last = None
    known = _known_terms(asked.left)
    reach = REACH if all(_is_linear(term) for term in known) else math.pi
    for _ in range(POINTS):
        values = {name: float(rng.uniform(-reach, reach)) for name in asked.symbols}
        last = _bound(asked, values, "evidenced")
        if last.answer is Answer.NOT_EQUIVALENT:
            witness = {**(last.witness or {}), "parameters": dict(list(values.items())[:32])}
            return msgspec.structs.replace(last, witness=witness)
        if last.answer is Answer.UNKNOWN:
            break
    assert last is not None
    if last.answer is Answer.EQUIVALENT and (text := _foreign(asked, known)) is not None:
        # 2*asin(sin(a/2)) is a between -pi and pi, and nowhere else
        return Comparison(
            answer=Answer.UNKNOWN,
            method=last.method,
            reason=f"the parameter expression {text!r:.80} is not linear in those of the reviewed "
            "circuit; they are equal at the random parameter sets, and may differ at others",
        )
    if last.answer is not Answer.UNKNOWN or "clifford-canary" in asked.skip or denied(last):
        return last
    return after(last, _canaries(asked, rng))


_Term: TypeAlias = tuple[tuple[tuple[str, ...], int], ...]


def _known_terms(ops: Sequence[Operation]) -> set[_Term]:
    """Return the products of parameters, and of functions of them, that angles are made of."""
    texts = {p for op in ops for p in op.params if isinstance(p, str)}
    return {tuple(factors) for text in texts for _, factors in split(text) if factors}


def _is_linear(term: _Term) -> bool:
    return len(term) == 1 and term[0][1] == 1 and term[0][0][0] == "symbol"


def _foreign(asked: Question, known: set[_Term]) -> str | None:
    """Return an expression of the compiled circuit that no compiler makes of the reviewed one.

    Compilers add and scale angles. Anything else may agree wherever it is looked at.
    """
    for text in {p for op in asked.right for p in op.params if isinstance(p, str)}:
        for _, factors in split(text):
            if factors and tuple(factors) not in known and not _is_linear(tuple(factors)):
                return text
    return None


def _bound(asked: Question, values: dict[str, float], strength: str) -> Comparison:
    """Compare with all parameters set."""
    n = asked.num_qubits
    left, right = _bind(asked.left, n, values), _bind(asked.right, n, values)
    if n == 0:
        return _equal("matrix", strength, FINEST)
    if n <= MATRIX_QUBITS:
        return _matrices(asked, left, right, strength)
    if n <= STATE_QUBITS:
        found = _states(asked, left, right)
        if found is not None:
            return found
    if "qcec" not in asked.skip:
        return _qcec(asked, left, right, strength)
    return Comparison(answer=Answer.UNKNOWN, method="none", reason="too large for the deadline")


def _equal(method: str, strength: str, finest: float) -> Comparison:
    where = "" if strength == "proven" else f" at {POINTS} random parameter sets"
    return Comparison(
        answer=Answer.EQUIVALENT,
        method=method,
        strength=strength,
        reason=f"equal{where}; a rotation by less than {finest:g} rad would not be seen",
        resolution=finest,
    )


def _bind(ops: Sequence[Operation], n: int, values: dict[str, float]) -> tuple[Operation, ...]:
    if not values:
        return tuple(ops)
    return Circuit(num_qubits=n, operations=tuple(ops)).bind(values).operations


def _order(asked: Question) -> list[int]:
    """Axes that bring the output of the right circuit back to the left one's qubits."""
    n = asked.num_qubits
    axes = [0] * n
    for qubit, wire in enumerate(asked.output):
        axes[n - 1 - qubit] = n - 1 - wire
    return axes


def _matrices(
    asked: Question, left: Sequence[Operation], right: Sequence[Operation], strength: str
) -> Comparison:
    n = asked.num_qubits
    a, b = unitary(written(left), n), unitary(written(right), n)
    if a is None or b is None:
        return Comparison(answer=Answer.UNKNOWN, method="matrix", reason="a gate has no matrix")
    b = b.reshape([2] * n + [-1]).transpose([*_order(asked), n]).reshape(a.shape)
    rest = b - a * _phase(a, b)
    # the norm sees a rotation that the gates around it spread over the whole matrix
    spread = float(np.linalg.norm(rest)) / 2 ** (n / 2)
    equal = max(float(np.abs(rest).max()), spread) < TOLERANCE
    if not equal and asked.measured:
        equal = all(_seen_alike(a, b, _z(n, q)) for q in asked.measured)
    if equal:
        return _equal("matrix", strength, FINEST)
    return Comparison(
        answer=Answer.NOT_EQUIVALENT,
        method="matrix",
        strength="proven",
        reason="the matrices differ",
        witness=_input(a, b, n),
    )


def _input(a: NDArray[np.complex128], b: NDArray[np.complex128], n: int) -> dict[str, Any]:
    """Return the input whose outputs differ most: of the basis, or the sum of all of it."""
    overlaps = np.sum(a.conj() * b, axis=0)
    worst = int(np.argmin(np.abs(overlaps)))
    fidelity = float(abs(overlaps[worst]) ** 2)
    together = float(abs(np.vdot(a.sum(axis=1), b.sum(axis=1))) ** 2) / 4**n
    if together < fidelity:  # phases alone are seen in a superposition only
        return {"input": "+" * n, "fidelity": together}
    return {"input": format(worst, f"0{n}b"), "fidelity": fidelity}


def _seen_alike(
    a: NDArray[np.complex128], b: NDArray[np.complex128], z: NDArray[np.float64]
) -> bool:
    """Whether one measured bit has the same distribution for every input, alone and with others."""
    left = a.conj().T @ (z[:, None] * a)
    return float(np.abs(left - b.conj().T @ (z[:, None] * b)).max()) < TOLERANCE


def _phase(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> complex:
    overlap = complex(np.vdot(a, b))
    return overlap / abs(overlap) if abs(overlap) > 1e-12 else 1.0


def _z(n: int, qubit: int) -> NDArray[np.float64]:
    return np.asarray(1.0 - 2.0 * ((np.arange(2**n) >> qubit) & 1), np.float64)


def _states(
    asked: Question, left: Sequence[Operation], right: Sequence[Operation]
) -> Comparison | None:
    """Look for a state on which they differ; None when none was found."""
    n = asked.num_qubits
    rng = np.random.default_rng(asked.seed + 1)
    for number in range(STATES):
        start = rng.normal(size=2**n) + 1j * rng.normal(size=2**n)
        start /= np.linalg.norm(start)
        a, b = _run(written(left), n, start), _run(written(right), n, start)
        b = b.reshape([2] * n).transpose(_order(asked)).reshape(-1)
        fidelity = float(abs(np.vdot(a, b)) ** 2)
        if float(np.linalg.norm(b - a * _phase(a, b))) < TOLERANCE:
            continue
        if asked.measured:
            p, q = np.abs(a) ** 2, np.abs(b) ** 2
            axes = tuple(n - 1 - w for w in range(n) if w not in asked.measured)
            p, q = (x.reshape([2] * n).sum(axis=axes) for x in (p, q))
            distance = float(np.abs(p - q).sum() / 2)
            if distance < TOLERANCE:
                continue
            witness: dict[str, Any] = {"state": number, "distance": distance}
        else:
            witness = {"state": number, "fidelity": fidelity}
        return Comparison(
            answer=Answer.NOT_EQUIVALENT,
            method="random-states",
            strength="proven",
            reason="they act differently on a random state",
            witness=witness,
        )
    return None


def _run(ops: Sequence[Operation], n: int, state: Vector) -> Vector:
    tensor: Any = state.reshape([2] * n)
    for op in ops:
        if op.name == "gphase":
            continue
        numbers = [float(p) for p in op.params]
        k = len(op.qubits)
        if op.name == "unitary":
            matrix: Any = np.array(numbers).view(complex)
        else:
            matrix = gate_matrix(op.name, numbers)
        axes = [n - 1 - q for q in reversed(op.qubits)]
        tensor = np.tensordot(matrix.reshape([2] * (2 * k)), tensor, (range(k, 2 * k), axes))
        tensor = np.moveaxis(tensor, range(k), axes)
    out: Vector = tensor.reshape(-1)
    return out


def _qcec(
    asked: Question, left: Sequence[Operation], right: Sequence[Operation], strength: str
) -> Comparison:
    """Ask QCEC for a proof. Its "probably" is no proof, and neither is silence."""
    from mqt import qcec

    from interlock.circuits.qiskit_adapter import to_qiskit

    n = asked.num_qubits
    pair = (
        to_qiskit(Circuit(num_qubits=n, operations=tuple(left))),
        to_qiskit(Circuit(num_qubits=n, operations=(*right, *_swaps(asked.output)))),
    )

    def ask(**more: Any) -> str:
        options = {"run_zx_checker": False, "run_simulation_checker": False, "parallel": False}
        return str(qcec.verify(*pair, **options, **more).json()["equivalence"])

    found = ask(trace_threshold=TRACE)
    if found in _SAME:
        return _equal("qcec", strength, FINEST if n <= STATE_QUBITS else FINEST_QCEC)
    if found == "not_equivalent" and not asked.measured and n > STATE_QUBITS:
        if ask() in _SAME:  # with QCEC's own, wider bound
            return Comparison(
                answer=Answer.UNKNOWN, method="qcec", reason=f"{DENIED}, but for a tiny rotation"
            )
        return Comparison(
            answer=Answer.NOT_EQUIVALENT,
            method="qcec",
            strength="proven",
            reason="the decision diagrams differ",
            witness=_where(left, (*right, *_swaps(asked.output))),
        )
    return Comparison(answer=Answer.UNKNOWN, method="qcec", reason=f"QCEC says {found}")


def _where(left: Sequence[Operation], right: Sequence[Operation]) -> dict[str, Any] | None:
    """Return the few qubits on which two wide circuits differ, and an input of these.

    The input stands after the gates that both begin with. None where they differ on many qubits.
    """
    a, b = _apart(*([op for op in ops if op.qubits] for ops in (left, right)))
    a, b = (ops[::-1] for ops in _apart(a[::-1], b[::-1]))
    qubits = sorted({q for op in (*a, *b) for q in op.qubits})
    n, place = len(qubits), {q: i for i, q in enumerate(qubits)}
    if not 0 < n <= MATRIX_QUBITS:
        return None
    moved = ([Operation(o.name, o.params, tuple(place[q] for q in o.qubits)) for o in ops]
             for ops in (a, b))  # fmt: skip
    first, second = (unitary(written(ops), n) for ops in moved)
    if first is None or second is None:
        return None
    return {"qubits": qubits, **_input(first, second, n)}


def _apart(
    left: Sequence[Operation], right: Sequence[Operation]
) -> tuple[list[Operation], list[Operation]]:
    """Return two lists of gates without those that both begin with, wire by wire."""
    ahead: dict[int, deque[int]] = {}
    for k, op in enumerate(right):
        for q in op.qubits:
            ahead.setdefault(q, deque()).append(k)
    rest: list[Operation] = []
    kept = dict(enumerate(right))
    blocked: set[int] = set()
    for op in left:
        heads = {ahead[q][0] if ahead.get(q) else -1 for q in op.qubits}
        k = heads.pop()
        if heads or k < 0 or right[k] != op or not blocked.isdisjoint(op.qubits):
            rest.append(op)
            blocked.update(op.qubits)
            continue
        del kept[k]
        for q in op.qubits:
            ahead[q].popleft()
    return rest, list(kept.values())


def _swaps(output: Sequence[int]) -> list[Operation]:
    """Return swaps that bring every qubit from its output wire to its own."""
    where = list(output)
    swaps = []
    for qubit in range(len(where)):
        wire = where[qubit]
        if wire != qubit:
            swaps.append(Operation("swap", (), (qubit, wire)))
            where[where.index(qubit)] = wire
            where[qubit] = qubit
    return swaps


def _allowed(asked: Question) -> str | None:
    """Refuse parameter expressions that could hide from special values.

    A rotation by `4*theta` vanishes at every multiple of pi/2. So an expression of the compiled
    circuit must be linear, with slopes that the reviewed circuit uses for that parameter.
    """
    slopes: dict[str, set[float]] = {name: set() for name in asked.symbols}
    for text in {p for op in asked.left for p in op.params if isinstance(p, str)}:
        for coefficient, factors in split(text):
            for atom, _ in factors:
                for name in symbols(atom[1]) if atom[0] != "symbol" else (atom[1],):
                    slopes.setdefault(name, set()).add(abs(coefficient))
    for text in {p for op in asked.right for p in op.params if isinstance(p, str)}:
        if any(text == p for op in asked.left for p in op.params):
            continue
        for coefficient, factors in split(text):
            if not factors:
                continue
            if len(factors) > 1 or factors[0][1] != 1 or factors[0][0][0] != "symbol":
                return f"the parameter expression {text!r} is not one of the reviewed circuit"
            name = factors[0][0][1]
            if abs(coefficient) not in slopes.get(name, set()):
                return f"the slope of {name!r} in {text!r} is not one of the reviewed circuit"
    return None


def _canaries(asked: Question, rng: np.random.Generator) -> Comparison:
    """Compare stabiliser tableaux at random multiples of pi/2 (Gidney, Quantum 5, 497)."""
    refused = _allowed(asked)
    if refused is not None:
        return Comparison(answer=Answer.UNKNOWN, method="none", reason=refused)
    for number in range(CANARIES):
        steps = rng.integers(0, 4, len(asked.symbols))
        values = {s: float(k) * math.pi / 2 for s, k in zip(asked.symbols, steps, strict=True)}
        try:
            a = _tableau(_bind(asked.left, asked.num_qubits, values), asked.num_qubits)
            b = _tableau(
                (*_bind(asked.right, asked.num_qubits, values), *_swaps(asked.output)),
                asked.num_qubits,
            )
        except ValueError:
            return Comparison(
                answer=Answer.UNKNOWN, method="none", reason="beyond QCEC, and not Clifford"
            )
        if a == b:
            continue
        back_a, back_b = a.inverse(), b.inverse()
        differ = [q for q in asked.measured if back_a.z_output(q) != back_b.z_output(q)]
        if differ or not asked.measured:
            return Comparison(
                answer=Answer.NOT_EQUIVALENT,
                method="clifford-canary",
                strength="proven",
                reason="they differ at multiples of pi/2",
                witness={"canary": number, "qubits": differ[:8]},
            )
    return Comparison(
        answer=Answer.EQUIVALENT,
        method="clifford-canary",
        strength="evidenced",
        reason=f"equal at {CANARIES} random multiples of pi/2 of each parameter, and at no others",
    )


def _tableau(ops: Sequence[Operation], n: int) -> Any:
    import stim

    out = stim.Tableau(n)
    made: dict[tuple[str, tuple[float, ...]], Any] = {}
    for op in written(ops):
        if op.name == "gphase":
            continue
        numbers = tuple(float(p) for p in op.params)
        key = (op.name, numbers)
        if key not in made:
            if op.name == "unitary":
                size = 2 ** len(op.qubits)
                matrix: Any = np.array(numbers).view(complex).reshape(size, size)
            else:
                matrix = gate_matrix(op.name, numbers)
            made[key] = stim.Tableau.from_unitary_matrix(matrix, endian="little")
        out.append(made[key], op.qubits)
    return out


def warm_up() -> None:
    """Run every path once, so that the confined child imports nothing."""
    h, s, p = (
        Operation("h", (), (0,)),
        Operation("rccx", (), (0, 1, 2)),
        Operation("rz", ("a",), (0,)),
    )
    wide = tuple(Operation("cx", (), (i, i + 1)) for i in range(STATE_QUBITS + 1))
    for ops, symbol, n in (((h, s), (), 3), ((h, p), ("a",), 1), (wide, (), STATE_QUBITS + 2)):
        asked = Question(
            num_qubits=n, left=ops, right=ops, output=tuple(range(n)), measured=(), symbols=symbol,
            seed=1,
        )  # fmt: skip
        compare(msgspec.msgpack.encode(asked))
    asked = Question(
        num_qubits=1, left=(h, p), right=(h, p), output=(0,), measured=(0,), symbols=("a",), seed=1
    )
    _canaries(asked, np.random.default_rng(1))
