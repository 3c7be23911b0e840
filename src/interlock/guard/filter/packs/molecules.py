"""Facts about one molecule, by layer; runs in a confined child, because the text is hostile."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

__all__ = ["PROPERTIES", "UNSTABLE", "assess", "assess_bytes", "draw_svg", "warm_up"]

PROPERTIES = ("mw", "logp", "tpsa", "donors", "acceptors", "rotatable", "charge", "heavy", "rings")
_MAX_TEXT = 1000
_CATALOGS = ("PAINS", "BRENK", "NIH")

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
    assess("CCO", {"strain": True, "alerts": list(_CATALOGS)})


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
    return mol, None


def assess(text: Any, want: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about one molecule.

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
    from rdkit import Chem

    mol, why = _parse(text, str(want.get("format", "smiles")))
    if mol is None:
        return {"ok": False, "error": why}
    facts: dict[str, Any] = {
        "ok": True,
        "smiles": Chem.MolToSmiles(mol),
        "fragments": len(Chem.GetMolFrags(mol)),
        "properties": _properties(mol),
        "unstable": [
            [name, list(match)]
            for name, pattern in _stability()
            if (match := mol.GetSubstructMatch(pattern))
        ],
    }
    facts["alerts"] = [row for name in want.get("alerts", ()) for row in _alerts(mol, name)]
    if want.get("strain"):
        facts["strain"] = _strain(mol)
    if want.get("deny"):
        facts["denied"] = _denied(mol, facts["smiles"], want["deny"])
    return facts


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


def _denied(mol: Any, smiles: str, rows: list[Any]) -> list[list[Any]]:
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    hits: list[list[Any]] = []
    key, mark = None, None
    parts = Chem.GetMolFrags(mol, asMols=True)
    for kind, value, threshold in rows:
        if kind in ("exact", "similarity"):
            other = Chem.MolFromSmiles(value)
            if kind == "exact":
                same = Chem.MolToSmiles(other)
                if same == smiles or any(Chem.MolToSmiles(p) == same for p in parts):
                    hits.append([kind, value, []])
            else:
                mark = mark or make.GetFingerprint(mol)
                close = DataStructs.TanimotoSimilarity(mark, make.GetFingerprint(other))
                if close >= threshold:
                    hits.append([kind, f"{value} ({close:.2f})", []])
        elif kind == "inchikey":
            key = key or {Chem.MolToInchiKey(p) for p in (mol, *parts)}
            if value in key or (len(value) == 14 and value in {k[:14] for k in key}):
                hits.append([kind, value, []])
        elif match := mol.GetSubstructMatch(Chem.MolFromSmarts(value)):
            hits.append([kind, value, list(match)])
    return hits


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
