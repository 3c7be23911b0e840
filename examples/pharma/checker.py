"""A second opinion on released molecules: another reader of SMILES, other code for every rule.

Nothing here comes from Interlock or RDKit: pysmiles makes a graph, and the groups are looked for
atom by atom. It knows the rules of `policy.yaml` that need no model: valence, size, charge, and the
eleven unstable groups.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pysmiles

logging.getLogger("pysmiles").setLevel(logging.ERROR)
HALOGENS = {"F", "Cl", "Br", "I"}
#: Bonds an atom may have, by element and charge; others are not judged.
VALENCE = {
    ("C", 0): {4}, ("N", 0): {3, 5}, ("N", 1): {4}, ("N", -1): {2}, ("O", 0): {2}, ("O", 1): {3},
    ("O", -1): {1}, ("F", 0): {1}, ("Cl", 0): {1, 3, 5, 7}, ("Br", 0): {1, 3, 5},
    ("I", 0): {1, 3, 5, 7}, ("S", 0): {2, 4, 6}, ("P", 0): {3, 5}, ("B", 0): {3},
    ("C", 1): {3}, ("C", -1): {3}, ("S", 1): {3, 5}, ("S", -1): {1, 3, 5},
}  # fmt: skip


class Molecule:
    """A graph with the questions the rules ask."""

    def __init__(self, smiles: str) -> None:
        self.graph = pysmiles.read_smiles(smiles, explicit_hydrogen=False, strict=True)
        self.nodes = self.graph.nodes

    def element(self, atom: int) -> str:
        """Return the element, `C`."""
        return str(self.nodes[atom].get("element", "*"))

    def hydrogens(self, atom: int) -> int:
        """Return the hydrogens on an atom."""
        return int(self.nodes[atom].get("hcount", 0))

    def charge(self, atom: int) -> int:
        """Return the formal charge."""
        return int(self.nodes[atom].get("charge", 0))

    def aromatic(self, atom: int) -> bool:
        """Return whether it is in an aromatic system."""
        return bool(self.nodes[atom].get("aromatic"))

    def near(self, atom: int, order: float | None = None) -> list[int]:
        """Return the neighbours, by one order of bond or by any."""
        return [
            b for b in self.graph[atom] if order is None or self.graph[atom][b]["order"] == order
        ]

    def connections(self, atom: int) -> int:
        """Return the number of neighbours, hydrogens included."""
        return len(self.graph[atom]) + self.hydrogens(atom)

    def pairs(self, first: str, second: str, order: float) -> Iterator[tuple[int, int]]:
        """Yield bonded pairs of two elements, both ways round when they are the same."""
        for a, b, facts in self.graph.edges(data=True):
            for x, y in ((a, b), (b, a)):
                if facts["order"] == order and (self.element(x), self.element(y)) == (
                    first, second
                ):  # fmt: skip
                    yield x, y

    def ring_sizes(self, a: int, b: int) -> int:
        """Return the size of the smallest ring a bond is in, 0 for none."""
        import networkx as nx

        other = self.graph.copy()
        other.remove_edge(a, b)
        try:
            return int(nx.shortest_path_length(other, a, b)) + 1
        except nx.NetworkXNoPath:
            return 0


def faults(smiles: str, heavy: tuple[int, int] = (5, 40)) -> list[str]:
    """Return what is wrong with a molecule; an empty list when nothing is.

    Example:
        >>> faults("CCOOCC"), faults("c1ccccc1O")
        (['peroxide'], [])
    """
    try:
        mol = Molecule(smiles)
    except Exception as error:  # noqa: BLE001 - whatever the reader dislikes
        return [f"cannot be read: {type(error).__name__}"]
    found = list(_valence(mol))
    size = sum(mol.element(a) != "H" for a in mol.nodes)
    if not heavy[0] <= size <= heavy[1]:
        found.append(f"{size} heavy atoms")
    total = sum(mol.charge(a) for a in mol.nodes)
    if not -2 <= total <= 2:
        found.append(f"charge {total}")
    return found + [name for name, present in GROUPS.items() if present(mol)]


def _valence(mol: Molecule) -> Iterator[str]:
    for atom in mol.nodes:
        allowed = VALENCE.get((mol.element(atom), mol.charge(atom)))
        bonds = [mol.graph[atom][b]["order"] for b in mol.graph[atom]]
        if allowed is None or 1.5 in bonds:
            continue  # an aromatic atom shares; the reader has checked the ring
        total = sum(bonds) + mol.hydrogens(atom)
        if total not in allowed:
            yield f"{mol.element(atom)} with {total:g} bonds"


def _peroxide(mol: Molecule) -> bool:
    return any(
        mol.connections(a) == 2 == mol.connections(b) and not mol.aromatic(a)
        for a, b in mol.pairs("O", "O", 1)
    )


def _single_hetero(mol: Molecule, atom: int) -> bool:
    """N with three or O with two neighbours, none of which is a C, P or S with a double bond."""
    want = {"N": 3, "O": 2}.get(mol.element(atom))
    if want is None or mol.aromatic(atom) or mol.connections(atom) != want:
        return False
    return not any(mol.element(b) in ("C", "P", "S") and mol.near(b, 2) for b in mol.near(atom))


def _plain_hetero(mol: Molecule, atom: int) -> bool:
    want = {"N": 3, "O": 2}.get(mol.element(atom))
    return want is not None and not mol.aromatic(atom) and mol.connections(atom) == want


def _chain(mol: Molecule) -> bool:
    for middle in mol.nodes:
        if not _plain_hetero(mol, middle):
            continue
        near = mol.near(middle, 1)
        ends = [b for b in near if _plain_hetero(mol, b)]
        if len(ends) >= 2 and any(_single_hetero(mol, b) for b in ends):
            return True
    return False


def _azide(mol: Molecule) -> bool:
    return any(
        mol.charge(a) == 1 and sum(mol.element(c) == "N" for c in mol.near(a, 2)) == 2
        and any(mol.charge(c) == -1 for c in mol.near(a, 2))
        for a, _ in mol.pairs("N", "N", 2)
    )  # fmt: skip


def _diazonium(mol: Molecule) -> bool:
    return any(
        mol.charge(a) == 1 and any(mol.element(c) == "C" for c in mol.near(a, 1))
        for a, _ in mol.pairs("N", "N", 3)
    )


def _acyl_halide(mol: Molecule) -> bool:
    return any(
        any(mol.element(x) in HALOGENS for x in mol.near(c, 1)) and mol.connections(c) == 3
        for c, _ in mol.pairs("C", "O", 2)
    )


def _halogen_hetero(mol: Molecule) -> bool:
    return any(
        mol.charge(a) != 1 or hetero == "O"
        for hetero in ("N", "O")
        for halogen in ("Cl", "Br", "I")
        for a, _ in mol.pairs(hetero, halogen, 1)
    )


def _sp3(mol: Molecule, atom: int) -> bool:
    return mol.element(atom) == "C" and mol.connections(atom) == 4


def _gem_diol(mol: Molecule) -> bool:
    for c in mol.nodes:
        hydroxyls = [o for o in mol.near(c, 1) if mol.element(o) == "O" and mol.hydrogens(o) == 1]
        if not _sp3(mol, c) or len(hydroxyls) < 2:
            continue
        trifluoromethyl = any(
            sum(mol.element(f) == "F" for f in mol.near(b)) >= 3 for b in mol.near(c)
        )
        if not trifluoromethyl:
            return True
    return False


def _hemiaminal(mol: Molecule) -> bool:
    return any(
        _sp3(mol, c) and mol.hydrogens(c) == 2
        and any(mol.element(n) == "N" and mol.hydrogens(n) in (1, 2) and mol.connections(n) == 3
                for n in mol.near(c, 1))
        and any(mol.element(o) == "O" and mol.hydrogens(o) == 1 for o in mol.near(c, 1))
        for c in mol.nodes
    )  # fmt: skip


def _cumulated(mol: Molecule) -> bool:
    middle = [c for c in mol.nodes if mol.element(c) == "C" and len(
        [b for b in mol.near(c, 2) if mol.element(b) == "C"]) >= 2]  # fmt: skip
    return any(b in middle for c in middle for b in mol.near(c, 2))


def _small_alkyne(mol: Molecule) -> bool:
    return any(0 < mol.ring_sizes(a, b) <= 6 for a, b in mol.pairs("C", "C", 3))


def _polynitro(mol: Molecule) -> bool:
    nitro = [
        n for n in mol.nodes
        if mol.element(n) == "N"
        and mol.charge(n) == 1
        and any(mol.element(o) == "O" for o in mol.near(n, 2))
        and any(mol.element(o) == "O" and mol.charge(o) == -1 for o in mol.near(n, 1))
    ]  # fmt: skip
    return len(nitro) >= 3


GROUPS: dict[str, Any] = {
    "peroxide": _peroxide, "three heteroatoms": _chain, "azide": _azide, "diazonium": _diazonium,
    "acyl halide": _acyl_halide, "halogen on N or O": _halogen_hetero, "gem-diol": _gem_diol,
    "hemiaminal": _hemiaminal, "cumulated double bonds": _cumulated, "small-ring alkyne":
    _small_alkyne, "three nitro groups": _polynitro,
}  # fmt: skip
