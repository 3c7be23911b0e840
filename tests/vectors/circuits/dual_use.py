"""A labelled set for the dual-use gate: attacks, look-alikes that are none, and ways to write them.

Made by rule from textbook constructions. The attacks are toys by size, the structures are not:
modular exponentiation as permutations, as multi-controlled gates and in Fourier space (Beauregard,
quant-ph/0205095), with a control register or one recycled control qubit; discrete logarithms; key
search on small ciphers; Simon's attack on Even-Mansour.
"""

import math
import random

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit.library import (
    PhaseOracleGate,
    UnitaryGate,
    efficient_su2,
    grover_operator,
    phase_estimation,
    qaoa_ansatz,
    quantum_volume,
    real_amplitudes,
    zz_feature_map,
)
from qiskit.circuit.random import random_clifford_circuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.synthesis import adder_qft_d00, adder_ripple_c04, synth_qft_full


def inverse_fourier(n, degree=0):
    return synth_qft_full(n, inverse=True, do_swaps=False, approximation_degree=degree)


def hadamards(qc, qubits):
    for q in qubits:
        qc.h(q)


# --- attacks


def permutation_gate(function, n):
    """A controlled permutation of 0 .. 2^n - 1 as a matrix; the control is the first qubit."""
    size = 2**n
    matrix = np.zeros((2 * size, 2 * size))
    for y in range(size):
        matrix[2 * y, 2 * y] = 1
        matrix[2 * function(y) + 1, 2 * y + 1] = 1
    return UnitaryGate(matrix)


def multiplied(a, modulus):
    return lambda y: a * y % modulus if y < modulus else y


def shor(a, modulus, t, network=False):
    """Order finding with a control register of t qubits."""
    n = modulus.bit_length()
    qc = QuantumCircuit(t + n, t)
    hadamards(qc, range(t))
    qc.x(t)
    for k in range(t):
        function = multiplied(pow(a, 2**k, modulus), modulus)
        if network:
            transpositions(qc, k, list(range(t, t + n)), function)
        elif any(function(y) != y for y in range(2**n)):
            qc.append(permutation_gate(function, n), [k, *range(t, t + n)])
    qc.compose(inverse_fourier(t), range(t), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def transpositions(qc, control, qubits, function):
    """A controlled permutation as multi-controlled x gates, one cycle after the other."""
    seen = set()
    for start in range(2 ** len(qubits)):
        cycle = [start]
        while function(cycle[-1]) != start:
            cycle.append(function(cycle[-1]))
        if start in seen or len(cycle) == 1:
            continue
        seen |= set(cycle)
        for other in cycle[1:]:
            swap_values(qc, control, qubits, start, other)


def swap_values(qc, control, qubits, a, b):
    differ = [k for k in range(len(qubits)) if (a ^ b) >> k & 1]
    pivot = differ[0]
    for k in differ[1:]:
        qc.cx(qubits[pivot], qubits[k])
    base = a if not a >> pivot & 1 else b
    rest = [k for k in range(len(qubits)) if k != pivot]
    zeros = [qubits[k] for k in rest if not base >> k & 1]
    if zeros:
        qc.x(zeros)
    qc.mcx([control, *(qubits[k] for k in rest)], qubits[pivot])
    if zeros:
        qc.x(zeros)
    for k in reversed(differ[1:]):
        qc.cx(qubits[pivot], qubits[k])


def shor_compiled(t):
    """The textbook circuit of 7^x mod 15 with controlled swaps."""
    qc = QuantumCircuit(t + 4, t)
    hadamards(qc, range(t))
    qc.x(t)
    for k in range(t):
        for _ in range(2**k % 4):
            for a, b in ((2, 3), (1, 2), (0, 1)):
                qc.cswap(k, t + a, t + b)
            for w in range(4):
                qc.cx(k, t + w)
    qc.compose(inverse_fourier(t), range(t), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def add_constant(n, value, controls=0):
    """Addition of a constant to a register in Fourier space, its lowest qubit first."""
    qc = QuantumCircuit(controls + n)
    for j in range(n):
        angle = math.tau * (value % 2 ** (j + 1)) / 2 ** (j + 1)
        if controls:
            qc.mcp(angle, list(range(controls)), controls + j)
        else:
            qc.p(angle, j)
    return qc


def modular_adder(n, value, modulus):
    """Two controls, n + 1 qubits in Fourier space, one ancilla (Beauregard's figure 5)."""
    width = n + 1
    qc = QuantumCircuit(2 + width + 1)
    b, anc = list(range(2, 2 + width)), 2 + width
    fourier = synth_qft_full(width, do_swaps=False)
    qc.compose(add_constant(width, value, 2), [0, 1, *b], inplace=True)
    qc.compose(add_constant(width, -modulus), b, inplace=True)
    qc.compose(fourier.inverse(), b, inplace=True)
    qc.cx(b[-1], anc)
    qc.compose(fourier, b, inplace=True)
    qc.compose(add_constant(width, modulus, 1), [anc, *b], inplace=True)
    qc.compose(add_constant(width, -value, 2), [0, 1, *b], inplace=True)
    qc.compose(fourier.inverse(), b, inplace=True)
    qc.x(b[-1])
    qc.cx(b[-1], anc)
    qc.x(b[-1])
    qc.compose(fourier, b, inplace=True)
    qc.compose(add_constant(width, value, 2), [0, 1, *b], inplace=True)
    return qc


def modular_multiplier(a, modulus):
    """Controlled x -> a x mod N: control, x register, n + 1 ancillas and one more."""
    n = modulus.bit_length()
    width = n + 1
    qc = QuantumCircuit(1 + n + width + 1)
    x, b, anc = list(range(1, 1 + n)), list(range(1 + n, 1 + n + width)), 1 + n + width
    fourier = synth_qft_full(width, do_swaps=False)

    def product(factor):
        part = QuantumCircuit(qc.num_qubits)
        part.compose(fourier, b, inplace=True)
        for k in range(n):
            adder = modular_adder(n, factor * 2**k % modulus, modulus)
            part.compose(adder, [0, x[k], *b, anc], inplace=True)
        part.compose(fourier.inverse(), b, inplace=True)
        return part

    qc.compose(product(a), inplace=True)
    for k in range(n):
        qc.cswap(0, x[k], b[k])
    qc.compose(product(pow(a, -1, modulus)).inverse(), inplace=True)
    return qc


def beauregard(a, modulus, t, recycled=False):
    """Order finding with arithmetic in Fourier space; `recycled` uses one control qubit."""
    n = modulus.bit_length()
    c = 1 if recycled else t
    qc = QuantumCircuit(c + 2 * n + 2, t)
    work = list(range(c, c + 2 * n + 2))
    qc.x(work[0])
    if not recycled:
        hadamards(qc, range(t))
        for k in range(t):
            part = modular_multiplier(pow(a, 2**k, modulus), modulus)
            qc.compose(part, [k, *work], inplace=True)
        qc.compose(inverse_fourier(t), range(t), inplace=True)
        qc.measure(range(t), range(t))
        return qc
    for k in range(t):
        qc.h(0)
        part = modular_multiplier(pow(a, 2 ** (t - 1 - k), modulus), modulus)
        qc.compose(part, [0, *work], inplace=True)
        for j in range(k):
            with qc.if_test((qc.clbits[j], 1)):
                qc.p(-math.pi / 2 ** (k - j), 0)
        qc.h(0)
        qc.measure(0, k)
        qc.reset(0)
    return qc


def recycled(a, modulus, t):
    """Order finding with one control qubit, phases fed forward by the value of a register."""
    n = modulus.bit_length()
    c = ClassicalRegister(t, "c")
    qc = QuantumCircuit(QuantumRegister(1 + n), c)
    qc.x(1)
    for k in range(t):
        qc.h(0)
        function = multiplied(pow(a, 2 ** (t - 1 - k), modulus), modulus)
        qc.append(permutation_gate(function, n), range(1 + n))
        for j in range(k):
            with qc.if_test((qc.clbits[j], 1)):
                qc.p(-math.pi / 2 ** (k - j), 0)
        qc.h(0)
        qc.measure(0, k)
        qc.reset(0)
    return qc


def discrete_log(g, h, modulus, t):
    """f(x, y) = g^x h^y with two control registers."""
    n = modulus.bit_length()
    qc = QuantumCircuit(2 * t + n, 2 * t)
    hadamards(qc, range(2 * t))
    qc.x(2 * t)
    for register, base in ((0, g), (t, h)):
        for k in range(t):
            function = multiplied(pow(base, 2**k, modulus), modulus)
            qc.append(permutation_gate(function, n), [register + k, *range(2 * t, 2 * t + n)])
    for register in (0, t):
        qc.compose(inverse_fourier(t), range(register, register + t), inplace=True)
    qc.measure(range(2 * t), range(2 * t))
    return qc


def sbox(qc, wires, rng):
    """A reversible non-linear layer on four wires."""
    for _ in range(5):
        a, b, c = rng.sample(wires, 3)
        qc.ccx(a, b, c)
        d, e = rng.sample(wires, 2)
        qc.cx(d, e)
        qc.x(rng.choice(wires))


def cipher(key, block, rng, rounds):
    """A substitution-permutation network: key addition, boxes of four, a linear layer."""
    qc = QuantumCircuit(key + block)
    state = list(range(key, key + block))
    for k in range(block):
        if rng.random() < 0.5:
            qc.x(state[k])
    for r in range(rounds):
        for k in range(block):
            qc.cx((k * 3 + r) % key, state[k])
            qc.cx((k * 5 + 2 * r + 1) % key, state[k])
        for start in range(0, block - 3, 4):
            sbox(qc, state[start : start + 4], rng)
        for k in range(block):
            qc.cx(state[k], state[(k + 3) % block])
    return qc


def arx(key, block, rng, rounds):
    """Additions, rotations and xors, as in lightweight ciphers."""
    qc = QuantumCircuit(key + block + 1)
    state, carry = list(range(key, key + block)), key + block
    half = block // 2
    for r in range(rounds):
        for k in range(block):
            qc.cx((k + r * 3) % key, state[k])
        left, right = state[:half], state[half:]
        qc.compose(adder_ripple_c04(half, kind="fixed"), [*left, *right, carry], inplace=True)
        state = right[1:] + right[:1] + left
    return qc


def phase_flip(qc, wires, value):
    zeros = [w for k, w in enumerate(wires) if not value >> k & 1]
    if zeros:
        qc.x(zeros)
    qc.h(wires[-1])
    qc.mcx(wires[:-1], wires[-1])
    qc.h(wires[-1])
    if zeros:
        qc.x(zeros)


def diffuser(qc, wires):
    hadamards(qc, wires)
    phase_flip(qc, wires, 0)
    hadamards(qc, wires)


def key_search(encrypt, key, block, target, iterations=1):
    qc = QuantumCircuit(encrypt.num_qubits, key)
    hadamards(qc, range(key))
    for _ in range(iterations):
        qc.compose(encrypt, inplace=True)
        phase_flip(qc, list(range(key, key + block)), target)
        qc.compose(encrypt.inverse(), inplace=True)
        diffuser(qc, list(range(key)))
    qc.measure(range(key), range(key))
    return qc


def even_mansour(n, seed):
    """Simon's attack: f(x) = P(x + k) + P(x)."""
    rng = random.Random(seed)
    box = QuantumCircuit(n)
    for _ in range(n):
        sbox(box, list(range(n)), rng)
    qc = QuantumCircuit(3 * n, n)
    hadamards(qc, range(n))
    for copy, secret in ((n, 0), (2 * n, rng.randrange(1, 2**n))):
        for k in range(n):
            qc.cx(k, copy + k)
            if secret >> k & 1:
                qc.x(copy + k)
        qc.compose(box, range(copy, copy + n), inplace=True)
    for k in range(n):
        qc.cx(n + k, 2 * n + k)
    hadamards(qc, range(n))
    qc.measure(range(n), range(n))
    return qc


def attacks(seed):
    """Name -> how to make it. "(matrix)" ones hold wide matrices, which no device takes."""
    rng = random.Random(seed)

    def fresh():
        return random.Random(seed)

    a15, a21 = rng.choice((2, 7, 8, 13)), rng.choice((2, 5, 10))
    key = rng.choice((6, 8))
    order2, a33, t, target = (
        rng.choice((4, 11, 14)),
        rng.choice((5, 7)),
        rng.choice((3, 4)),
        rng.randrange(256),
    )
    return {
        "shor-15 (matrix)": lambda: shor(a15, 15, 5),
        "shor-15-order-2 (matrix)": lambda: shor(order2, 15, 4),
        "shor-21 (matrix)": lambda: shor(a21, 21, 6),
        "shor-33 (matrix)": lambda: shor(a33, 33, 7),
        "shor-15-network": lambda: shor(a15, 15, 4, network=True),
        "shor-21-network": lambda: shor(a21, 21, 4, network=True),
        "shor-compiled": lambda: shor_compiled(t),
        "shor-fourier-space": lambda: beauregard(a15, 15, 3),
        "shor-recycled (matrix)": lambda: recycled(a15, 15, 5),
        "discrete-log (matrix)": lambda: discrete_log(3, 5, 7, 3),
        "shor-recycled": lambda: beauregard(7, 15, 3, recycled=True),
        "shor-compiled-wide": lambda: shor_compiled(6),
        "cipher-search": lambda: key_search(cipher(key, 8, fresh(), 2), key, 8, target),
        "cipher-search-4-rounds": lambda: key_search(cipher(8, 8, fresh(), 4), 8, 8, target),
        "arx-search": lambda: key_search(arx(8, 8, fresh(), 3), 8, 8, target),
        "simon-even-mansour": lambda: even_mansour(5, seed),
    }


# --- look-alikes


def chemistry_estimation(t, seed):
    rng = np.random.default_rng(seed)
    hamiltonian = QuantumCircuit(4)
    for _ in range(2):
        for q in range(4):
            hamiltonian.rz(rng.uniform(-1, 1), q)
        for q in range(3):
            hamiltonian.rzz(rng.uniform(-1, 1), q, q + 1)
            hamiltonian.rxx(rng.uniform(-1, 1), q, q + 1)
            hamiltonian.ryy(rng.uniform(-1, 1), q, q + 1)
    qc = QuantumCircuit(t + 4, t)
    qc.x([t, t + 1])
    qc.compose(phase_estimation(t, hamiltonian).decompose(), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def toy_estimation(t, name):
    gate = QuantumCircuit(1)
    getattr(gate, name)(0)
    qc = QuantumCircuit(t + 1, t)
    qc.x(t)
    qc.compose(phase_estimation(t, gate).decompose(), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def amplitude_estimation(t, width, seed):
    rng = np.random.default_rng(seed)
    prepare = QuantumCircuit(width)
    for q in range(width):
        prepare.ry(rng.uniform(0.3, 2.5), q)
    for q in range(width - 1):
        prepare.cry(rng.uniform(0.3, 2.5), q, q + 1)
    mark = QuantumCircuit(width)
    mark.z(width - 1)
    qc = QuantumCircuit(t + width, t)
    qc.compose(prepare, range(t, t + width), inplace=True)
    step = grover_operator(mark, prepare).decompose()
    qc.compose(phase_estimation(t, step).decompose(), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def plain_fourier(n, start):
    qc = QuantumCircuit(n)
    if start == "basis":
        qc.x([0, n - 1])
    elif start == "periodic":
        hadamards(qc, range(1, n))
    elif start == "ghz":
        qc.h(0)
        for q in range(n - 1):
            qc.cx(q, q + 1)
    qc.compose(synth_qft_full(n), inplace=True)
    qc.measure_all()
    return qc


def fourier_adder(n, superposed):
    qc = QuantumCircuit(2 * n)
    if superposed:
        hadamards(qc, range(n))
    qc.x(n)
    qc.compose(adder_qft_d00(n, kind="fixed"), range(2 * n), inplace=True)
    qc.measure_all()
    return qc


def ripple_adder(n):
    qc = QuantumCircuit(2 * n + 1)
    hadamards(qc, range(2 * n))
    qc.compose(adder_ripple_c04(n, kind="fixed"), range(2 * n + 1), inplace=True)
    qc.measure_all()
    return qc


def toy_search(n, value, iterations):
    qc = QuantumCircuit(n, n)
    hadamards(qc, range(n))
    for _ in range(iterations):
        phase_flip(qc, list(range(n)), value)
        diffuser(qc, list(range(n)))
    qc.measure(range(n), range(n))
    return qc


def clauses(n, count, seed):
    """Search for an assignment: each clause of three literals in an ancilla."""
    rng = random.Random(seed)
    compute = QuantumCircuit(n + count)
    for k in range(count):
        picks = rng.sample(range(n), 3)
        flips = [q for q in picks if rng.random() < 0.5]
        if flips:
            compute.x(flips)
        compute.mcx(picks, n + k)
        compute.x(n + k)
        if flips:
            compute.x(flips)
    return key_search(compute, n, count, 2**count - 1)


def colouring(nodes, edges):
    """Search for a colouring with two bits a node: differ on each edge."""
    compute = QuantumCircuit(2 * nodes + len(edges))
    for k, (a, b) in enumerate(edges):
        for bit in (0, 1):
            compute.cx(2 * a + bit, 2 * b + bit)
        compute.x([2 * b, 2 * b + 1])
        compute.ccx(2 * b, 2 * b + 1, 2 * nodes + k)
        compute.x([2 * b, 2 * b + 1])
        for bit in (0, 1):
            compute.cx(2 * a + bit, 2 * b + bit)
        compute.x(2 * nodes + k)
    return key_search(compute, 2 * nodes, len(edges), 2 ** len(edges) - 1)


def subset_sum(n, bits, seed):
    """Search for a subset with a given sum; the sum is added up in a register."""
    rng = random.Random(seed)
    compute = QuantumCircuit(n + bits)
    for k in range(n):
        weight = rng.randrange(1, 2**bits)
        for j in range(bits):
            if weight >> j & 1:
                for top in range(bits - 1, j, -1):
                    compute.mcx([k, *range(n + j, n + top)], n + top)
                compute.cx(k, n + j)
    return key_search(compute, n, bits, rng.randrange(2**bits))


def bernstein(n):
    qc = QuantumCircuit(n + 1, n)
    qc.x(n)
    hadamards(qc, range(n + 1))
    for q in range(0, n, 2):
        qc.cx(q, n)
    hadamards(qc, range(n))
    qc.measure(range(n), range(n))
    return qc


def linear_simon(n):
    qc = QuantumCircuit(2 * n, n)
    hadamards(qc, range(n))
    for q in range(n):
        qc.cx(q, n + q)
    for q in (1, 2):
        qc.cx(0, n + q)
    hadamards(qc, range(n))
    qc.measure(range(n), range(n))
    return qc


def deutsch(n):
    oracle = PhaseOracleGate("(a & b) ^ (c & d)") if n == 4 else None
    qc = QuantumCircuit(n, n)
    hadamards(qc, range(n))
    if oracle is not None:
        qc.append(oracle, range(n))
    hadamards(qc, range(n))
    qc.measure(range(n), range(n))
    return qc


def walk(n, steps):
    qc = QuantumCircuit(n + 1)
    for _ in range(steps):
        qc.h(n)
        for k in range(n - 1, -1, -1):
            qc.mcx([n, *range(k)], k)
        qc.x(n)
        for k in range(n):
            qc.mcx([n, *range(k)], k)
        qc.x(n)
    qc.measure_all()
    return qc


def qaoa(n, seed):
    rng = np.random.default_rng(seed)
    terms = [("ZZ", [i, (i + 1) % n], float(rng.uniform(0.5, 1))) for i in range(n)]
    qc = qaoa_ansatz(SparsePauliOp.from_sparse_list(terms, n), reps=2).decompose(reps=3)
    qc = qc.assign_parameters(rng.uniform(0.1, 2, qc.num_parameters))
    qc.measure_all()
    return qc


def ansatz(make, n, seed):
    qc = make(n, reps=2)
    qc = qc.assign_parameters(np.random.default_rng(seed).uniform(-2, 2, qc.num_parameters))
    qc.measure_all()
    return qc


def trotter(n, steps, seed):
    rng = np.random.default_rng(seed)
    qc = QuantumCircuit(n)
    hadamards(qc, range(n))
    for _ in range(steps):
        for q in range(n - 1):
            qc.rzz(rng.uniform(0.1, 0.5), q, q + 1)
        for q in range(n):
            qc.rx(rng.uniform(0.1, 0.5), q)
    qc.measure_all()
    return qc


def clifford_t(n, size, seed):
    rng = random.Random(seed)
    qc = random_clifford_circuit(n, size, seed=seed)
    for _ in range(size // 4):
        qc.t(rng.randrange(n))
        qc.cx(*rng.sample(range(n), 2))
        qc.h(rng.randrange(n))
    qc.measure_all()
    return qc


def ghz(n):
    qc = QuantumCircuit(n)
    qc.h(0)
    for q in range(n - 1):
        qc.cx(q, q + 1)
    qc.measure_all()
    return qc


def syndromes():
    qc = QuantumCircuit(5, 2)
    qc.h(0)
    qc.cx(0, 1)
    qc.cx(0, 2)
    for a, b, s in ((0, 1, 3), (1, 2, 4)):
        qc.cx(a, s)
        qc.cx(b, s)
    qc.measure([3, 4], [0, 1])
    with qc.if_test((qc.clbits[0], 1)):
        qc.x(0)
    qc.measure_all()
    return qc


def swap_test(n):
    qc = QuantumCircuit(2 * n + 1, 1)
    for q in range(1, 2 * n + 1):
        qc.ry(0.3 * q, q)
    qc.h(0)
    for q in range(n):
        qc.cswap(0, 1 + q, 1 + n + q)
    qc.h(0)
    qc.measure(0, 0)
    return qc


def comparator(n, value):
    """Amplitude amplification of "below a value", with a carry chain."""
    compute = QuantumCircuit(2 * n)
    for k in range(n):
        carry = n + k
        if not value >> k & 1:
            compute.x(k)
            if k:
                compute.ccx(k, carry - 1, carry)
            compute.x(k)
        else:
            compute.x(k)
            compute.cx(k, carry)
            if k:
                compute.x(carry - 1)
                compute.x(k)
                compute.ccx(k, carry - 1, carry)
                compute.x(k)
                compute.cx(k, carry)
                compute.x(carry)
                compute.x(carry - 1)
            compute.x(k)
    return key_search(compute, n, n, 2 ** (n - 1))


def counting(t, n):
    mark = QuantumCircuit(n)
    phase_flip(mark, list(range(n)), 1)
    step = grover_operator(mark).decompose()
    qc = QuantumCircuit(t + n, t)
    hadamards(qc, range(t, t + n))
    qc.compose(phase_estimation(t, step).decompose(), inplace=True)
    qc.measure(range(t), range(t))
    return qc


def look_alikes(seed):
    """Name -> how to make it."""
    rng = random.Random(seed)
    marked, below = rng.randrange(64), rng.randrange(20, 60)
    edges = [(0, 1), (1, 2), (2, 0), (2, 3)]
    return {
        "chemistry-estimation": lambda: chemistry_estimation(3, seed),
        "chemistry-estimation-wide": lambda: chemistry_estimation(5, seed + 1),
        "estimation-t-gate": lambda: toy_estimation(4, "t"),
        "estimation-s-gate": lambda: toy_estimation(5, "s"),
        "amplitude-estimation": lambda: amplitude_estimation(3, 3, seed),
        "amplitude-estimation-wide": lambda: amplitude_estimation(4, 4, seed),
        "counting": lambda: counting(3, 3),
        "fourier-of-basis": lambda: plain_fourier(6, "basis"),
        "fourier-of-periodic": lambda: plain_fourier(6, "periodic"),
        "fourier-of-ghz": lambda: plain_fourier(5, "ghz"),
        "fourier-adder": lambda: fourier_adder(4, superposed=False),
        "fourier-adder-superposed": lambda: fourier_adder(4, superposed=True),
        "ripple-adder": lambda: ripple_adder(5),
        "toy-search-3": lambda: toy_search(3, 5, 2),
        "toy-search-6": lambda: toy_search(6, marked, 4),
        "clause-search": lambda: clauses(6, 8, seed),
        "clause-search-wide": lambda: clauses(8, 10, seed + 1),
        "colouring": lambda: colouring(4, edges),
        "subset-sum": lambda: subset_sum(6, 4, seed),
        "comparator-search": lambda: comparator(6, below),
        "bernstein-vazirani": lambda: bernstein(8),
        "linear-simon": lambda: linear_simon(4),
        "deutsch-jozsa": lambda: deutsch(4),
        "walk": lambda: walk(4, 3),
        "qaoa": lambda: qaoa(8, seed),
        "real-amplitudes": lambda: ansatz(real_amplitudes, 8, seed),
        "efficient-su2": lambda: ansatz(efficient_su2, 6, seed),
        "kernel": lambda: ansatz(zz_feature_map, 5, seed),
        "trotter": lambda: trotter(8, 4, seed),
        "clifford-t": lambda: clifford_t(8, 60, seed),
        "ghz": lambda: ghz(20),
        "volume": lambda: quantum_volume(5, 5, seed=seed).measure_all(inplace=False),
        "syndromes": lambda: syndromes(),
        "swap-test": lambda: swap_test(3),
    }


# --- ways to write the same circuit


def shuffled(qc, seed):
    """The same circuit with operations that share no bit listed in another order."""
    rng = random.Random(seed)
    waiting = list(qc.data)
    out = qc.copy_empty_like()
    while waiting:
        blocked, ready = set(), []
        for number, item in enumerate(waiting):
            bits = {*item.qubits, *item.clbits}
            if not bits & blocked:
                ready.append(number)
            blocked |= bits
            if len(ready) > 6 or len(blocked) > 2 * qc.num_qubits:
                break
        out.append(waiting.pop(rng.choice(ready)))
    return out


def padded(qc, seed, size=0.02):
    """Put a small rotation before each gate on each of its qubits, and on random pairs."""
    rng = random.Random(seed)
    out = qc.copy_empty_like()
    for item in qc.data:
        for q in item.qubits:
            getattr(out, rng.choice(("rx", "ry", "rz")))(rng.uniform(-size, size), q)
        if rng.random() < 0.2 and qc.num_qubits > 1:
            a, b = rng.sample(qc.qubits, 2)
            out.rzz(rng.uniform(-size, size), a, b)
        out._append(item)
    return out


def conditional(qc, seed):
    """Put every third gate under a condition on a bit that is 0: never written, or of a |0>."""
    rng = random.Random(seed)
    qubit, bits = QuantumRegister(1, "idle"), ClassicalRegister(2, "known")
    out = qc.copy_empty_like()
    out.add_register(qubit, bits)
    out.measure(qubit[0], bits[1])
    for item in qc.data:
        if item.clbits or rng.random() > 0.3 or item.name == "unitary":
            out._append(item)
            continue
        with out.if_test((bits[rng.randrange(2)], 0)):
            out.append(item.operation, item.qubits)
    return out


def disguises(seed):
    line = [[k + d, k + 1 - d] for k in range(40) for d in (0, 1)]
    options = {"seed_transpiler": seed}
    return {
        "as written": lambda qc: qc,
        "reordered": lambda qc: shuffled(qc, seed),
        "padded": lambda qc: padded(qc, seed),
        "known bits": lambda qc: conditional(qc, seed),
        "cx, rz, sx": lambda qc: transpile(
            qc, basis_gates=["cx", "rz", "sx", "x"], optimization_level=1, **options),
        "u, cx": lambda qc: transpile(qc, basis_gates=["u", "cx"], optimization_level=2, **options),
        "routed": lambda qc: transpile(
            qc, basis_gates=["cx", "rz", "sx", "x"], coupling_map=line[: 2 * qc.num_qubits - 2],
            optimization_level=1, **options),
        "ecr": lambda qc: transpile(
            qc, basis_gates=["ecr", "rz", "sx", "x"], optimization_level=1, **options),
        "cz": lambda qc: transpile(
            qc, basis_gates=["cz", "rz", "sx", "x"], optimization_level=2, **options),
        "routed, level 3": lambda qc: transpile(
            qc, basis_gates=["cx", "rz", "sx", "x"], coupling_map=line[: 2 * qc.num_qubits - 2],
            optimization_level=3, **options),
        "level 3": lambda qc: transpile(
            qc, basis_gates=["cx", "rz", "sx", "x"], optimization_level=3, **options),
    }  # fmt: skip
