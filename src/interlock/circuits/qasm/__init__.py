"""OpenQASM 2 and 3 read into the canonical form, without any SDK, with line and column.

A reader of our own, because those of the SDKs follow includes, overflow the stack, or hang, and
because none says where an instruction stood. What it does not know it refuses by name.
"""

from interlock.circuits.qasm.parser import Limits, parse

__all__ = ["Limits", "parse"]
