"""The toxicity layer: ADMET-AI's published ensembles, with an applicability domain.

ADMET-AI (Swanson et al., Bioinformatics 2024) ships its weights in its wheel, so nothing is
downloaded. Its scores are learnt from public assays: a screening aid, not toxicology. A molecule
unlike every approved drug the wheel lists (largest Tanimoto similarity of ECFP4 below a bound) is
outside the domain, and a score there means little.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from interlock.errors import SetupError

__all__ = ["approved_drugs", "score", "similarity"]

#: Scores by heads and molecule: the model answers the same each time, and takes 10 ms.
_known: dict[tuple[tuple[str, ...], str], dict[str, float]] = {}
_MOST_KNOWN = 100_000


def _need() -> Any:
    try:
        import admet_ai
    except ImportError as error:
        raise SetupError(
            "the toxicity model is not installed",
            code="extra-missing",
            got=str(error),
            expected="admet-ai",
            fix="pip install 'interlock[chem-ml]', or set filter.chemistry.toxicity to {}",
        ) from error
    return admet_ai


@cache
def _model() -> Any:
    return _need().ADMETModel(include_physchem=False, drugbank_path=None, num_workers=0)


@cache
def approved_drugs() -> tuple[tuple[str, str], ...]:
    """Return (name, SMILES) of the approved drugs ADMET-AI lists."""
    _need()
    import csv

    from admet_ai.constants import DEFAULT_DRUGBANK_PATH

    with open(DEFAULT_DRUGBANK_PATH, encoding="utf-8") as file:  # noqa: PTH123 - may be a Traversable
        return tuple((row["name"], row["smiles"]) for row in csv.DictReader(file))


@cache
def _reference() -> Any:
    from rdkit import Chem

    return [
        _fingerprint(mol)
        for _, smiles in approved_drugs()
        if (mol := Chem.MolFromSmiles(smiles)) is not None
    ]


def _fingerprint(mol: Any) -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024).GetFingerprint(mol)


def similarity(smiles: Sequence[str]) -> list[float]:
    """Return the largest similarity of each molecule to an approved drug."""
    from rdkit import Chem, DataStructs

    return [
        round(
            max(
                DataStructs.BulkTanimotoSimilarity(
                    _fingerprint(Chem.MolFromSmiles(text)), _reference()
                )
            ),
            4,
        )
        for text in smiles
    ]


def score(smiles: Sequence[str], heads: Sequence[str]) -> list[dict[str, float]]:
    """Return the scores of sanitised molecules, one mapping of head to score each.

    Raises:
        SetupError: the model is missing, or has no such head.
    """
    asked = tuple(heads)
    if len(_known) > _MOST_KNOWN:
        _known.clear()
    unknown = [text for text in dict.fromkeys(smiles) if (asked, text) not in _known]
    if unknown:
        for text, row in _predicted(unknown, asked).items():
            _known[asked, text] = row
    return [dict(_known[asked, text]) for text in smiles]


def _predicted(smiles: Sequence[str], heads: Sequence[str]) -> dict[str, dict[str, float]]:
    model = _model()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        table = model.predict(smiles=list(smiles))
    missing = sorted(set(heads) - set(table.columns))
    if missing:
        raise SetupError(
            "the toxicity model has no such head",
            code="toxicity-head",
            got=", ".join(missing),
            expected="one of " + ", ".join(table.columns),
            fix="change the keys of filter.chemistry.toxicity",
        )
    return {
        text: {head: round(float(table.at[text, head]), 6) for head in heads} for text in smiles
    }
