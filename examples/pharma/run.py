"""A quantum generator on a noisy twin proposes molecules; what is unsafe does not leave.

    python examples/pharma/run.py [--molecules 2000] [--no-model] [--report report.html]

Simulated device, real chemistry checks. The first job runs on the device as calibrated, the second
on a device whose calibration is 60 days old (red): the classical generator answers, labelled. Then
a lattice fold is held to exact enumeration.
"""

from __future__ import annotations

import argparse
import html
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import fold
import molecules
import yaml
from qiskit import QuantumCircuit, transpile

import interlock
from interlock.backends.twins import TwinSampler, twin
from interlock.guard.filter.constraints import Constraint, violations
from interlock.guard.filter.packs.chemistry import ChemistrySettings, assess_all, reasons
from interlock.guard.filter.packs.molecules import draw_svg
from interlock.guard.record import recorded

HERE = Path(__file__).parent


def born_machine(seed: int) -> QuantumCircuit:
    """Return a quantum circuit Born machine of two layers, with angles drawn once."""
    rng = random.Random(seed)
    circuit = QuantumCircuit(molecules.BITS)
    for _ in range(2):
        for q in range(molecules.BITS):
            circuit.ry(rng.uniform(0.2, 1.2), q)
        for q in range(0, molecules.BITS - 1, 2):
            circuit.cx(q, q + 1)
    circuit.measure_all()
    return circuit


def decode(result: Any) -> dict[str, Any]:
    """Return the molecules of a result, one a shot, in a fixed order."""
    counts = result[0].data.meas.get_counts()
    return {"smiles": [molecules.decode(b) for b in sorted(counts) for _ in range(counts[b])]}


def classical(pubs: list[Any]) -> list[dict[str, int]]:
    """The classical generator: uniform bits, seeded."""
    rng = random.Random(11)
    shots = pubs[0].shots
    return [Counter(f"{rng.getrandbits(molecules.BITS):012b}" for _ in range(shots))]


def generate(home: Path, policy: dict[str, Any], count: int, *, red: bool) -> tuple[Any, str]:
    """Return what was released (and how the receipt labels it) by one guarded job."""
    device = twin("hanoi", age_s=60 * 86400.0 if red else 0.0)
    circuit = transpile(born_machine(3), device, optimization_level=3, seed_transpiler=7)
    seen: dict[str, Any] = {}

    def remember(result: Any) -> dict[str, Any]:
        seen.update(decode(result))
        return seen

    sampler = interlock.guard(
        TwinSampler(device, seed=5), policy=policy, home=home, decode=remember,
        fallback=classical, pipeline="pharma-red" if red else "pharma",
    )  # fmt: skip
    out = sampler.run([circuit], shots=count).result()
    released = out["smiles"] if isinstance(out, dict) else decode(out)["smiles"]
    with recorded(home) as ledger:
        last = [e for e in ledger.entries() if "outcome" in e.header][-1]
    # The label comes from the record, not from this script.
    return (seen["smiles"], released), str(last.header["outcome"])


def table(proposed: list[str], settings: ChemistrySettings) -> dict[str, Any]:
    """Judge every distinct molecule once more, for the report."""
    unique = sorted(set(proposed))
    facts = dict(zip(unique, assess_all(unique, settings), strict=True))
    return {s: (f, [r for r in reasons(settings, f) if r.blocks]) for s, f in facts.items()}


def report(path: Path, proposed: list[str], judged: dict[str, Any], lines: list[str]) -> None:
    """Write the page: numbers, then each blocked molecule with the offending atoms marked."""
    rows = []
    for smiles, (facts, blocked) in judged.items():
        if not blocked:
            continue
        first = blocked[0]
        picture = draw_svg(facts["smiles"], list(first.atoms)) if facts["ok"] else ""
        why = "; ".join(f"{r.rule}: {r.got}" for r in blocked)
        only = "blocked here, passed by a model-only check" if not any(
            r.rule.startswith(("toxicity", "domain")) for r in blocked
        ) else ""  # fmt: skip
        rows.append(
            f"<tr><td>{picture}<td><code>{html.escape(smiles)}</code><td>{html.escape(why)}"
            f"<td>{proposed.count(smiles)}<td>{only}"
        )
    summary = "".join(f"<li>{html.escape(line)}" for line in lines)
    path.write_text(
        "<!doctype html><meta charset=utf-8><title>Pharma case</title>"
        "<style>body{font:15px sans-serif;margin:2em}td{border-top:1px solid #ccc;padding:4px}"
        "</style><h1>Pharma case</h1><p>Simulated device, real chemistry checks. A screening aid."
        f"<ul>{summary}</ul><h2>Blocked</h2><table><tr><th>substructure<th>molecule<th>rule"
        f"<th>proposed<th>model alone{''.join(rows)}</table>",
        "utf-8",
    )


def folding() -> str:
    """Hold proposed lattice folds to the exact enumeration."""
    sequence = "HPHPPHHPHP"
    best = fold.exact(sequence)
    rules = (
        Constraint(id="self-avoiding", field="self_avoiding", allowed=(1,), type=None,
                   when="self_avoiding == 1 or self_avoiding == 0"),
        Constraint(id="near-exact", relation="energy <= worst_allowed"),
    )  # fmt: skip
    rng = random.Random(2)
    released = wrong = 0
    for _ in range(400):
        turns = [rng.randrange(3) for _ in range(len(sequence) - 2)]
        sites = fold.walk(turns)
        fields = {
            "self_avoiding": int(len(set(sites)) == len(sites)),
            "energy": fold.energy(sequence, sites),
            "worst_allowed": best + fold.TOLERANCE,
        }
        if not any(violations(r, fields) for r in rules):
            released += 1
            wrong += len(set(sites)) < len(sites) or fields["energy"] > best + fold.TOLERANCE
    return (
        f"fold of {sequence}: exact energy {best} by enumeration; of 400 random proposals "
        f"{released} released, {wrong} of them wrong"
    )


def main() -> int:
    """Run the case and return 0 when nothing unsafe left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--molecules", type=int, default=2000)
    parser.add_argument("--no-model", action="store_true", help="leave the toxicity model out")
    parser.add_argument("--report", type=Path, default=Path("pharma-report.html"))
    options = parser.parse_args()
    policy = yaml.safe_load((HERE / "policy.yaml").read_text())
    pack = policy["filter"]["chemistry"]
    if options.no_model:
        pack["toxicity"] = {}
    import msgspec

    settings = msgspec.convert(pack, ChemistrySettings)
    lines, unsafe = [], 0
    with tempfile.TemporaryDirectory() as name:
        for red in (False, True):
            (proposed, released), outcome = generate(Path(name), policy, options.molecules, red=red)
            judged = table(proposed, settings)
            bad = sum(bool(judged[s][1]) for s in released)
            unsafe += bad
            by = "classical generator" if outcome == "FALLBACK" else "quantum generator"
            lines.append(
                f"{'RED' if red else 'GREEN'} device, {by} ({outcome}): "
                f"{len(proposed)} proposed, {len(released)} released, "
                f"{len(proposed) - len(released)} blocked, {bad} violating releases"
            )
            rules = Counter(r.rule for s in proposed for r in judged[s][1][:1])
            lines.append("first rule: " + ", ".join(f"{k} {v}" for k, v in rules.most_common(6)))
            if not red:
                first = (proposed, judged)
    lines.append(folding())
    report(options.report, *first, lines)
    print("\n".join(lines))
    print(f"report: {options.report}")
    return 1 if unsafe else 0


if __name__ == "__main__":
    raise SystemExit(main())
