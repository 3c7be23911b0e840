"""Twelve bits to a molecule: a core and three substituents. Some are unsafe on purpose."""

from __future__ import annotations

CORES = (
    "c1c({0})cc({1})cc1{2}", "c1c({0})nc({1})cc1{2}", "C1C({0})CC({1})CC1{2}",
    "C1C({0})OC({1})CC1{2}", "c1c({0})sc({1})c1{2}", "N1C({0})CN({1})CC1{2}",
    "C({0})C({1})C{2}", "O=C({0})N({1})CC{2}",
)  # fmt: skip
PARTS = ("C", "O", "N", "OC", "C(=O)N", "OO", "N=[N+]=[N-]", "C(=O)Cl")
BITS = 12


def decode(bits: str) -> str:
    """Return the SMILES of a bit string, most significant bit first.

    Example:
        >>> decode("000000001000")
        'c1c(C)cc(O)cc1C'
    """
    core, *parts = (int(bits[i : i + 3], 2) for i in range(0, BITS, 3))
    return CORES[core].format(*(PARTS[p] for p in parts))
