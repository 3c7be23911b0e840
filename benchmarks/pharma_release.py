"""100,000 molecules through the chemistry pack, its releases read by a second reader.

    python -m benchmarks.pharma_release [outputs] [random SELFIES among them] [--no-model]

Two sources: bit strings of the pharma case, half of them from the trained Born machine, and random
SELFIES. The pack decides as it does on the guarded path. The second reader
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

import msgspec

CASE = Path(__file__).parents[1] / "examples" / "pharma"
sys.path.insert(0, str(CASE))

import checker  # noqa: E402
import molecules  # noqa: E402
import yaml  # noqa: E402

from interlock.guard.control import Request  # noqa: E402
from interlock.guard.filter.alignment import proportion_interval  # noqa: E402
from interlock.guard.filter.packs.chemistry import ChemistryControl, ChemistrySettings  # noqa: E402
from interlock.guard.result import Result  # noqa: E402
from interlock.guard.state import State  # noqa: E402
from interlock.types import Decision, Job, Mode, Principal  # noqa: E402

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


def passed(texts: list[str], settings: ChemistrySettings, home: Path) -> list[str]:
    """Return what the pack lets out of one output."""
    control = ChemistryControl()
    job = Job(
        id="sweep", kind="sample", principal=Principal(id="sweep"), mode=Mode.ADVISORY,
        backend="none", circuits=(), submitted_at="",
    )  # fmt: skip
    request = Request(
        job=job, programs=(), backend=None, execute=lambda: Result(items=()), baseline=None,
        decode=lambda r: r.native, home=home, state=State(home), now=time.time,
        result=Result(items=(), native={"smiles": texts}),
    )  # fmt: skip
    evidence = control.gather(request, settings)
    evidence = msgspec.json.decode(msgspec.json.encode(evidence))
    if control.decide(job, settings, evidence).decision is not Decision.ALLOW:
        return []
    assert request.result is not None
    return list(request.result.native["smiles"])


def sweep(
    outputs: int, wild: int, *, model: bool, seed: int = 1, trained: list[float] | None = None
) -> Tally:
    pack = yaml.safe_load((CASE / "chem-v1" / "policy.yaml").read_text())["filter"]["chemistry"]
    if not model:
        pack["toxicity"] = {}
    settings = msgspec.convert(pack, ChemistrySettings)
    tally, released = Tally(), Counter[str]()
    texts = sources(outputs, wild, seed, trained)
    tally.outputs, tally.different = len(texts), len(set(texts))
    with tempfile.TemporaryDirectory() as name:
        for start in range(0, len(texts), BATCH):
            began = time.perf_counter()
            released.update(passed(texts[start : start + BATCH], settings, Path(name)))
            tally.seconds += time.perf_counter() - began
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
        f"{tally.outputs} outputs of {tally.different} different molecules, {tally.released} "
        f"released, {len(tally.violating)} violating (95 % upper bound {high:.1e} of outputs), "
        f"{tally.unread} that the second reader cannot read, "
        f"{tally.outputs / tally.seconds:,.0f} outputs/s"
    )
    print(*tally.violating[:20], sep="\n", end="")


if __name__ == "__main__":
    main()
