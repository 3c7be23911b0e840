"""Period finding and cryptanalytic search, told from what a circuit computes.

Both classes of quantum attack do the same: put inputs into superposition, compute a classical
function of them, and let the inputs interfere. So the circuit is run on basis states in place of
the superposition, which any classical function can be, whatever its gates are called and however
they are written out:

- period finding (Shor, SIAM J. Comput. 26, 1484; also discrete logarithms and Regev's variant):
  the inputs end in a Fourier transform, and the function is periodic or not affine;
- search and hidden shifts (Grover, STOC 1996, on a cipher or hash; Simon, SIAM J. Comput. 26,
  1474): the inputs interfere, and several bits are mixed as a cipher mixes them: balanced, not
  affine, and changed by a good share of the inputs they depend on.

Phase estimation of a chemical Hamiltonian, amplitude estimation, QAOA and the like compute no
classical function between the two; adders and comparators do not mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.circuits.canonical import Circuit
from interlock.circuits.intent.blocks import merged
from interlock.circuits.intent.gates import Step, gate_of
from interlock.circuits.intent.normal import Normal, normalise
from interlock.circuits.intent.paths import Paths, Turn, fourier_chains, is_full, trace
from interlock.circuits.intent.sparse import SpreadError, States
from interlock.circuits.matrices import gate_matrix

__all__ = ["MAX_STEPS", "Intent", "Kind", "classify"]

Kind: TypeAlias = Literal["none", "period-finding", "cryptanalytic-search", "unclear"]
MAX_STEPS = 50_000
#: Amplitudes times steps that one circuit may cost; a few seconds.
MAX_WORK = 10_000_000
_TABLE_BITS = 8
_H = gate_of(np.asarray(gate_matrix("h", ())))
_BLIND_BITS = 6
_INNER_CHAINS = 4
_BASES = 16
_FLIPS = 32
_MIXED_WIRES = 3
_MIXED_INPUTS = 4
_MIXED_SHARE = 0.35


class LostError(Exception):
    """A computation without superposition is too long to follow."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What a circuit seems to be for.

    Attributes:
        kind: `none`, `period-finding`, `cryptanalytic-search`, or `unclear`: it could not be
            followed to the end.
        reason: what was seen, for a person.
        inputs: wires of the inputs that interfere.
    """

    kind: Kind
    reason: str = ""
    inputs: tuple[int, ...] = ()


def classify(circuit: Circuit, *, seed: int = 0) -> Intent:
    """Say what a circuit is for.

    Args:
        circuit: with its parameters bound. Free parameters get random values.
        seed: of those and of the inputs tried.

    Example:
        >>> from interlock.circuits.canonical import Operation
        >>> classify(Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))).kind
        'none'
    """
    rng = np.random.default_rng(seed)
    if circuit.parameters:
        circuit = circuit.bind({p: float(rng.uniform(-3, 3)) for p in circuit.parameters})
    if any(isinstance(p, str) for op in circuit.walk() for p in op.params):
        return Intent(kind="none", reason="a parameter is no number, so it cannot run")
    normal = normalise(circuit, MAX_STEPS)
    try:
        found = _find_in(normal, rng)
        if found is None and not normal.unfollowed:
            found = _steadied(circuit, rng)
    except LostError:
        return Intent(kind="unclear", reason="a long computation on basis states")
    if found is not None:
        return found
    if normal.unfollowed:
        return Intent(kind="unclear", reason=f"not followed: {normal.unfollowed}")
    return Intent(kind="none")


def _steadied(circuit: Circuit, rng: np.random.Generator) -> Intent | None:
    """Look once more with angles made round, for what small rotations were put in to hide."""
    steady = normalise(circuit, MAX_STEPS, steady=True)
    if not steady.changed:
        return None
    try:
        found = _find_in(steady, rng)
    except LostError:  # it could be followed as it is
        return None
    if found is None:
        return None
    return msgspec.structs.replace(found, reason=f"{found.reason}, but for small rotations")


def _find_in(normal: Normal, rng: np.random.Generator) -> Intent | None:
    """Look at a normal form as it is, then with the runs on each pair of wires merged."""
    whole = Normal(normal.width)
    whole.steps = merged(normal.steps)
    return _find(normal, rng) or _find(whole, rng)


def _find(normal: Normal, rng: np.random.Generator) -> Intent | None:
    paths = trace(normal)
    if len(paths.fresh) < 2:
        return None
    found = _period(normal, paths, fourier_chains(paths), rng)
    for inputs in _candidates(normal, paths):
        found = found or _blind_period(normal, inputs, rng) or _search(normal, inputs, rng)
    return found


def _period(
    normal: Normal, paths: Paths, chains: list[list[Turn]], rng: np.random.Generator
) -> Intent | None:
    """Look for a periodic function whose inputs end in a Fourier transform."""
    ends = [
        [turn for turn in chain if turn.before in paths.fresh and paths.last(turn)]
        for chain in chains
    ]
    turns = [turn for chain in ends if len(chain) >= 2 for turn in chain]
    if not turns:
        return None
    inputs = [paths.fresh[turn.before] for turn in turns]
    skipped = {turn.step for turn in turns}
    outputs = {turn.after for turn in turns}
    others = [w for w in range(normal.width) if paths.masks[w] not in outputs]
    table = _inputs(len(turns), rng)
    try:
        few = _run(normal, dict(inputs), skipped, _few(table, rng), rng)
        if not len(_varying(few, others)):
            return None
        states = _run(normal, dict(inputs), skipped, table, rng)
    except SpreadError:
        if sum(is_full(paths, c) and not paths.last(c[-1]) for c in chains) < _INNER_CHAINS:
            return None
        return Intent(
            kind="period-finding",
            reason=f"arithmetic in Fourier space on {len(turns)} inputs of a Fourier transform",
            inputs=tuple(wire for _, wire in inputs),
        )
    varying = _varying(states, others)
    if not len(varying):
        return None
    period = _period_of(varying, len(turns))
    if period is None and not _not_affine(varying, len(turns)):
        return None
    what = f"of period {period}" if period else "that is not affine"
    return Intent(
        kind="period-finding",
        reason=f"a classical function {what} of {len(turns)} inputs of a Fourier transform",
        inputs=tuple(wire for _, wire in inputs),
    )


def _blind_period(
    normal: Normal, inputs: dict[int, int], rng: np.random.Generator
) -> Intent | None:
    """Look for the same where the transform cannot be read off: by its amplitudes.

    A Fourier transform over a cyclic group leaves every input in a flat superposition whose phases
    are not all signs.
    """
    count = len(inputs)
    if not 2 <= count <= _BLIND_BITS:
        return None
    table = _inputs(count, rng)
    try:
        few = _few(table, rng)
        tried = _run(normal, inputs, set(), few, rng, most=few.shape[1] << (count + 2))
        if not len(_varying(tried, range(normal.width))):
            return None
        states = _run(normal, inputs, set(), table, rng, most=table.shape[1] << (count + 2))
    except SpreadError:
        return None
    size, left = divmod(states.amplitudes.size, states.batch)
    if left or size < 4 or np.ptp(np.abs(states.amplitudes)) > 1e-6:
        return None
    _, sharp = states.classical()
    varying = _varying(states, range(normal.width))
    if not len(varying) or not _not_affine(varying, count):
        return None
    wires = np.flatnonzero(~sharp)
    index = sum(states.bits[w].astype(np.int64) << k for k, w in enumerate(wires))
    order = np.lexsort((index, states.member))
    rows = states.amplitudes[order].reshape(states.batch, size)
    phases = rows / rows[:1]
    phases /= phases[:, :1]
    if bool(np.all(np.abs(phases.imag) < 1e-6)):
        return None
    return Intent(
        kind="period-finding",
        reason=f"a classical function that is not affine of {count} inputs that end in a Fourier "
        "transform, by their amplitudes",
        inputs=tuple(inputs.values()),
    )


def _inputs(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return inputs to try, one a column: both ways of counting up in the first or last bits."""
    low = min(count, _TABLE_BITS)
    numbers = np.arange(1 << low)
    bits = ((numbers[None, :] >> np.arange(low)[:, None]) & 1).astype(np.uint8)
    if count == low:
        return bits
    base = rng.integers(0, 2, (count, 1), np.uint8)
    up = np.tile(base, (1, 1 << low))
    down = up.copy()
    up[:low] = bits
    down[count - low :] = bits
    return np.concatenate([up, down], axis=1)


def _few(table: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return some of the inputs, to find out cheaply that there is nothing to see."""
    return table[:, rng.permutation(table.shape[1])[:12]]


def _varying(states: States, wires: Sequence[int]) -> NDArray[np.uint8]:
    """Return the values of those wires that are classical and depend on the inputs."""
    values, sharp = states.classical()
    found = values[[w for w in wires if sharp[w]]]
    changing: NDArray[np.uint8] = found[(found != found[:, :1]).any(axis=1)]
    return changing


def _period_of(function: NDArray[np.uint8], count: int) -> int | None:
    """Return the period over the inputs, counted up or down the chain, or None."""
    low = min(count, _TABLE_BITS)
    size = 1 << low
    turned = np.array([int(format(k, f"0{low}b")[::-1], 2) for k in range(size)])
    halves = [function] if count == low else [function[:, :size], function[:, size:]]
    for half in halves:
        for order in (np.arange(size), turned):
            values = [column.tobytes() for column in half[:, order].T]
            for period in range(1, size // 2 + 1):
                if all(values[k] == values[k + period] for k in range(size - period)):
                    if period > 1:
                        return period
                    break
    return None


def _not_affine(function: NDArray[np.uint8], count: int) -> bool:
    low = min(count, _TABLE_BITS)
    table = function[:, : 1 << low]
    derivatives = [table ^ table[:, np.arange(1 << low) ^ (1 << k)] for k in range(low)]
    return any(bool((d != d[:, :1]).any()) for d in derivatives)


def _run(
    normal: Normal,
    inputs: dict[int, int],
    skipped: set[int],
    table: NDArray[np.uint8],
    rng: np.random.Generator,
    look: Any = None,
    most: int = 0,
) -> States:
    """Run a table of inputs; the gates that made or transform the inputs are left out.

    An input of step -1 - wire stands before the first step of that wire, which then gets the
    Hadamard gate that takes back the one that was merged with it.
    """
    batch = table.shape[1]
    states = States(normal.width, batch, most or max(4096, 64 * batch), rng)
    rows = {step: table[k] for k, step in enumerate(inputs)}
    for number, step in enumerate(normal.steps):
        for wire in step.wires:
            if -1 - wire in rows:
                states.assign(wire, rows.pop(-1 - wire))
                states.apply(_H, (wire,))
        if number in rows:
            states.assign(step.wires[0], rows[number])
        elif number not in skipped:
            _advance(states, step)
        if look is not None:
            look(number, states)
        if states.work > MAX_WORK:
            if states.amplitudes.size < 8 * batch:
                raise LostError
            raise SpreadError
    return states


def _advance(states: States, step: Step) -> None:
    if step.kind == "copy":
        states.copy(*step.wires)
    elif step.kind == "clear":
        states.clear(step.wires[0])
    else:
        assert step.gate is not None
        states.apply(step.gate, step.wires)


def _search(normal: Normal, inputs: dict[int, int], rng: np.random.Generator) -> Intent | None:
    """Look for a mixing function whose inputs interfere."""
    if len(inputs) < _MIXED_INPUTS:
        return None
    flips = rng.permutation(len(inputs))[:_FLIPS]
    bases = rng.integers(0, 2, (len(inputs), _BASES, 1), np.uint8)
    table = np.repeat(bases, 1 + len(flips), axis=2)
    for k, flip in enumerate(flips):
        table[flip, :, 1 + k] ^= 1
    shape = (_BASES, 1 + len(flips))
    every = max(1, len(normal.steps) // 64)
    best = 0

    def look(number: int, states: States) -> None:
        nonlocal best
        if number % every == 0:
            best = max(best, _mixed(states, shape))

    try:
        states = _run(normal, inputs, set(), table.reshape(len(inputs), -1), rng, look)
        interferes = not states.single
        best = max(best, _mixed(states, shape))
    except SpreadError:
        interferes = True
    if best < _MIXED_WIRES or not interferes:
        return None
    return Intent(
        kind="cryptanalytic-search",
        reason=f"{best} bits mixed as a cipher or hash mixes them, of {len(inputs)} inputs that "
        "interfere",
        inputs=tuple(inputs.values()),
    )


def _candidates(normal: Normal, paths: Paths) -> list[dict[int, int]]:
    """Return sets of inputs to try, each as step -> wire.

    First the wires that are put into superposition and then control something. A compiler may have
    merged the gate that did it with the next one, so then the measured wires, from their first
    step on, where the others are not measured.
    """
    made = dict(paths.fresh.values())
    wanted = dict(made)
    waiting: dict[int, int] = {}
    doubted: dict[int, tuple[int, tuple[int, ...]]] = {}
    first: dict[int, int] = {}
    measured: set[int] = set()
    for number, step in enumerate(normal.steps):
        if step.kind == "copy":
            measured.add(step.wires[0])
        for place, wire in enumerate(step.wires):
            first.setdefault(wire, number)
            if wire in waiting and len(step.wires) > 1:
                start = waiting.pop(wire)
                if step.gate is not None and step.gate.classical:
                    found = step.gate.view(0, 0).outputs[place]
                    if found is not None and found[0] != (place,):
                        doubted[wire] = start, step.wires
            elif wire in doubted:
                # A router's swap takes the wire elsewhere: its next gate is the reverse.
                start, pair = doubted.pop(wire)
                if step.wires != pair[::-1]:
                    del wanted[start]
        if number in made:
            waiting[made[number]] = number
    starts = {-1 - wire: wire for wire in sorted(measured)}
    for start, _ in doubted.values():
        del wanted[start]
    tried = [wanted]
    if measured and measured < first.keys() and measured != set(made.values()):
        tried.append(starts)
    return tried


def _mixed(states: States, shape: tuple[int, int]) -> int:
    """Count wires that depend on the inputs as the bits of a cipher do."""
    values, sharp = states.classical()
    count = 0
    for wire in np.flatnonzero(sharp):
        table = values[wire].reshape(shape)
        share = float(table.mean())
        if not 0.35 <= share <= 0.65:
            continue
        changed = (table[:, 1:] ^ table[:, :1]).mean(axis=0)
        depends = int((changed > 0).sum())
        if depends < _MIXED_INPUTS or not ((changed > 0) & (changed < 1)).any():
            continue
        count += float(changed.sum()) >= _MIXED_SHARE * depends
    return count
