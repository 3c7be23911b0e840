"""The gate vocabulary: names of the OpenQASM 3 standard library, then those of Qiskit.

OpenQASM 3 (arXiv 2104.14722) names the gates of `stdgates.inc`; the others have the names Qiskit
exports. A gate of any SDK that is not in the table is written out in gates that are.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["ALIASES", "CONTROL_FLOW", "GATES", "NON_UNITARY", "STDGATES"]

#: Gates of `stdgates.inc` with the two built-in ones: name -> (parameters, qubits).
STDGATES: Final = MappingProxyType(
    {
        "U": (3, 1), "gphase": (1, 0), "p": (1, 1), "x": (0, 1), "y": (0, 1), "z": (0, 1),
        "h": (0, 1), "s": (0, 1), "sdg": (0, 1), "t": (0, 1), "tdg": (0, 1), "sx": (0, 1),
        "rx": (1, 1), "ry": (1, 1), "rz": (1, 1), "cx": (0, 2), "cy": (0, 2), "cz": (0, 2),
        "cp": (1, 2), "crx": (1, 2), "cry": (1, 2), "crz": (1, 2), "ch": (0, 2), "swap": (0, 2),
        "ccx": (0, 3), "cswap": (0, 3), "cu": (4, 2), "id": (0, 1), "u1": (1, 1), "u2": (2, 1),
        "u3": (3, 1),
    }
)  # fmt: skip

#: The whole vocabulary: name -> (parameters, qubits).
GATES: Final = MappingProxyType(
    {
        **STDGATES,
        "sxdg": (0, 1), "r": (2, 1), "csx": (0, 2), "cs": (0, 2), "csdg": (0, 2), "cu3": (3, 2),
        "rxx": (1, 2), "ryy": (1, 2), "rzz": (1, 2), "rzx": (1, 2), "dcx": (0, 2), "ecr": (0, 2),
        "iswap": (0, 2), "xx_plus_yy": (2, 2), "xx_minus_yy": (2, 2), "ccz": (0, 3),
        "rccx": (0, 3), "rcccx": (0, 4), "c3x": (0, 4), "c3sx": (0, 4), "c4x": (0, 5),
    }
)  # fmt: skip

#: Names that other libraries use for the same gate.
ALIASES: Final = MappingProxyType(
    {
        "u": "U", "phase": "p", "cphase": "cp", "cu1": "cp", "CX": "cx", "cnot": "cx",
        "toffoli": "ccx", "fredkin": "cswap", "rc3x": "rcccx", "c3sqrtx": "c3sx",
        "global_phase": "gphase",
    }
)  # fmt: skip

#: Operations that are no gates. `delay` has its length in seconds, `delay_dt` in device cycles.
NON_UNITARY: Final = frozenset({"measure", "reset", "barrier", "delay", "delay_dt"})

#: Operations with blocks.
CONTROL_FLOW: Final = frozenset(
    {"if_else", "while_loop", "for_loop", "switch_case", "box", "break_loop", "continue_loop"}
)
