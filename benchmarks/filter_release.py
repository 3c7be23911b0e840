"""100,000 random outputs through the filter: how many violating ones were released, how fast.

python -m benchmarks.filter_release [outputs]
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import InterlockError
from interlock.guard.control import Request
from interlock.guard.filter.constraints import Constraint, ConstraintsControl, ConstraintsSettings
from interlock.guard.result import Result
from interlock.guard.state import State
from interlock.types import Decision, Job, Mode, Principal

SETTINGS = ConstraintsSettings(
    rules=(
        Constraint(id="energy", field="energy", min=-10.0, max=0.0, unit="hartree"),
        Constraint(id="weights", field="weights", min=0.0, max=1.0, on_fail="fix"),
        Constraint(id="side", field="side", allowed=("buy", "sell")),
        Constraint(id="count", field="count", type="integer", min=0, max=100, on_fail="fix"),
        Constraint(id="order", relation="low <= high"),
        Constraint(id="sum", expression="sum(weights) <= 2.5 and len(weights) <= 5"),
        Constraint(
            id="note", field="note", schema={"type": "string", "pattern": "^[a-z ]*$"},
            on_fail="hold",
        ),
        Constraint(id="limit", field="price", min=1.0, when="side == 'buy'", on_fail="fallback"),
    )
)  # fmt: skip
HARTREE_PER_EV = 1 / 27.211386245988


@dataclass(slots=True)
class Tally:
    outputs: int = 0
    released: int = 0
    blocked: int = 0
    fixed: int = 0
    violating_releases: int = 0
    seconds: float = 0.0


def _wild(rng: random.Random) -> Any:
    return rng.choice(
        [math.nan, math.inf, -math.inf, None, True, "", "x" * 50, [], [[1.0]], {}, -1e308, 10**30]
    )


def random_output(rng: random.Random) -> dict[str, Any]:
    """Mostly near the bounds, sometimes absurd."""
    output: dict[str, Any] = {
        "energy": {
            "value": rng.gauss(-4, 3) * rng.choice([1.0, 27.2]),
            "unit": rng.choice(["hartree", "eV"]),
        },
        "weights": [rng.uniform(-0.2, 1.1) for _ in range(rng.randint(1, 5))],
        "side": rng.choice(["buy", "sell", "buy", "sell", "bye"]),
        "count": rng.choice([rng.randint(-10, 110), rng.uniform(0, 100)]),
        "low": rng.uniform(0, 1),
        "high": rng.uniform(0.3, 2),
        "note": rng.choice(["fine", "all well", "", "DROP TABLE", "caf\u00e9"]),
        "price": rng.choice([0.5, 1.0, 20.0, 99.0]),
    }
    if rng.random() < 0.2:
        output[rng.choice(list(output))] = _wild(rng)
    if rng.random() < 0.05:
        del output[rng.choice(list(output))]
    return output


def _real(x: Any, low: float, high: float) -> bool:
    return type(x) in (int, float) and math.isfinite(x) and low <= x <= high


def obeys(o: Any) -> bool:
    """The rules once more, in plain Python, by another hand than the filter's."""
    try:
        energy = o["energy"]["value"] * {"hartree": 1.0, "eV": HARTREE_PER_EV}[o["energy"]["unit"]]
        weights = o["weights"] if type(o["weights"]) is list else None
        return (
            _real(o["energy"]["value"], -math.inf, math.inf)
            and -10.0 - 1e-9 <= energy <= 1e-9
            and weights is not None
            and 0 < len(weights) <= 5
            and all(_real(w, 0, 1) for w in weights)
            and sum(weights) <= 2.5 + 1e-12
            and o["side"] in ("buy", "sell")
            and type(o["count"]) is int
            and 0 <= o["count"] <= 100
            and _real(o["low"], -math.inf, math.inf)
            and _real(o["high"], -math.inf, math.inf)
            and o["low"] <= o["high"]
            and type(o["note"]) is str
            and all(c == " " or "a" <= c <= "z" for c in o["note"])
            and (o["side"] != "buy" or _real(o["price"], 1, math.inf))
        )
    except (KeyError, TypeError, AttributeError):
        return False


def sweep(outputs: int, seed: int) -> Tally:
    rng = random.Random(seed)
    tally = Tally(outputs=outputs)
    control = ConstraintsControl()
    job = Job(
        id="sweep", kind="sample", principal=Principal(id="sweep"), mode=Mode.ADVISORY,
        backend="none", circuits=(), submitted_at="",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        state = State(Path(home))
        for _ in range(outputs):
            output = random_output(rng)
            request = Request(
                job=job, programs=(), backend=None, execute=lambda: Result(items=()),
                baseline=None, decode=lambda r: r.native, home=Path(home), state=state,
                now=time.time, result=Result(items=(), native=output),
            )  # fmt: skip
            started = time.process_time()
            try:
                evidence = control.gather(request, SETTINGS)
                evidence = msgspec.json.decode(msgspec.json.encode(evidence))
                released = control.decide(job, SETTINGS, evidence).decision is Decision.ALLOW
            except (InterlockError, ValueError, TypeError):
                released = False  # the pipeline turns a failed control into DENY
            tally.seconds += time.process_time() - started
            if not released:
                tally.blocked += 1
                continue
            assert request.result is not None
            leaves = request.result.native
            tally.released += 1
            tally.fixed += leaves is not output
            tally.violating_releases += not obeys(leaves)
    return tally


def main() -> None:
    tally = sweep(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, seed=1)
    print(
        f"{tally.outputs} outputs: {tally.released} released ({tally.fixed} fixed), "
        f"{tally.blocked} blocked, {tally.violating_releases} violating releases "
        f"(95 % upper bound {3 / max(tally.released, 1):.1e} of the released); "
        f"{tally.outputs / tally.seconds:,.0f} outputs a CPU-second through 8 rules"
    )


if __name__ == "__main__":
    main()
