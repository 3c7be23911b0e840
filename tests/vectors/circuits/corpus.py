"""Circuits that real users sent and that failed in the queue or came back meaningless, by class.

Each row: name, what a device of the corpus does with it, the program after the header. The classes
come from issue threads of Qiskit, qiskit-ibm-runtime, Braket and PennyLane and from provider docs.
"""

from interlock.circuits.target import Target

PAIRS = ((0, 1), (1, 2), (2, 3), (3, 4))
LINE = Target(
    name="line",
    num_qubits=5,
    gates={
        "x": None, "sx": None, "rz": None, "id": None, "measure": None, "reset": None,
        "delay": None, "delay_dt": None, "if_else": None, "for_loop": None,
        "cx": dict.fromkeys(PAIRS, 3e-07),
    },
    faulty_qubits=frozenset({4}),
    faulty_edges=frozenset({(2, 3), (3, 2)}),
)  # fmt: skip
STATIC = Target(
    name="static", num_qubits=5, mid_circuit=False,
    gates={"x": None, "sx": None, "rz": None, "measure": None, "cx": dict.fromkeys(PAIRS)},
)  # fmt: skip

Q2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
Q3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
FIVE2 = Q2 + "qreg q[5];\ncreg c[5];\n"
FIVE3 = Q3 + "qubit[5] q;\nbit[5] c;\n"
M2 = "measure q[0] -> c[0];\n"
M3 = "c[0] = measure q[0];\n"

BAD = {
    # not transpiled for the device
    "raw-h": (LINE, FIVE2 + "h q[0];" + M2),
    "raw-u3": (LINE, FIVE2 + "u3(1,2,3) q[0];" + M2),
    "raw-rx": (LINE, FIVE2 + "rx(0.3) q[0];" + M2),
    "raw-cz": (LINE, FIVE2 + "x q[0]; cz q[0],q[1];" + M2),
    "raw-ccx": (LINE, FIVE2 + "ccx q[0],q[1],q[2];" + M2),
    "raw-swap": (LINE, FIVE2 + "swap q[0],q[1];" + M2),
    "raw-ecr-device-gate": (LINE, Q3 + "qubit[5] q; bit[5] c; gate ecr a, b { rz(pi/2) a; cx a, b;"
                            " rx(1) b; } ecr q[0], q[1];" + M3),
    "raw-in-branch": (LINE, FIVE3 + M3 + "if (c[0]) { h q[1]; } c[1] = measure q[1];"),
    "raw-in-loop": (LINE, FIVE3 + "for int i in [0:3] { ry(0.1) q[0]; }" + M3),
    "raw-cp-of-qft": (LINE, FIVE2 + "cp(pi/2) q[0],q[1];" + M2),
    # connectivity
    "edge-far": (LINE, FIVE2 + "cx q[0],q[2];" + M2),
    "edge-ends": (STATIC, FIVE2 + "cx q[0],q[4];" + M2),
    "edge-in-branch": (LINE, FIVE3 + M3 + "if (c[0]) { cx q[0], q[2]; } c[2] = measure q[2];"),
    "edge-star": (STATIC, FIVE2 + "cx q[0],q[1]; cx q[0],q[2]; cx q[0],q[3];" + M2),
    "direction": (LINE, FIVE2 + "cx q[1],q[0];" + M2),
    "direction-later": (LINE, FIVE2 + "cx q[0],q[1]; cx q[2],q[1];" + M2),
    # width
    "width-by-one": (LINE, Q2 + "qreg q[6]; creg c[1]; x q[5]; measure q[5] -> c[0];"),
    "width-idle": (LINE, Q2 + "qreg q[27]; creg c[1]; x q[0];" + M2),
    "width-huge": (LINE, Q2 + "qreg q[5000]; creg c[1]; x q[0];" + M2),
    "width-two-registers": (LINE, Q2 + "qreg a[3]; qreg q[3]; creg c[1]; x q[0];" + M2),
    "physical-out-of-range": (LINE, Q3 + "bit[1] c; x $7; c[0] = measure $7;"),
    # faults the provider reports
    "faulty-qubit": (LINE, FIVE2 + "x q[4]; measure q[4] -> c[4];"),
    "faulty-qubit-measured-only": (LINE, FIVE2 + "x q[0]; measure q[4] -> c[4];"),
    "faulty-edge": (LINE, FIVE2 + "cx q[2],q[3];" + M2),
    "faulty-edge-in-loop": (LINE, FIVE3 + "for int i in [0:1] { cx q[2], q[3]; }" + M3),
    # parameters
    "unbound": (LINE, Q3 + "input float t; qubit[5] q; bit[5] c; rz(t) q[0];" + M3),
    "unbound-expression": (LINE, Q3 + "input angle t; qubit[5] q; bit[5] c; rz(2*t+1) q[0];" + M3),
    "unbound-in-branch": (LINE, Q3 + "input float t; qubit[5] q; bit[5] c;" + M3
                          + "if (c[0]) { rz(t) q[1]; }"),
    "nan-angle": (LINE, FIVE2 + "rz(1e308*10) q[0];" + M2),
    "division-by-zero": (LINE, FIVE2 + "rz(1/0) q[0];" + M2),
    "log-of-zero": (LINE, FIVE2 + "rz(ln(0)) q[0];" + M2),
    "sqrt-of-minus-one": (LINE, FIVE2 + "rz(sqrt(-1)) q[0];" + M2),
    "whole-number-division": (LINE, FIVE3 + "rz(1/2) q[0];" + M3),
    "negative-delay": (LINE, FIVE3 + "delay[-5ns] q[0];" + M3),
    # measurements
    "no-measurement": (LINE, FIVE2 + "x q[0];"),
    "no-measurement-no-bits": (LINE, Q2 + "qreg q[2]; x q[0];"),
    "empty": (LINE, FIVE2),
    "only-barriers": (LINE, FIVE2 + "barrier q;"),
    "overwritten": (LINE, FIVE2 + "x q[0];" + M2 + "measure q[1] -> c[0];"),
    "overwritten-same-qubit": (LINE, FIVE2 + M2 + "x q[0];" + M2),
    "overwritten-register": (LINE, Q3 + "qubit[2] q; bit[2] c; c = measure q; c = measure q;"),
    "condition-before-measurement": (LINE, FIVE2 + "if(c==1) x q[0];" + M2),
    "condition-on-other-register": (LINE, FIVE2 + "creg d[1];" + M2 + "if(d==1) x q[1];"
                                    "measure q[1] -> d[0];"),
    "value-wider-than-register": (LINE, FIVE2 + M2 + "if(c==99) x q[1];"),
    "more-qubits-than-bits": (LINE, Q2 + "qreg q[5]; creg c[3]; measure q -> c;"),
    # what a device without mid-circuit operations cannot do
    "mid-circuit": (STATIC, FIVE2 + "x q[0];" + M2 + "x q[0]; measure q[0] -> c[1];"),
    "conditional": (STATIC, FIVE2 + M2 + "if(c==1) x q[1]; measure q[1] -> c[1];"),
    "reset": (STATIC, FIVE2 + "reset q[0]; x q[0];" + M2),
    "switch": (LINE, FIVE3 + M3 + "switch (c) { case 0 { x q[1]; } } c[1] = measure q[1];"),
    "delay-unknown": (STATIC, FIVE3 + "delay[100ns] q[0];" + M3),
    "while": (LINE, FIVE3 + M3 + "while (c[0]) { c[0] = measure q[0]; }"),
    "endless": (LINE, FIVE3 + M3 + "while (c[0]) { x q[1]; } c[1] = measure q[1];"),
    # programs that do not parse
    "undefined-gate": (LINE, FIVE2 + "hadamard q[0];" + M2),
    "missing-include": (LINE, "OPENQASM 3.0; qubit[1] q; bit[1] c; h q[0]; c[0] = measure q[0];"),
    "index-out-of-range": (LINE, FIVE2 + "x q[5];" + M2),
    "undefined-register": (LINE, FIVE2 + "x r[0];" + M2),
    "same-qubit-twice": (LINE, FIVE2 + "cx q[0],q[0];" + M2),
    "wrong-parameter-count": (LINE, FIVE2 + "rz q[0];" + M2),
    "wrong-qubit-count": (LINE, FIVE2 + "cx q[0];" + M2),
    "missing-semicolon": (LINE, FIVE2 + "x q[0]" + M2),
    "version-2-syntax-in-3": (LINE, Q3 + "qreg q[1]; creg c[1]; opaque mygate a; measure q -> c;"),
    "version-3-syntax-in-2": (LINE, Q2 + "qubit[2] q; bit[2] c; c = measure q;"),
    "no-version": (LINE, "qreg q[1]; creg c[1]; measure q -> c;"),
    "subroutine": (LINE, FIVE3 + "def f(qubit a) { x a; } f(q[0]);" + M3),
    "pragma": (LINE, "OPENQASM 3.0; #pragma braket result probability\nqubit[1] q;"),
    "pulse": (LINE, "OPENQASM 3.0; defcalgrammar \"openpulse\"; qubit[1] q;"),
    "include-of-a-file": (LINE, Q2 + 'include "mygates.inc"; qreg q[1];'),
    "truncated": (LINE, FIVE2 + "gate g a { x a;"),
    "recursive-gate": (LINE, FIVE2 + "gate g a { g a; } g q[0];" + M2),
    "not-a-circuit": (LINE, "{\"cells\": []}"),
}  # fmt: skip
