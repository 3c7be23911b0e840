"""A quantum generator on a noisy twin proposes molecules; what is unsafe does not leave.

    python examples/pharma/run.py [--molecules 2000] [--quick] [--no-model] [--report report.html]

Simulated device, real chemistry checks. A Born machine is trained on drug-like molecules and run on
the noisy twin of a real device under a policy a safety officer signed; then on a device whose
calibration is 60 days old (red), where the classical generator answers, labelled. Then folds of a
lattice protein, held to exact enumeration.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import born
import checker
import fold
import molecules
import numpy as np
import page
import torch
import yaml
from qiskit import transpile
from rdkit import Chem, RDLogger
from rdkit.Chem import QED

import interlock
from interlock.backends.twins import TwinSampler, twin
from interlock.crypto.keys import KeyStore
from interlock.guard import bundle
from interlock.guard.filter.packs.chemistry import ChemistrySettings, reasons
from interlock.guard.policy import Policy
from interlock.guard.record import recorded

HERE = Path(__file__).parent
STABLE = 5  # the first parts of `molecules.PARTS` are those a chemist would keep
SEQUENCES = {"quick": ("HPHPPHPH",), "full": ("HPHPPHPH", "HPHPPHHPH")}


def text(number: int) -> str:
    """Return the molecule of an integer."""
    return molecules.decode(f"{number:0{molecules.BITS}b}")


def drug_likeness() -> np.ndarray:
    """Return QED (Bickerton et al., Nat. Chem. 4, 90) of every molecule, 0 for what is none."""
    RDLogger.DisableLog("rdApp.*")
    values = np.zeros(2**molecules.BITS)
    for number in range(len(values)):
        mol = Chem.MolFromSmiles(text(number))
        values[number] = 0.0 if mol is None else QED.qed(mol)
    return values


def data_set(likeness: np.ndarray, rng: np.random.Generator, count: int = 300) -> np.ndarray:
    """Return the chemist's data: some stable molecules of the more drug-like half."""
    numbers = np.arange(len(likeness))
    stable = np.all([(numbers >> (3 * k)) % 8 < STABLE for k in range(3)], axis=0)
    kept = numbers[stable & (likeness > 0)]
    kept = kept[likeness[kept] >= np.median(likeness[kept])]
    return rng.choice(kept, count, replace=False)


@dataclass
class Generators:
    """The trained Born machine, its classical twin, and what they were trained on."""

    ansatz: born.Ansatz
    angles: torch.Tensor
    untrained: torch.Tensor
    losses: list[float]
    tree: born.Tree
    likeness: np.ndarray
    data: np.ndarray

    @classmethod
    def learn(cls, steps: int) -> Generators:
        """Train both on the same data."""
        likeness = drug_likeness()
        data = data_set(likeness, np.random.default_rng(1))
        target = np.bincount(data, minlength=len(likeness)) / len(data)
        ansatz = born.Ansatz(molecules.BITS, 2)
        angles, losses = born.train(ansatz, born.discrepancy(target), steps=steps, seed=1)
        tree = born.Tree(data, molecules.BITS)
        return cls(ansatz, angles, ansatz.start(1), losses, tree, likeness, data)

    def classical(self, pubs: list[Any]) -> list[dict[str, int]]:
        """The classical generator: the tree, seeded."""
        drawn = self.tree.sample(pubs[0].shots, np.random.default_rng(11))
        return [Counter(f"{n:0{molecules.BITS}b}" for n in drawn.tolist())]

    def compared(self, on_device: list[str], count: int) -> str:
        """Return the table of generators: what each proposes."""
        rng = np.random.default_rng(8)
        number = {text(n): n for n in range(len(self.likeness))}
        size = len(self.likeness)
        draw = lambda a: rng.choice(size, count, p=self.ansatz.probabilities(a).numpy())  # noqa: E731
        drawn = {
            "uniform bits": rng.integers(size, size=count),
            "Born machine, untrained": draw(self.untrained),
            "Born machine, trained, exact": draw(self.angles),
            "Born machine, trained, noisy twin": np.array([number[s] for s in on_device]),
            "classical twin (Chow-Liu tree)": self.tree.sample(count, rng),
        }
        rows = [f"{'generator':36}mean QED  in the data  no fault (second reader)"]
        for name, numbers in drawn.items():
            different = {int(n): not checker.faults(text(int(n))) for n in set(numbers.tolist())}
            sound = np.mean([different[int(n)] for n in numbers])
            known = np.isin(numbers, self.data).mean()
            rows.append(f"{name:36}{self.likeness[numbers].mean():8.3f}{known:13.1%}{sound:12.1%}")
        return "\n".join(rows)


def decode(result: Any) -> dict[str, Any]:
    """Return the molecules of a result, one a shot, in a fixed order."""
    counts = result[0].data.meas.get_counts()
    return {"smiles": [molecules.decode(b) for b in sorted(counts) for _ in range(counts[b])]}


def signed(home: Path, name: str, *, without_model: bool = False) -> Policy:
    """Let the safety officer sign a pack, and open it as the home that trusts the officer does."""
    officer = KeyStore(home.parent / "officer")
    folder = home.parent / name
    folder.mkdir(exist_ok=True)
    document = yaml.safe_load((HERE / name / "policy.yaml").read_text())
    if without_model:
        document["filter"]["chemistry"]["toxicity"] = {}
    (folder / "policy.yaml").write_text(yaml.safe_dump(document))
    path = home.parent / f"{name}.bundle"
    path.write_bytes(bundle.sign(bundle.build(folder), officer))
    bundle.trust(home, bundle.public_keys(officer))
    return bundle.open_bundle(path, home).policy()


def last_record(home: Path) -> tuple[dict[str, Any], str, str]:
    """Return the evidence of the last job by branch, stage and control, its outcome and its id."""
    with recorded(home) as ledger:
        entry = [e for e in ledger.entries() if "outcome" in e.header][-1]
    evidence = {
        (stage["branch"], stage["stage"], control["control"]): control["evidence"]
        for stage in (entry.payload or {})["trace"]["stages"]
        for control in stage["controls"]
    }
    return evidence, str(entry.header["outcome"]), str(entry.header["job"])


def generate(
    home: Path, policy: Policy, generators: Generators, count: int, *, red: bool
) -> dict[str, Any]:
    """Return proposed, released and judged molecules of one guarded job, as the ledger has them."""
    device = twin("montreal", age_s=60 * 86400.0 if red else 0.0)
    circuit = transpile(
        generators.ansatz.circuit(generators.angles), device,
        optimization_level=3, seed_transpiler=7,
    )  # fmt: skip
    sampler = interlock.guard(
        TwinSampler(device, seed=5), policy=policy, home=home, decode=decode,
        fallback=generators.classical, pipeline="pharma-red" if red else "pharma",
    )  # fmt: skip
    out = sampler.run([circuit], shots=count).result()
    released = out["smiles"] if isinstance(out, dict) else decode(out)["smiles"]
    # What was proposed, why it was blocked and the label come from the record.
    evidence, outcome, job = last_record(home)
    found = [
        v for (_, stage, name), v in evidence.items() if (stage, name) == ("filter", "chemistry")
    ]
    settings = next(b.settings for b in policy.controls("filter") if b.id == "chemistry")
    judged = {
        smiles: judge(settings, facts)
        for smiles, facts in zip(found[-1]["texts"], found[-1]["facts"], strict=True)
    }
    by = "classical generator" if outcome == "FALLBACK" else "quantum generator"
    return {
        "title": f"{'RED' if red else 'GREEN'} device, {by} ({outcome})",
        "job": job, "proposed": found[-1]["texts"], "released": released, "judged": judged,
    }  # fmt: skip


def judge(settings: ChemistrySettings, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the reasons against a molecule, and whether a classical-only check passes it.

    That check is what is often done alone: it parses, and the toxicity model has no objection.
    """
    found = list(reasons(settings, facts))
    model = [r for r in found if r.blocks and r.rule.startswith(("sanitise", "toxicity", "domain"))]
    return {
        "smiles": facts.get("smiles"),
        "blocked": [r for r in found if r.blocks],
        "warned": [r for r in found if not r.blocks],
        "alone": not model,
    }


def summary(job: dict[str, Any]) -> list[str]:
    """Return the lines of one job, with the second reader's count of violating releases."""
    proposed, released, judged = job["proposed"], job["released"], job["judged"]
    bad = [s for s in released if judged[s]["blocked"] or checker.faults(s)]
    rules = Counter(judged[s]["blocked"][0].rule for s in proposed if judged[s]["blocked"])
    alone = {s: page.name(s, r) for s, r in judged.items() if r["blocked"] and r["alone"]}
    job["violating"] = len(bad)
    return [
        (
            f"{job['title']}: {len(proposed)} proposed, {len(released)} released, "
            f"{len(proposed) - len(released)} blocked, {len(bad)} violating releases"
        ),
        "first rule: " + ", ".join(f"{k} {v}" for k, v in rules.most_common(8)),
        (
            f"blocked here, passed by a classical-only check: {len(set(alone.values()))} "
            f"molecules, proposed {sum(s in alone for s in proposed)} times"
        ),
    ]


def folding(home: Path, policy: Policy, sequence: str, steps: int) -> tuple[list[str], int]:
    """Propose folds with an untrained, a trained, and a red device; return lines and wrong ones."""
    best = fold.exact(sequence)
    ansatz, untrained, trained = fold.eigensolver(sequence, steps=steps)
    lines, wrong = [], 0
    for name, angles, red in (
        ("untrained circuit", untrained, False),
        ("trained circuit", trained, False),
        ("trained circuit, RED device", trained, True),
    ):
        device = twin("montreal", age_s=60 * 86400.0 if red else 0.0)
        circuit = transpile(ansatz.circuit(angles), device, optimization_level=3, seed_transpiler=7)

        def most_likely(result: Any) -> dict[str, Any]:
            counts = result[0].data.meas.get_counts()
            # The mode, not the best of the shots: that would be a search, not a proposal.
            bits = max(sorted(counts), key=counts.__getitem__)
            return fold.fields(sequence, fold.turns_of(bits), best)

        def classical(pubs: list[Any]) -> list[dict[str, int]]:
            bits = "".join(f"{t:02b}" for t in fold.greedy(sequence))
            return [{bits: pubs[0].shots}]

        sampler = interlock.guard(
            TwinSampler(device, seed=9), policy=policy, home=home, decode=most_likely,
            fallback=classical, pipeline="fold",
        )  # fmt: skip
        fields = most_likely(sampler.run([circuit], shots=400).result())
        _, outcome, _ = last_record(home)
        sites = fold.walk(fields["turns"])
        wrong += len(set(sites)) < len(sites) or fold.energy(sequence, sites) > best + 1
        by = "classical baseline" if outcome == "FALLBACK" else "circuit"
        lines.append(
            f"fold of {sequence}, {name}: {outcome}, the {by}'s energy "
            f"{fields['energy']}, exact {best} by enumeration"
        )
    return lines, wrong


def main() -> int:
    """Run the case and return 0 when nothing unsafe left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--molecules", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="small numbers, for a test")
    parser.add_argument("--no-model", action="store_true", help="leave the toxicity model out")
    parser.add_argument("--report", type=Path, default=Path("pharma-report.html"))
    options = parser.parse_args()
    count = options.molecules or (150 if options.quick else 2000)
    steps, kind = (60, "quick") if options.quick else (250, "full")
    torch.set_num_threads(1)
    generators = Generators.learn(steps)
    lines = [
        (
            f"Born machine of {molecules.BITS} qubits trained for {steps} steps: discrepancy "
            f"{generators.losses[0]:.4f} -> {generators.losses[-1]:.4f}"
        )
    ]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        pack = signed(home, "chem-v1", without_model=options.no_model)
        lines.append(f"pack {pack.name}, signed by the safety officer, {pack.sha256[:16]}")
        jobs = [generate(home, pack, generators, count, red=red) for red in (False, True)]
        for job in jobs:
            lines += summary(job)
        rules = signed(home, "fold-v1")
        wrong = 0
        for sequence in SEQUENCES[kind]:
            told, bad = folding(home, rules, sequence, steps)
            lines, wrong = lines + told, wrong + bad
    table = generators.compared(jobs[0]["proposed"], count)
    page.write(options.report, lines, table, jobs)
    print("\n".join(lines))
    print(table)
    print(f"report: {options.report}")
    return 1 if wrong or any(job["violating"] for job in jobs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
