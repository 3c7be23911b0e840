"""Facts about one molecule, by layer; runs in a confined child, because the text is hostile."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from interlock.guard.filter.packs.deny import denied

__all__ = ["PROPERTIES", "UNSTABLE", "assess", "assess_bytes", "draw_svg", "warm_up"]

PROPERTIES = ("mw", "logp", "tpsa", "donors", "acceptors", "rotatable", "charge", "heavy", "rings")
_MAX_TEXT = 1000
_CATALOGS = ("PAINS", "BRENK", "NIH")
_BONDS = frozenset({"SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", "DATIVE"})
_NO_STABLE_ISOTOPE = frozenset({43, 61, *range(84, 119)})

#: Groups that fall apart or explode on the shelf; rule of thumb, not kinetics.
UNSTABLE: dict[str, str] = {
    "peroxide": "[OX2][OX2]",
    "three-heteroatom-chain": "[NX3,OX2;!$(*~[#6,#15,#16]=*)]-[NX3,OX2]-[NX3,OX2]",
    "azide": "[N]=[N+]=[N-]",
    "diazonium": "[#6][NX2+]#[NX1]",
    "acyl-halide": "[CX3](=[OX1])[F,Cl,Br,I]",
    "halogen-heteroatom": "[#7,#8;!$([N+])][Cl,Br,I]",
    "gem-diol": "[CX4;!$(C(O)(O)C(F)(F)F)]([OX2H])[OX2H]",
    "hemiaminal-ch2": "[NX3;H2,H1][CX4;H2][OX2H]",
    "triplet-allene": "[#6]=[#6]=[#6]=[#6]",
    "small-ring-alkyne": "[#6;r3,r4,r5,r6]#[#6;r3,r4,r5,r6]",
    "polynitro": "[N+](=O)[O-].[N+](=O)[O-].[N+](=O)[O-]",
}


@cache
def _stability() -> list[tuple[str, Any]]:
    from rdkit import Chem

    return [(name, Chem.MolFromSmarts(text)) for name, text in UNSTABLE.items()]


@cache
def _catalog(name: str) -> Any:
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    params = FilterCatalogParams()
    params.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog(params)


def warm_up() -> None:
    """Import what is needed and build the catalogs before the fork: a child reads no files."""
    with contextlib.suppress(ImportError):
        importlib.import_module("selfies")
    for name in _CATALOGS:
        _catalog(name)
    deny = [["exact", "CCO", 0.0], ["inchikey", "A" * 14, 0.0], ["similarity", "CCO", 1.0]]
    assess("CC[O-].[Na+]", {"strain": True, "alerts": list(_CATALOGS), "deny": deny})


def assess_bytes(payload: bytes) -> bytes:
    """Assess many molecules: `{"texts": [...], "want": {...}}` in, a JSON list out."""
    request = msgspec.json.decode(payload)
    want = request["want"]
    return msgspec.json.encode([assess(text, want) for text in request["texts"]])


def _parse(text: Any, notation: str) -> tuple[Any, str | None]:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT:
        return None, f"not a text of 1 to {_MAX_TEXT} characters"
    if notation == "selfies":
        import selfies

        try:
            text = selfies.decoder(text)
        except Exception as error:  # noqa: BLE001 - hostile text; any failure is a refusal
            return None, f"SELFIES: {type(error).__name__}"
    if any(ord(c) < 33 or ord(c) > 126 for c in text):
        return None, "characters that no SMILES has"
    mol = Chem.MolFromSmiles(text, sanitize=False)
    if mol is None:
        return None, "cannot be parsed"
    if mol.GetNumAtoms() == 0:
        return None, "no atom"
    failed = Chem.SanitizeMol(mol, catchErrors=True)
    if failed != Chem.SanitizeFlags.SANITIZE_NONE:
        problems = Chem.DetectChemistryProblems(mol)
        return None, problems[0].Message()[:160] if problems else f"sanitise: {failed}"
    radicals = sum(a.GetNumRadicalElectrons() for a in mol.GetAtoms())
    if radicals:
        return None, f"{radicals} unpaired electrons"
    if any(a.GetAtomicNum() == 0 for a in mol.GetAtoms()):
        return None, "a wildcard atom"
    if any(str(b.GetBondType()) not in _BONDS for b in mol.GetBonds()):
        return None, "a bond that is not single, double, triple, aromatic or dative"
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    if any(a.GetAtomicNum() == 1 for a in mol.GetAtoms()):
        # Written out, a hydrogen is an atom more, and one molecule becomes another.
        mol = Chem.RemoveHs(mol)
    smiles = Chem.MolToSmiles(mol)
    # Atoms are counted as in this SMILES, so that what is drawn from it marks the right ones.
    order = mol.GetPropsAsDict(includePrivate=True, includeComputed=True)["_smilesAtomOutputOrder"]
    mol = Chem.RenumberAtoms(mol, list(order))
    return (mol, smiles), None


def assess(text: Any, want: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about one molecule; atoms are numbered as in its `smiles`.

    Args:
        text: SMILES, or SELFIES when `want["format"]` says so.
        want: `format`, `strain` (bool), `alerts` (catalog names), `deny` (rows of kind, value,
            threshold).

    Example:
        >>> facts = assess("CC(=O)OOC(C)=O", {})
        >>> facts["ok"], facts["unstable"][0][0]
        (True, 'peroxide')
        >>> assess("C(C)(C)(C)(C)C", {})["ok"]
        False
    """
    read, why = _parse(text, str(want.get("format", "smiles")))
    if read is None:
        return {"ok": False, "error": why}
    mol, smiles = read
    facts: dict[str, Any] = {
        "ok": True,
        "smiles": smiles,
        "parts": _parts(mol) if "." in smiles else [],
        "properties": _properties(mol),
        "unstable": [
            [name, list(match)]
            for name, pattern in _stability()
            if (match := mol.GetSubstructMatch(pattern))
        ],
    }
    decays = [a.GetIdx() for a in mol.GetAtoms() if _is_radioactive(a)]
    if decays:
        facts["unstable"].append(["radioactive", decays])
    facts["alerts"] = [row for name in want.get("alerts", ()) for row in _alerts(mol, name)]
    if want.get("strain"):
        facts["strain"] = _strain(mol)
    if want.get("deny"):
        facts["denied"] = denied(mol, want["deny"])
    return facts


def _parts(mol: Any) -> list[str]:
    """Return the SMILES of the parts of a mixture that hold carbon, each once."""
    from rdkit import Chem

    parts = Chem.GetMolFrags(mol, asMols=True)
    organic = [p for p in parts if any(a.GetAtomicNum() == 6 for a in p.GetAtoms())]
    return sorted({Chem.MolToSmiles(p) for p in organic})


def _is_radioactive(atom: Any) -> bool:
    from rdkit import Chem

    isotope, number = atom.GetIsotope(), atom.GetAtomicNum()
    if not isotope:
        return number in _NO_STABLE_ISOTOPE
    return not Chem.GetPeriodicTable().GetAbundanceForIsotope(number, isotope) > 0.0


def _properties(mol: Any) -> dict[str, float]:
    from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors, rdmolops

    return {
        "mw": round(Descriptors.MolWt(mol), 3),
        "logp": round(Crippen.MolLogP(mol), 3),
        "tpsa": round(rdMolDescriptors.CalcTPSA(mol), 2),
        "donors": rdMolDescriptors.CalcNumHBD(mol),
        "acceptors": rdMolDescriptors.CalcNumHBA(mol),
        "rotatable": rdMolDescriptors.CalcNumRotatableBonds(mol),
        "charge": rdmolops.GetFormalCharge(mol),
        "heavy": mol.GetNumHeavyAtoms(),
        "rings": rdMolDescriptors.CalcNumRings(mol),
    }


def _alerts(mol: Any, name: str) -> list[list[Any]]:
    rows = []
    for entry in _catalog(name).GetMatches(mol):
        matches = entry.GetFilterMatches(mol)
        atoms = sorted({pair[1] for m in matches for pair in m.atomPairs})
        rows.append([name, entry.GetDescription(), atoms])
    return rows


def _strain(mol: Any) -> dict[str, Any]:
    """MMFF94 energy of one embedded and relaxed conformer, for each heavy atom (seeded)."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    full = Chem.AddHs(mol)
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = 7
    params.maxIterations = 20
    if rdDistGeom.EmbedMolecule(full, params) != 0:
        return {"kcal_per_atom": None, "why": "no conformer could be built"}
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(full)
    if properties is None:
        return {"kcal_per_atom": None, "why": "MMFF94 has no parameters for it"}
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(full, properties)
    field.Minimize(maxIts=200)
    return {"kcal_per_atom": round(field.CalcEnergy() / mol.GetNumHeavyAtoms(), 3)}


def draw_svg(smiles: str, atoms: list[int], size: tuple[int, int] = (220, 160)) -> str:
    """Return an SVG of a molecule with some atoms highlighted.

    Example:
        >>> draw_svg("CCO", [2]).count("<svg")
        1
    """
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    mol = Chem.MolFromSmiles(smiles)
    drawer = rdMolDraw2D.MolDraw2DSVG(*size)
    known = [a for a in atoms if mol is not None and a < mol.GetNumAtoms()]
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol, highlightAtoms=known)
    drawer.FinishDrawing()
    return str(drawer.GetDrawingText()).split("?>", 1)[-1]
