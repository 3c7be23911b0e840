"""100,000 molecules through the chemistry pack, its releases read by a second reader.

    python -m benchmarks.pharma_release [outputs] [random SELFIES among them] [--no-model]

Two sources: bit strings of the pharma case, half of them from the trained Born machine, and random
SELFIES. They are the decoded output of guarded jobs, 2,500 a job, and what counts as
released is what the call returned: signed pack, every stage, the ledger. The second reader
(`examples/pharma/checker.py`) shares no code with it; scores are predicted anew by ADMET-AI.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qiskit import QuantumCircuit

CASE = Path(__file__).parents[1] / "examples" / "pharma"
sys.path.insert(0, str(CASE))

import checker  # noqa: E402 - all below: found only once the path has the example
import molecules  # noqa: E402
import yaml  # noqa: E402

import interlock  # noqa: E402
from interlock.backends.twins import TwinSampler, twin  # noqa: E402
from interlock.crypto.keys import KeyStore  # noqa: E402
from interlock.errors import DeniedError  # noqa: E402
from interlock.guard import bundle  # noqa: E402
from interlock.guard.filter.alignment import proportion_interval  # noqa: E402

BATCH = 2500


@dataclass
class Tally:
    outputs: int = 0
    released: int = 0
    different: int = 0
    unread: int = 0
    violating: list[str] = field(default_factory=list)
    seconds: float = 0.0


def sources(outputs: int, wild: int, seed: int, trained: list[float] | None) -> list[str]:
    """Return the molecules, from the case's bit strings and from random SELFIES, mixed."""
    import selfies

    rng = random.Random(seed)
    tokens = sorted(selfies.get_semantic_robust_alphabet())
    texts = []
    while len(texts) < wild:
        text = selfies.decoder("".join(rng.choice(tokens) for _ in range(rng.randint(4, 25))))
        if text:
            texts.append(text)
    rest = outputs - wild
    numbers = [
        rng.getrandbits(molecules.BITS) for _ in range(rest if trained is None else rest // 2)
    ]
    if trained is not None:
        numbers += rng.choices(range(len(trained)), weights=trained, k=rest - len(numbers))
    texts += [molecules.decode(f"{n:0{molecules.BITS}b}") for n in numbers]
    rng.shuffle(texts)
    return texts


class GuardedPath:
    """The guarded path of the case, whole: signed pack, all stages, ledger; the texts are given."""

    def __init__(self, home: Path, *, model: bool) -> None:
        document = yaml.safe_load((CASE / "chem-v1" / "policy.yaml").read_text())
        if not model:
            document["filter"]["chemistry"]["toxicity"] = {}
        pack, officer = home.parent / "pack", KeyStore(home.parent / "officer")
        pack.mkdir()
        (pack / "policy.yaml").write_text(yaml.safe_dump(document))
        signed = home.parent / "chem-v1.bundle"
        signed.write_bytes(bundle.sign(bundle.build(pack), officer))
        bundle.trust(home, bundle.public_keys(officer))
        policy = bundle.open_bundle(signed, home).policy()
        bound = next(b for b in policy.controls("filter") if b.id == "chemistry")
        self.settings: Any = bound.settings
        self._texts: list[str] = []
        self._circuit = QuantumCircuit(1, 1)
        self._circuit.measure(0, 0)
        self._sampler = interlock.guard(
            TwinSampler(twin("manila"), seed=5), policy=policy, home=home,
            decode=lambda _: {"smiles": self._texts}, pipeline="sweep",
        )  # fmt: skip

    def released(self, texts: list[str]) -> list[str]:
        """Return what leaves the path of one job that puts out these texts."""
        self._texts = texts
        try:
            out = self._sampler.run([self._circuit], shots=16).result()
        except DeniedError:
            return []
        # Nothing was taken out when the result itself comes back.
        return list(out["smiles"]) if isinstance(out, dict) else list(texts)


def sweep(
    outputs: int, wild: int, *, model: bool, seed: int = 1, trained: list[float] | None = None
) -> Tally:
    tally, released = Tally(), Counter[str]()
    texts = sources(outputs, wild, seed, trained)
    tally.outputs, tally.different = len(texts), len(set(texts))
    with tempfile.TemporaryDirectory() as name:
        path = GuardedPath(Path(name) / "home", model=model)
        for start in range(0, len(texts), BATCH):
            began = time.perf_counter()
            released.update(path.released(texts[start : start + BATCH]))
            tally.seconds += time.perf_counter() - began
    settings = path.settings
    tally.released = sum(released.values())
    scores = predicted(list(released)) if model else {}
    for text, times in released.items():
        found = checker.faults(text, (5, 40))
        if found and found[0].startswith("cannot be read"):
            tally.unread += times
            found = []
        found += [
            f"{head} {scores[text][head]:.3f}"
            for head, most in settings.toxicity.items()
            if not scores[text][head] <= most + 1e-6
        ]
        tally.violating += [f"{text}: {', '.join(found)}"] * times if found else []
    return tally


def predicted(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return ADMET-AI's scores, asked directly."""
    from admet_ai import ADMETModel

    table = ADMETModel(include_physchem=False, drugbank_path=None, num_workers=0).predict(texts)
    return {text: dict(table.loc[text]) for text in texts}


def main() -> None:
    words = [a for a in sys.argv[1:] if not a.startswith("--")]
    outputs = int(words[0]) if words else 100_000
    wild = int(words[1]) if len(words) > 1 else 10_000
    import run  # the case itself, for its trained generator

    generators = run.Generators.learn(250)
    trained = generators.ansatz.probabilities(generators.angles).tolist()
    tally = sweep(outputs, wild, model="--no-model" not in sys.argv, trained=trained)
    high = proportion_interval(len(tally.violating), tally.outputs)[1]
    print(
        f"{tally.outputs} outputs of {tally.different} different SMILES, {tally.released} "
        f"released, {len(tally.violating)} violating (95 % upper bound {high:.1e} of outputs), "
        f"{tally.unread} that the second reader cannot read, "
        f"{tally.outputs / tally.seconds:,.0f} outputs/s"
    )
    print(*tally.violating[:20], sep="\n", end="")


if __name__ == "__main__":
    main()
