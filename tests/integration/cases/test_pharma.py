"""The pharma case end to end: released molecules obey the pack, the red device is labelled."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("qiskit_aer")
pytest.importorskip("torch")
pytest.importorskip("pysmiles")

from benchmarks.pharma_release import sweep

from interlock.guard.filter.packs import molecules as pack_molecules

CASE = Path(__file__).parents[3] / "examples" / "pharma"
sys.path.insert(0, str(CASE))
import checker  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_case_runs_and_nothing_unsafe_leaves(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, str(CASE / "run.py"), "--quick", "--no-model", "--report", str(page)],
        capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "pack chem-v1, signed by the safety officer" in out
    assert "GREEN device, quantum generator (RELEASE): 150 proposed" in out
    assert "RED device, classical generator (FALLBACK): 150 proposed" in out
    assert out.count("0 violating releases") == 2
    assert "untrained circuit: FALLBACK, the classical baseline's energy -3, exact -3" in out
    assert "trained circuit: RELEASE, the circuit's energy -3, exact -3" in out
    assert "RED device: FALLBACK, the classical baseline" in out
    text = page.read_text()
    assert "<svg" in text
    assert "stability" in text
    assert "passed by a classical-only check" in text


def test_no_violating_molecule_is_released() -> None:
    tally = sweep(800, 150, model=False, seed=4)
    assert tally.violating == []
    assert tally.unread <= 3
    assert 50 < tally.released < 600


@pytest.mark.parametrize(
    ("smiles", "group"),
    [
        ("CCOOCC", "peroxide"), ("CN(C)ON(C)C", "three heteroatoms"), ("CN=[N+]=[N-]", "azide"),
        ("c1ccccc1[N+]#N", "diazonium"), ("CCCCC(=O)Cl", "acyl halide"),
        ("CCCCNCl", "halogen on N or O"), ("CCCC(O)(O)C", "gem-diol"),
        ("CCCNCO", "hemiaminal"), ("CC=C=C=CC", "cumulated double bonds"),
        ("C1CCCC#C1", "small-ring alkyne"),
        ("Cc1c([N+](=O)[O-])cc([N+](=O)[O-])cc1[N+](=O)[O-]", "three nitro groups"),
    ],
)  # fmt: skip
def test_both_readers_know_each_group(smiles: str, group: str) -> None:
    assert group in checker.faults(smiles, (2, 40))
    assert pack_molecules.assess(smiles, {})["unstable"]


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "CCCCS(=O)(=O)N"]
)
def test_neither_reader_minds_a_plain_molecule(smiles: str) -> None:
    assert checker.faults(smiles) == []
    assert not pack_molecules.assess(smiles, {})["unstable"]


def test_the_second_reader_minds_valence_size_and_charge() -> None:
    assert checker.faults("CC(C)(C)(C)(C)C")
    assert checker.faults("CC[CH4]CC")
    assert checker.faults("CCO") == ["3 heavy atoms"]
    assert "charge 3" in checker.faults("C[N+](C)(C)C[N+](C)(C)C[N+](C)(C)C")
    assert checker.faults("C1CC")[0].startswith("cannot be read")
