"""The operator's deny list against one molecule; runs in the confined child.

What is compared is what the molecule is, not how it is written: without isotope labels, each part
of a salt or mixture by itself, double bonds that are written as charges made bonds, other charges
taken away by moving protons.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

__all__ = ["denied"]

#: Si, P, S, Cl, As, Se, Br, Sb, Te, I: their P=O may also be written [P+][O-].
_HYPERVALENT = frozenset({14, 15, 16, 17, 33, 34, 35, 51, 52, 53})


@cache
def _tools() -> tuple[Any, Any]:
    from rdkit.Chem import rdFingerprintGenerator
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return (
        rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048),
        rdMolStandardize.Uncharger(),
    )


def _bare(mol: Any) -> Any:
    """Return the molecule without isotope labels; deuterium becomes implicit hydrogen."""
    from rdkit import Chem

    if not any(a.GetIsotope() for a in mol.GetAtoms()):
        return mol
    copy = Chem.Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetIsotope(0)
    return Chem.RemoveHs(copy)


def _joined(mol: Any) -> Any:
    """Return the molecule with [P+][O-] as P=O and the like; itself where that is no molecule."""
    from rdkit import Chem

    higher = {
        Chem.BondType.SINGLE: Chem.BondType.DOUBLE,
        Chem.BondType.DOUBLE: Chem.BondType.TRIPLE,
    }
    copy = Chem.RWMol(mol)
    for bond in copy.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        low, high = sorted(ends, key=lambda atom: int(atom.GetFormalCharge()))
        while (
            low.GetFormalCharge() < 0 < high.GetFormalCharge()
            and high.GetAtomicNum() in _HYPERVALENT
            and bond.GetBondType() in higher
        ):
            bond.SetBondType(higher[bond.GetBondType()])
            low.SetFormalCharge(low.GetFormalCharge() + 1)
            high.SetFormalCharge(high.GetFormalCharge() - 1)
    fine = Chem.SanitizeMol(copy, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    return copy.GetMol() if fine else mol


def _neutral(mol: Any) -> Any:
    from rdkit import Chem

    if not any(a.GetFormalCharge() for a in mol.GetAtoms()):
        return mol
    plain = _tools()[1].uncharge(_joined(mol))
    Chem.SanitizeMol(plain)
    return plain


def _names(mol: Any) -> tuple[str, str]:
    """Return the canonical SMILES with and without stereo."""
    from rdkit import Chem

    return Chem.MolToSmiles(mol), Chem.MolToSmiles(mol, isomericSmiles=False)


@cache
def _rule(kind: str, value: str) -> Any:
    """Return a rule ready to be compared; a job has many molecules for the same rules."""
    from rdkit import Chem

    if kind == "smarts":
        return Chem.MolFromSmarts(value)
    mol = _neutral(_bare(Chem.MolFromSmiles(value)))
    return _names(mol) if kind == "exact" else _tools()[0].GetFingerprint(mol)


def _same(rule: tuple[str, str], part: tuple[str, str]) -> bool:
    """Compare with stereo, or without it where one of the two leaves it open."""
    return rule[0] == part[0] or (rule[1] == part[1] and (rule[0] == rule[1] or part[0] == part[1]))


def denied(mol: Any, rows: Sequence[Any]) -> list[list[Any]]:
    """Return the rows (kind, value, threshold) that a molecule hits: kind, what, atoms.

    Example:
        >>> from rdkit import Chem
        >>> denied(Chem.MolFromSmiles("CC[O-].[Na+]"), [["exact", "CCO", 0.0]])
        [['exact', 'CCO', []]]
    """
    from rdkit import Chem, DataStructs

    whole = _bare(mol)
    # A salt is charged as a whole to balance, so its parts lose their charges one by one.
    parts = [_neutral(p) for p in (whole, *Chem.GetMolFrags(whole, asMols=True))]
    names = marks = keys = None
    hits: list[list[Any]] = []
    for kind, value, threshold in rows:
        if kind == "exact":
            names = names or [_names(p) for p in parts]
            if any(_same(_rule(kind, value), n) for n in names):
                hits.append([kind, value, []])
        elif kind == "similarity":
            marks = marks or [_tools()[0].GetFingerprint(p) for p in parts]
            close = max(DataStructs.BulkTanimotoSimilarity(_rule(kind, value), marks))
            if close >= threshold:
                hits.append([kind, f"{value} ({close:.2f})", []])
        elif kind == "inchikey":
            keys = keys or {Chem.MolToInchiKey(p) for p in (mol, whole, *parts)}
            if value in keys or (len(value) == 14 and value in {k[:14] for k in keys}):
                hits.append([kind, value, []])
        else:
            pattern = _rule(kind, value)
            match = mol.GetSubstructMatch(pattern)
            if match or any(p.HasSubstructMatch(pattern) for p in (whole, *parts)):
                hits.append([kind, value, list(match)])
    return hits
