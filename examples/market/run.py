"""A quantum sentiment signal trades a synthetic market; a governor it cannot reach holds it.

    python examples/market/run.py [--quick] [--report market-report.html]

Simulated device, synthetic order book, real embeddings of text written for the case. Nothing here
says that the signal earns money.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import audit
import desk
import headlines
import msgspec
import numpy as np
import page
import sentiment
import yaml
from book import Book
from scipy.stats import beta

import interlock
from interlock.backends.twins import TwinEstimator, twin
from interlock.errors import DeniedError
from interlock.guard.govern.governor.server import folder
from interlock.guard.state import resume, stop

HERE = Path(__file__).parent
#: Of pure noise at most this share may be acted on: the band's part and the shots' part.
ALPHA, ALPHA_SHOTS = 0.05, 0.01
PRECISION = 1 / 64
UNCLEAR = "validate.significance.unclear"


def interval(hits: int, of: int) -> str:
    """Return a share with its exact 95 % interval (Clopper and Pearson, 1934)."""
    low = beta.ppf(0.025, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, of - hits) if hits < of else 1.0
    return f"{hits}/{of} = {hits / of:.3f} [{low:.3f}, {high:.3f}]"


def band(scores: np.ndarray, level: float) -> tuple[float, float]:
    """Return (centre, half width): a new score from the same source leaves it at most this often.

    Split conformal prediction: the rank ceil((n + 1)(1 - level)) of the distances.
    """
    centre = float(np.median(scores[::2]))
    away = np.sort(np.abs(scores[1::2] - centre))
    rank = int(np.ceil((len(away) + 1) * (1 - level)))
    if rank > len(away):
        raise SystemExit("too few calibration sentences for this alpha")
    return centre, float(away[rank - 1])


class Watched(TwinEstimator):
    """A device's estimator that remembers its last answer, so that the report can show it."""

    last: Any = None

    def run(self, pubs: Any, *, precision: float | None = None) -> Any:
        """Run, and remember."""
        job = super().run(pubs, precision=precision)
        self.last = job.result()[0].data.evs
        return job


class Model:
    """The portfolio manager's program: it proposes, it knows no limits."""

    def __init__(self, policy: dict[str, Any], home: Path, kernel: sentiment.Kernel) -> None:
        self.kernel = kernel
        self.estimator = Watched(twin("manila"), precision=PRECISION, seed=1)
        self._situation: tuple[str, float, float, int] = ("", 1.0, 0.0, 0)
        self._guarded = interlock.guard(
            self.estimator, policy=policy, home=home, decode=self._decode, pipeline="market"
        )
        self._jobs = 0

    def _score(self, values: Any) -> float:
        return float(np.asarray(values) @ self.kernel.weights)

    def _wishes(self, score: float) -> list[dict[str, Any]]:
        """Turn a score into orders: eager, and more so the stronger the score."""
        symbol, mid, size, parts = self._situation
        side = "buy" if score > 0 else "sell"
        price = round(mid * (1.004 if side == "buy" else 0.996), 2)
        return [
            {
                "symbol": symbol,
                "side": side,
                "quantity": round(size * abs(score) + k, 2),
                "price": price,
            }
            for k in range(parts)
        ]

    def _decode(self, result: Any) -> dict[str, Any]:
        symbol, mid, *_ = self._situation
        orders = self._wishes(self._score(result[0].data.evs))
        return {"orders": orders, "reference": {symbol: mid}}

    def propose(
        self, angles: np.ndarray, symbol: str, mid: float, size: float = 500.0, parts: int = 1
    ) -> dict[str, Any]:
        """Take one headline along the guarded path; return what came of it."""
        self._situation = (symbol, mid, size, parts)
        self.estimator.last = None
        self._jobs += 1
        self.estimator.options.seed_simulator = self._jobs
        try:
            done = self._guarded.run([self.kernel.pub(angles)]).result()
            receipt = done.metadata["interlock"]
        except DeniedError as error:
            if error.receipt is None:
                raise
            receipt = error.receipt.as_dict()
        # What the model would have done, for the report alone: it acts on `orders` only.
        score = None if self.estimator.last is None else self._score(self.estimator.last)
        proposed = [] if score is None else self._wishes(score)
        return {
            "job": receipt["job"], "receipt": receipt["id"], "outcome": receipt["outcome"],
            "reason": receipt["rule"] or "", "score": score, "proposed": proposed,
            "orders": proposed if receipt["outcome"] == "RELEASE" else [],
        }  # fmt: skip


def trade(
    model: Model, embedder: sentiment.Embedder, governor: desk.Governor, steps: int
) -> tuple[list[dict[str, Any]], float]:
    """Run the trading day; return the tape and the seconds `interlock stop` took to hold."""
    rng = random.Random(21)
    symbols = [c.upper() for c in headlines.COMPANIES]
    traded = [s for s in symbols if s != "DORVAL"]  # the policy restricts that one
    books = {s: Book(60 + 20 * k, seed=k) for k, s in enumerate(symbols)}
    held = dict.fromkeys(symbols, 0.0)
    cash, tape, stop_s = 100_000.0, [], 0.0
    part = max(steps // 6, 3)
    scenes = ("calm", "noise burst", "hot news", "governor killed", "stopped", "adverse market")
    for step in range(part * len(scenes)):
        scene = scenes[step // part]
        first, last = step % part == 0, step % part == part - 1
        if first and scene == "governor killed":
            governor.kill()
        if first and scene == "stopped":
            began = time.perf_counter()
            stop(governor.home, "drill of the market case")
            stop_s = time.perf_counter() - began
        if first and scene == "adverse market":
            for symbol, book in books.items():
                if held[symbol]:
                    books[symbol] = Book(book.mid * (0.9 if held[symbol] > 0 else 1.1), seed=99)
        # Orders must reach the governor in these two, or they would show nothing: the loudest of
        # eight headlines, of a symbol that may be traded.
        loud = scene in ("hot news", "governor killed")
        symbol = rng.choice(traded if loud else symbols)
        book = books[symbol]
        burst = scene == "noise burst"
        if burst or (scene == "calm" and rng.random() < 0.4):
            text, label = headlines.noise(rng, symbol.title()), 0
        else:
            choice = [headlines.news(rng, symbol.title()) for _ in range(8 if loud else 1)]
            heard = abs(model.kernel.exact(embedder.angles([t for t, _ in choice])))
            text, label = choice[int(heard.argmax())]
            book.news(label)
        for other in books.values():
            other.step(burst=burst)
        if scene != "governor killed":
            equity = cash + sum(q * books[s].mid for s, q in held.items())
            governor.mark({s: b.mid for s, b in books.items()}, equity)
        hot = scene == "hot news"
        row = model.propose(
            embedder.angles([text])[0], symbol, book.mid,
            size=1200.0 if hot or burst else 500.0, parts=3 if hot or burst else 1,
        )  # fmt: skip
        for order in row["orders"]:
            filled, paid = book.take(order["side"], order["quantity"], order["price"])
            sign = 1 if order["side"] == "buy" else -1
            held[symbol] += sign * filled
            cash -= sign * paid
        tape.append(row | {"step": step, "scene": scene, "text": text})
        if last and scene == "governor killed":
            before = governor_orders(governor.home)
            governor.start()
            assert governor_orders(governor.home) == before, "a restart changed the record"
        if last and scene == "stopped":
            resume(governor.home)
    return tape, stop_s


def governor_orders(home: Path) -> int:
    """Count the decisions on the governor's record."""
    return sum(r["kind"] == "orders" for r in audit.read(folder(home) / "journal"))


def policies(kernel: sentiment.Kernel, centre: float, margin: float) -> tuple[Any, Any]:
    """Return the policy, and the same without a governor to see the significance gate alone."""
    policy = yaml.safe_load((HERE / "policy.yaml").read_text())
    policy["validate"]["significance"] |= {
        "alpha": ALPHA_SHOTS,
        "questions": [
            {"name": "sentiment", "null": centre, "margin": margin,
             "weights": kernel.weights.tolist()}
        ],
    }  # fmt: skip
    alone = policy | {"govern": {"kill-switch": {}}, "filter": {"constraints": {}}}
    return policy, alone


def main() -> int:
    """Run the case; 0 when nothing was breached and noise was acted on at most as often as said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small numbers, for a test")
    parser.add_argument("--report", type=Path, default=Path("market-report.html"))
    options = parser.parse_args()
    steps, calibrate, try_noise, try_news, timed = (
        (18, 50, 12, 6, 200) if options.quick else (120, 300, 400, 120, 4000)
    )
    device = twin("manila")
    embedder, kernel = sentiment.prepared(device, 3 if options.quick else 6)
    rng = random.Random(77)
    with tempfile.TemporaryDirectory() as name:
        folder_ = Path(name)
        # The noise band: scores of sentences that say nothing, on the same device.
        quiet = embedder.angles([headlines.noise(rng) for _ in range(calibrate)])
        estimator = TwinEstimator(device, precision=PRECISION, seed=1)
        scores = []
        for k, angles in enumerate(quiet):
            estimator.options.seed_simulator = 10_000 + k
            values = estimator.run([kernel.pub(angles)]).result()[0].data.evs
            scores.append(float(values @ kernel.weights))
        centre, margin = band(np.asarray(scores), ALPHA - ALPHA_SHOTS)
        twin_centre, twin_margin = band(kernel.twin(quiet), ALPHA - ALPHA_SHOTS)
        policy, alone = policies(kernel, centre, margin)

        # The gate alone, on noise and on news.
        gate = Model(alone, folder_ / "gate", kernel)
        noise_at = embedder.angles([headlines.noise(rng) for _ in range(try_noise)])
        acted = sum(gate.propose(a, "ARVEN", 60.0)["outcome"] == "RELEASE" for a in noise_at)
        told = [headlines.news(rng) for _ in range(try_news)]
        news_at = embedder.angles([t for t, _ in told])
        labels = np.asarray([s for _, s in told])
        rows = [gate.propose(a, "ARVEN", 60.0) for a in news_at]
        right = sum(np.sign(r["score"]) == s for r, s in zip(rows, labels, strict=True))
        on_news = sum(r["outcome"] == "RELEASE" for r in rows)
        plain = kernel.twin(news_at)
        out = lambda s: int(np.sum(np.abs(s - twin_centre) > twin_margin))  # noqa: E731
        signals = [
            ["quantum kernel, gated", interval(right, try_news), interval(acted, try_noise),
             interval(on_news, try_news)],
            ["classical twin (Gaussian kernel), same band rule",
             interval(int(np.sum(np.sign(plain) == labels)), try_news),
             interval(out(kernel.twin(noise_at)), try_noise), interval(out(plain), try_news)],
            ["quantum kernel without a gate", interval(right, try_news),
             interval(try_noise, try_noise), interval(try_news, try_news)],
        ]  # fmt: skip

        # The trading day.
        home = folder_ / "desk"
        desk.sign_limits(home)
        governor = desk.Governor(home)
        tape, stop_s = trade(Model(policy, home, kernel), embedder, governor, steps)
        says = governor.says
        governor.end()
        records = audit.read(folder(home) / "journal")
        limits = msgspec.to_builtins(desk.APPETITE)
        breaches = audit.breaches(records, limits)
        released = [r for r in tape if r["orders"]]
        breaches += audit.unaccounted(records, released)
        forbidden = [r for r in released if r["scene"] in ("governor killed", "stopped")]
        unanswered = sum(r["reason"].startswith("govern.") for r in tape
                         if r["scene"] == "governor killed")  # fmt: skip
        time_ms = desk.latency(folder_ / "timing", timed)

    reasons = Counter(r["reason"] or "released" for r in tape)
    lines = [
        f"{says}; signature checked at start",
        (
            f"tape: {len(tape)} headlines, {sum(len(r['proposed']) for r in tape)} orders "
            f"proposed, {sum(len(r['orders']) for r in tape)} released"
        ),
        "reasons: " + ", ".join(f"{k} {v}" for k, v in reasons.most_common()),
        f"breaches found by the second reader of the journal: {len(breaches)}",
        (
            f"released while the governor was dead or the stop was set: {len(forbidden)}, "
            f"{unanswered} denied because it was dead; "
            f"the stop was written in {stop_s * 1e3:.1f} ms"
        ),
        (
            f"noise band {centre:+.4f} +- {margin:.4f} from {calibrate} sentences; "
            f"acted on pure noise: {interval(acted, try_noise)}, at most {ALPHA:g} by design"
        ),
        (
            f"governor: {time_ms['count']} decisions on disk before they answer, "
            f"p50 {time_ms['p50']:.3f} ms, p99 {time_ms['p99']:.3f} ms (goal 1 ms); the disk's "
            f"fdatasync alone p50 {time_ms['disk_p50']:.3f} ms, p99 {time_ms['disk_p99']:.3f} ms"
        ),
    ]
    page.write(options.report, lines, signals, tape, limits)
    print("\n".join(lines))
    for row in signals:
        print(f"{row[0]:50} sign {row[1]}; on noise {row[2]}; on news {row[3]}")
    print(*breaches, sep="\n", end="")
    print(f"report: {options.report}")
    # More than alpha by more than chance: the exact lower bound lies above it.
    noisy = bool(acted) and beta.ppf(0.025, acted, try_noise - acted + 1) > ALPHA
    return 1 if breaches or forbidden or noisy else 0


if __name__ == "__main__":
    raise SystemExit(main())
