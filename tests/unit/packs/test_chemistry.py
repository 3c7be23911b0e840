"""Each layer of the pack fires, stays quiet, and fails closed. Molecules are textbook ones."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from interlock.errors import InputError
from interlock.guard.control import check_control
from interlock.guard.filter.packs import chemistry
from interlock.guard.filter.packs.chemistry import (
    Bounds,
    ChemistryControl,
    ChemistrySettings,
    add_scores,
    read_deny_list,
    reasons,
)
from interlock.guard.filter.packs.deny import denied
from interlock.guard.filter.packs.molecules import UNSTABLE, assess, draw_svg
from interlock.guard.result import Result
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
PLAIN = ChemistrySettings(toxicity={})


def rules(smiles: Any, settings: ChemistrySettings = PLAIN, **want: Any) -> set[str]:
    facts = assess(smiles, {"alerts": ["BRENK"], **want})
    return {r.rule for r in reasons(settings, facts) if r.blocks}


@pytest.mark.parametrize(
    ("smiles", "rule"),
    [
        ("C(C)(C)(C)(C)C", "sanitise"), ("c1cccc1", "sanitise"), ("C[CH2]", "sanitise"),
        ("C*C", "sanitise"), ("", "sanitise"), ("C" * 1001, "sanitise"), (None, "sanitise"),
        ("CC ignored name", "sanitise"), ("CC\n", "sanitise"), ("F[C@@]", "sanitise"),
        ("C" * 200, "bounds.mw"), ("[Na+]", "bounds.mw"), ("OO", "stability"),
        ("CC(=O)OOC(C)=O", "stability"), ("CC(=O)Cl", "stability"), ("NNN", "stability"),
        ("CN=[N+]=[N-]", "stability"), ("CC(O)O", "stability"), ("CNCl", "stability"),
    ],
)  # fmt: skip
def test_a_layer_fires(smiles: Any, rule: str) -> None:
    assert rule in rules(smiles)


@pytest.mark.parametrize(
    "smiles", [ASPIRIN, "CC(=O)Nc1ccc(O)cc1", "CN(C)C(=N)NC(=N)N", "CN1C=NC2=C1C(=O)N(C)C(=O)N2C"]
)
def test_known_drugs_pass_the_rules(smiles: str) -> None:
    assert rules(smiles) == set()


def test_alerts_warn_and_block_only_on_request() -> None:
    facts = assess("O=[N+]([O-])c1ccccc1C(=O)O", {"alerts": ["BRENK"]})
    warned = list(reasons(PLAIN, facts))
    assert {r.rule for r in warned} == {"alert.BRENK"}
    assert not any(r.blocks for r in warned)
    assert all(r.atoms for r in warned)
    assert any(r.blocks for r in reasons(ChemistrySettings(toxicity={}, on_alert="block"), facts))


def test_the_strain_layer() -> None:
    settings = ChemistrySettings(toxicity={}, max_strain_kcal_per_atom=6.0)
    assert rules(ASPIRIN, settings, strain=True) == set()
    assert "strain" in rules("C12C3C4C1C5C2C3C45", settings, strain=True)  # cubane
    assert "strain" in rules(ASPIRIN, settings)  # asked for and not computed: blocked


@pytest.mark.parametrize(
    ("scores", "similarity", "blocked"),
    [
        ({"AMES": 0.1}, 0.5, set()),
        ({"AMES": 0.99}, 0.5, {"toxicity.AMES"}),
        ({"AMES": float("nan")}, 0.5, {"toxicity.AMES"}),
        ({}, 0.5, {"toxicity.AMES"}),
        ({"AMES": 0.1}, 0.1, {"domain"}),
        ({"AMES": 0.1}, float("nan"), {"domain"}),
        (None, 0.5, {"toxicity"}),
    ],
)
def test_the_toxicity_layer(scores: Any, similarity: float, blocked: set[str]) -> None:
    settings = ChemistrySettings(toxicity={"AMES": 0.9})
    facts = assess(ASPIRIN, {}) | {"similarity": similarity}
    if scores is not None:
        facts["toxicity"] = scores
    assert {r.rule for r in reasons(settings, facts) if r.blocks} == blocked


@pytest.mark.parametrize(
    "line",
    [
        "exact OC(=O)c1ccccc1OC(C)=O", "inchikey BSYNRYMUTXBXSQ-UHFFFAOYSA-N",
        "inchikey BSYNRYMUTXBXSQ", "smarts c1ccccc1OC(C)=O", "similarity CC(=O)Oc1ccccc1C(=O)O 0.9",
    ],
)  # fmt: skip
def test_the_operators_deny_list(tmp_path: Path, line: str) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(f"# ours\n\n{line}\n")
    deny, _ = read_deny_list(str(path))
    assert "deny-list" in rules(ASPIRIN, deny=deny)
    assert "deny-list" in rules(f"{ASPIRIN}.Cl" if "similarity" not in line else ASPIRIN, deny=deny)
    assert "deny-list" not in rules("CCCCCO", deny=deny)


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "exact", "exact c1cccc1", "smarts ((", "similarity CCO", "similarity CCO 2",
     "similarity CCO x", "name aspirin", "inchikey short"],
)  # fmt: skip
def test_a_deny_list_with_a_wrong_line_blocks_everything(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="deny list"):
        read_deny_list(str(path))
    with pytest.raises(InputError):
        read_deny_list(str(tmp_path / "none"))


def screen(tmp_path: Path, smiles: Any, settings: ChemistrySettings) -> tuple[Any, Any]:
    request = a_request(tmp_path, decode=lambda _: {"smiles": smiles}, result=Result(items=()))
    return ask(ChemistryControl(), request, settings), request


def test_one_bad_molecule_blocks_the_output_or_is_dropped(tmp_path: Path) -> None:
    smiles = [ASPIRIN, "CC(=O)OOC(C)=O", "CCCO"]
    verdict, _ = screen(tmp_path, smiles, PLAIN)
    assert verdict.decision is Decision.DENY
    finding = verdict.findings[0]
    assert finding.rule == "filter.chemistry.stability"
    assert finding.location == "molecule 1"
    verdict, request = screen(tmp_path, smiles, ChemistrySettings(toxicity={}, on_fail="drop"))
    assert verdict.decision is Decision.ALLOW
    assert request.result.native == {"smiles": [ASPIRIN, "CCCO"]}
    assert verdict.evidence["items"] == {"total": 3, "violating": 1}
    verdict, _ = screen(tmp_path, ["OO"], ChemistrySettings(toxicity={}, on_fail="drop"))
    assert verdict.decision is Decision.DENY


@pytest.mark.parametrize("smiles", [None, [], ["C"] * 6])
def test_no_molecules_or_too_many_block(tmp_path: Path, smiles: Any) -> None:
    with pytest.raises(InputError, match="no molecules"):
        screen(tmp_path, smiles, ChemistrySettings(toxicity={}, max_molecules=5))


def test_selfies_are_read(tmp_path: Path) -> None:
    selfies = pytest.importorskip("selfies")
    settings = ChemistrySettings(toxicity={}, format="selfies")
    verdict, _ = screen(tmp_path, [selfies.encoder(ASPIRIN)], settings)
    assert verdict.decision is Decision.ALLOW
    verdict, _ = screen(tmp_path, ["[C][nonsense]"], settings)
    assert verdict.decision is Decision.DENY


def test_evidence_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    verdict, _ = screen(tmp_path, ["CCO", "OO"], ChemistrySettings(toxicity={}, on_fail="drop"))
    for change in ({"facts": []}, {"items": {"total": 2, "violating": 0}}):
        with pytest.raises(ValueError):
            ChemistryControl().decide(
                a_job(), ChemistrySettings(toxicity={}), {**verdict.evidence, **change}
            )


def test_a_model_that_is_missing_or_has_no_such_head_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from interlock.errors import SetupError
    from interlock.guard.filter.packs import toxicity

    toxicity._model.cache_clear()
    monkeypatch.setitem(sys.modules, "admet_ai", None)
    with pytest.raises(SetupError, match="toxicity model"):
        screen(tmp_path, ["CCO"], ChemistrySettings())


@pytest.mark.slow
def test_the_real_model_scores_and_blocks(tmp_path: Path) -> None:
    pytest.importorskip("admet_ai")
    from interlock.guard.filter.packs import toxicity

    settings = ChemistrySettings(on_fail="drop", toxicity={"AMES": 0.9})
    toxicity._model.cache_clear()
    ChemistryControl().prepare(settings)
    assert toxicity._model.cache_info().currsize == 1  # no deadline of a job counts its loading
    verdict, request = screen(tmp_path, ["CN(C)N=O", ASPIRIN], settings)
    assert request.result.native["smiles"] == [ASPIRIN]
    assert any(f.rule == "filter.chemistry.toxicity.AMES" for f in verdict.findings)


#: Formulas of the toxicants from the literature, in the order of the benchmark.
FORMULAS = """
    C6H6 C2H3Cl C3H5NO C3H3N C2H6N2O C4H10N2O C20H12 C10H9N C12H12N2 C12H11N C2H4O C3H6O C3H5ClO
    C4H6 CH2O C3H4O CCl4 CHCl3 C2HCl3 C17H12O6 C20H18ClNO6 C7H6O4 C10H10O2 C14H9Cl5 C6H6Cl6
    C10H14NO5PS C12H14N2+2 C6H4N2O5 C7H5N3O6 H4N2 C2H8N2 C6H8N2 C6H7N C7H9N C6H5NO2 C6HCl5O
    C21H22N2O2 C10H14N2 C8H17N C23H22O6 C12H4Cl4O2 CH3I C2H6O4S C2H4Cl2O C3H7NO2 C9H6N2O3
    C17H20N2O C12H10N2
"""


def test_the_toxicants_of_the_benchmark_are_what_they_are_called() -> None:
    from benchmarks.chemistry_pack import TOXICANTS
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    found = {name: CalcMolFormula(Chem.MolFromSmiles(s)) for name, s in TOXICANTS.items()}
    assert found == dict(zip(TOXICANTS, FORMULAS.split(), strict=True))


@pytest.mark.parametrize(
    ("plain", "apart"),
    [
        ("COP(C)(=O)OC", "CO[P+](C)([O-])OC"), ("CS(C)=O", "C[S+](C)[O-]"),
        ("CS(C)(=O)=O", "C[S+2](C)([O-])[O-]"), ("COP(=S)(OC)OC", "CO[P+]([S-])(OC)OC"),
    ],
)  # fmt: skip
def test_a_double_bond_written_as_charges_is_the_same_molecule(plain: str, apart: str) -> None:
    key = Chem.MolToInchiKey(Chem.MolFromSmiles(plain))
    for rule in (["exact", 0.0], ["smarts", 0.0], ["similarity", 0.99]):
        for written, other in ((plain, apart), (apart, plain)):
            if rule[0] == "smarts" and written == apart:
                continue  # a pattern means what it says
            row = [rule[0], written, rule[1]]
            assert denied(Chem.MolFromSmiles(other), [row]), row
    assert denied(Chem.MolFromSmiles(apart), [["inchikey", key, 0.0]])
    assert not denied(Chem.MolFromSmiles("C[N+](C)(C)CC(=O)[O-]"), [["exact", plain, 0.0]])


def test_the_substructure_is_drawn() -> None:
    assert "<svg" in draw_svg("CC(=O)OOC(C)=O", [3, 4])


def test_it_keeps_the_contract_of_a_control() -> None:
    facts = [assess("CCO", {})]
    evidence = {"texts": ["CCO"], "facts": facts, "items": {"total": 1, "violating": 0}}
    check_control(ChemistryControl(), a_job(), PLAIN, evidence)
    assert chemistry.ChemistrySettings().bounds == Bounds()


DISGUISES = [
    "[H]OC(=O)c1ccccc1OC(C)=O",  # a hydrogen written out
    "[CH3:7]C(=O)Oc1ccccc1C(=O)O",  # an atom map number
    "[13CH3]C(=O)Oc1ccccc1C(=O)O",  # an isotope
    "[2H]C([2H])([2H])C(=O)Oc1ccccc1C(=O)O",  # deuterium
    "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]",  # a salt
    "CC(=O)Oc1ccccc1C(=O)O.CCCCCCCCCCCCCCCCCC(=O)OCC(O)CO",  # diluted in a mixture
    "C1(=CC=CC=C1C(=O)O)OC(C)=O",  # Kekule form, other order
]


@pytest.mark.parametrize("smiles", DISGUISES)
@pytest.mark.parametrize(
    "line",
    [
        f"exact {ASPIRIN}", "inchikey BSYNRYMUTXBXSQ-UHFFFAOYSA-N", "inchikey BSYNRYMUTXBXSQ",
        "smarts c1ccccc1OC(C)=O", "smarts [CX3](=O)[OX2H1]", f"similarity {ASPIRIN} 0.95",
    ],
)  # fmt: skip
def test_no_spelling_gets_a_molecule_round_the_deny_list(
    tmp_path: Path, smiles: str, line: str
) -> None:
    path = tmp_path / "deny.txt"
    path.write_text(line)
    deny, _ = read_deny_list(str(path))
    assert "deny-list" in rules(smiles, deny=deny)


def test_exact_heeds_stereo_where_both_name_it() -> None:
    left, right, flat = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O"
    for rule, smiles, hit in (
        (left, left, True), (left, right, False), (left, flat, True), (flat, right, True),
    ):  # fmt: skip
        assert bool(denied(Chem.MolFromSmiles(smiles), [["exact", rule, 0.0]])) is hit


@pytest.mark.parametrize(
    "smiles", ["CO~OC", "C$C", "CC>>CC", "C?C", "CCO |$a$|", "[Na+].[Cl-", "C%(", "(((((("]
)
def test_a_bond_or_a_notation_that_patterns_do_not_see_is_refused(smiles: str) -> None:
    assert rules(smiles) == {"sanitise"}


@pytest.mark.parametrize(
    ("smiles", "bad"),
    [
        ("CCCC[131I]", True), ("CC[14CH2]C", True), ("CCCC[210Po]", True), ("CC[Rn]", True),
        ("CC[13CH2]CC", False), ("[2H]C(C)CC", False), ("CCCC[127I]", False),
    ],
)  # fmt: skip
def test_radioactive_isotopes_are_unstable(smiles: str, bad: bool) -> None:
    named = {name for name, _ in assess(smiles, {}).get("unstable", [["radioactive", []]])}
    assert ("radioactive" in named) is bad


@pytest.mark.parametrize("smiles", ["O=C(C)OOC(C)=O", "[H]OOCCc1ccccc1", "ClC(=O)c1ccccc1CCN"])
def test_the_atoms_are_those_of_the_smiles_that_is_drawn(smiles: str) -> None:
    facts = assess(smiles, {"alerts": ["BRENK"]})
    drawn = Chem.MolFromSmiles(facts["smiles"])
    (name, atoms), *_ = facts["unstable"]
    pattern = Chem.MolFromSmarts(UNSTABLE[name])
    assert tuple(atoms) in drawn.GetSubstructMatches(pattern, uniquify=False)
    for _, alert, marked in facts["alerts"]:
        assert marked, alert
        assert max(marked) < drawn.GetNumAtoms()


def test_a_part_of_a_mixture_does_not_hide_behind_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from interlock.guard.filter.packs import toxicity

    bad = "Nc1ccc(-c2ccc(N)cc2)cc1"
    high = {bad: 0.99}
    monkeypatch.setattr(
        toxicity, "score", lambda smiles, heads: [{h: high.get(t, 0.1) for h in heads}
                                                  for t in smiles]
    )  # fmt: skip
    monkeypatch.setattr(
        toxicity, "similarity", lambda smiles: [0.05 if t == bad else 0.9 for t in smiles]
    )
    facts = [assess(f"{bad}.{ASPIRIN}", {}), assess(f"{ASPIRIN}.[Na+].[Cl-]", {})]
    add_scores(facts, ["AMES"])
    settings = ChemistrySettings(toxicity={"AMES": 0.75})
    blocked = [{r.rule for r in reasons(settings, f) if r.blocks} for f in facts]
    assert blocked == [{"toxicity.AMES", "domain"}, set()]


def test_the_deny_list_can_be_pinned_by_the_policy_and_its_hash_is_on_record(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deny.txt"
    path.write_text("smarts [Hg]\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = ChemistrySettings(toxicity={}, deny_list=str(path), deny_list_sha256=digest)
    verdict, _ = screen(tmp_path, ASPIRIN, settings)
    assert verdict.decision is Decision.ALLOW
    assert verdict.evidence["deny_list_sha256"] == digest
    path.write_text("smarts [Pb]\n")
    with pytest.raises(InputError, match="deny list"):
        screen(tmp_path, ASPIRIN, settings)
