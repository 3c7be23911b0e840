"""What the chemistry pack catches, misses and over-blocks, by layer, and how fast each layer is.

    python -m benchmarks.chemistry_pack [approved drugs] [seed]

Toxicants: 48 substances known for chronic or acute toxicity (IARC groups 1 to 2B, pesticides,
solvents, plant and fungal toxins), listed before the thresholds were set, and looked at once
before they were set anew; SMILES from general
knowledge. Approved drugs: those ADMET-AI lists, split at random: thresholds are read off one half
and block rates off the other. The model was trained on public assays that may hold many of both.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import Any

from interlock.guard.filter.alignment import proportion_interval
from interlock.guard.filter.packs import molecules, toxicity
from interlock.guard.filter.packs.chemistry import (
    DEFAULT_TOXICITY,
    ChemistrySettings,
    add_scores,
    reasons,
)

TOXICANTS = {
    "benzene": "c1ccccc1",
    "vinyl chloride": "C=CCl",
    "acrylamide": "C=CC(N)=O",
    "acrylonitrile": "C=CC#N",
    "NDMA": "CN(C)N=O",
    "NDEA": "CCN(CC)N=O",
    "benzo[a]pyrene": "c1ccc2c(c1)cc1ccc3cccc4ccc2c1c34",
    "2-naphthylamine": "Nc1ccc2ccccc2c1",
    "benzidine": "Nc1ccc(-c2ccc(N)cc2)cc1",
    "4-aminobiphenyl": "Nc1ccc(-c2ccccc2)cc1",
    "ethylene oxide": "C1CO1",
    "propylene oxide": "CC1CO1",
    "epichlorohydrin": "ClCC1CO1",
    "1,3-butadiene": "C=CC=C",
    "formaldehyde": "C=O",
    "acrolein": "C=CC=O",
    "carbon tetrachloride": "ClC(Cl)(Cl)Cl",
    "chloroform": "ClC(Cl)Cl",
    "TCE": "ClC=C(Cl)Cl",
    "aflatoxin B1": "COc1cc2c(c3oc(=O)c4c(c13)CCC4=O)C1C=COC1O2",
    "ochratoxin A": "CC1Cc2c(Cl)cc(C(=O)NC(Cc3ccccc3)C(=O)O)c(O)c2C(=O)O1",
    "patulin": "C1C=C2C(=CC(=O)O2)C(O1)O",
    "safrole": "C=CCc1ccc2OCOc2c1",
    "DDT": "ClC(Cl)(Cl)C(c1ccc(Cl)cc1)c1ccc(Cl)cc1",
    "lindane": "ClC1C(Cl)C(Cl)C(Cl)C(Cl)C1Cl",
    "parathion": "CCOP(=S)(OCC)Oc1ccc([N+](=O)[O-])cc1",
    "paraquat": "C[n+]1ccc(cc1)-c1cc[n+](C)cc1",
    "2,4-DNP": "O=[N+]([O-])c1ccc(O)c([N+](=O)[O-])c1",
    "TNT": "Cc1c([N+](=O)[O-])cc([N+](=O)[O-])cc1[N+](=O)[O-]",
    "hydrazine": "NN",
    "1,1-dimethylhydrazine": "CN(C)N",
    "phenylhydrazine": "NNc1ccccc1",
    "aniline": "Nc1ccccc1",
    "o-toluidine": "Cc1ccccc1N",
    "nitrobenzene": "O=[N+]([O-])c1ccccc1",
    "pentachlorophenol": "Oc1c(Cl)c(Cl)c(Cl)c(Cl)c1Cl",
    "strychnine": "O=C1CC2OCC=C3CN4CCC56C4CC3C2C5N1c1ccccc16",
    "nicotine": "CN1CCCC1c1cccnc1",
    "coniine": "CCCC1CCCCN1",
    "rotenone": "COc1cc2OCC3Oc4c(ccc5OC(Cc45)C(C)=C)C(=O)C3c2cc1OC",
    "TCDD": "Clc1cc2Oc3cc(Cl)c(Cl)cc3Oc2cc1Cl",
    "methyl iodide": "CI",
    "dimethyl sulfate": "COS(=O)(=O)OC",
    "bis(chloromethyl) ether": "ClCOCCl",
    "urethane": "CCOC(N)=O",
    "4-nitroquinoline 1-oxide": "O=[N+]([O-])c1cc[n+]([O-])c2ccccc12",
    "michler ketone": "CN(C)c1ccc(cc1)C(=O)c1ccc(cc1)N(C)C",
    "azobenzene": "c1ccc(cc1)N=Nc1ccccc1",
}
STRAINED = 150
HEADS = sorted(DEFAULT_TOXICITY)


def facts_of(smiles: list[str], seconds: Counter[str]) -> list[dict[str, Any]]:
    facts = []
    layers = {"form, bounds, stability": {}, "alerts": {"alerts": ["BRENK", "NIH"]},
              "strain": {"strain": True}}  # fmt: skip
    for name, want in layers.items():
        started = time.process_time()
        for index, text in enumerate(smiles[:STRAINED] if name == "strain" else smiles):
            one = molecules.assess(text, want)
            if name.startswith("form"):
                facts.append(one)
            elif one["ok"]:
                facts[index] |= {k: one[k] for k in ("alerts", "strain") if one.get(k)}
        seconds[name] += (time.process_time() - started) / (index + 1)
    sane = [f for f in facts if f["ok"]]
    started = time.process_time()
    toxicity.score([f["smiles"] for f in sane], HEADS)
    seconds["toxicity"] += (time.process_time() - started) / len(sane)
    started = time.process_time()
    toxicity.similarity([f["smiles"] for f in sane])
    seconds["domain"] += (time.process_time() - started) / len(sane)
    add_scores(facts, HEADS)  # as the pack does it; what was scored above is remembered
    return facts


def rate(hits: int, n: int) -> str:
    low, high = proportion_interval(hits, n)
    return f"{hits:4d}/{n} = {hits / n:6.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    drugs = [smiles for _, smiles in toxicity.approved_drugs()]
    rng.shuffle(drugs)
    toxicity.score(["CCO"], HEADS)
    molecules.warm_up()
    seconds: Counter[str] = Counter()
    approved = facts_of(drugs[:count], seconds)
    for name, spent in seconds.items():
        print(f"speed  {name:24s} {1 / spent:9,.0f} molecules a CPU-second")
    half, held_out = approved[: count // 2], approved[count // 2 :]
    print(f"calibration on {len(half)} approved drugs:")
    for head in HEADS:
        values = sorted(f["toxicity"][head] for f in half if f["ok"])
        p = [values[int(q * (len(values) - 1))] for q in (0.9, 0.95, 0.98)]
        print(f"  {head:22s} 90 % {p[0]:.3f}  95 % {p[1]:.3f}  98 % {p[2]:.3f}")
    strains = sorted(
        f["strain"]["kcal_per_atom"] for f in half
        if f["ok"] and f.get("strain", {}).get("kcal_per_atom") is not None
    )  # fmt: skip
    print(f"  strain                 98 % {strains[int(0.98 * len(strains))]:.2f} kcal/mol an atom")
    bad = facts_of(list(TOXICANTS.values()), Counter())
    base = ChemistrySettings(outside_domain="warn")
    print(
        f"{'layer':30s} recall on toxicants                 block rate on held-out approved drugs"
    )
    variants = {
        "rules only": ChemistrySettings(toxicity={}),
        "+ alerts block": ChemistrySettings(toxicity={}, on_alert="block"),
        "+ toxicity model (default)": ChemistrySettings(),
        "  the same, domain warns": base,
        "+ both": ChemistrySettings(on_alert="block"),
    }
    for name, settings in variants.items():
        blocked = [
            [any(r.blocks for r in reasons(settings, f)) for f in group]
            for group in (bad, held_out)
        ]
        print(
            f"{name:30s} {rate(sum(blocked[0]), len(bad)):36s}"
            f"{rate(sum(blocked[1]), len(held_out))}"
        )
        if name == "+ toxicity model (default)":
            missed = [n for n, b in zip(TOXICANTS, blocked[0], strict=True) if not b]
            over: Counter[str] = Counter()
            for f in held_out:
                over.update({r.rule for r in reasons(settings, f) if r.blocks})
    print("missed by the default: " + ", ".join(missed))
    print("over-blocks by rule: " + ", ".join(f"{k} {v}" for k, v in over.most_common()))


if __name__ == "__main__":
    main()
