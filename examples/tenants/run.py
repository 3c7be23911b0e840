"""Two tenants share a queue: what leaks between them and out of their logs, before and after.

    python examples/tenants/run.py [--quick] [--report tenants-report.html]

A real gateway with the rules of the starter bundle `multi-tenant-provider`, its queue, ledger and
scanner. The jobs run on a simulator; the secrets in their logs are drawn for the case.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attempts
import logs
import page
from gateway import Shared, shared_account, two_tenants

from interlock.gateway.console_events import Feed
from interlock.scan.live import LineRedactor
from interlock.scan.secrets.engine import Match

PLANTED, DECOYS = 200, 2000


def write_logs(keys: list[str], jobs: int, planted: int, decoys: int) -> list[list[logs.Line]]:
    """Return each job's log; secrets, decoys and plain lines fall where they fall."""
    maker, rng = logs.Maker(5), random.Random(6)
    written: list[list[logs.Line]] = [[maker.plain() for _ in range(3)] for _ in range(jobs)]
    lines = [maker.planted(rng.choice(keys)) for _ in range(planted)]
    lines += [maker.decoy() for _ in range(decoys)]
    for line in lines:
        log = rng.choice(written)
        log.insert(rng.randrange(len(log) + 1), line)
    return written


def watch(shared: Shared, written: list[list[logs.Line]]) -> dict[str, Any]:
    """Redact every line as it comes and revoke what was shown; count what is left and what hurt."""
    found: list[Match] = []
    exposed = touched = missed_keys = 0
    late: list[float] = []
    revoked: list[float] = []
    known: set[str] = set()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for log in written:
        redactor = LineRedactor(on_match=found.append)
        for line in log:
            began = time.perf_counter()
            found.clear()
            out = redactor(line.text.encode()).decode()
            late.append(time.perf_counter() - began)
            if line.secret and any(
                line.secret[k : k + 12] in out for k in range(0, len(line.secret) - 11, 4)
            ):
                exposed += 1
                missed[out] += 1
            if line.decoy and line.decoy not in out:
                touched += 1
                wrong[out] += 1
            for match in tuple(found):
                key = match.secret.decode()
                if match.rule.id == "interlock-api-key" and key not in known:
                    known.add(key)
                    revoked.append(shared.revoke_shown(key, began))
    planted = [line.secret for log in written for line in log if line.secret]
    live = {s for s in planted if s.startswith("ilk_")}
    missed_keys = sum(shared.works(key) for key in live)
    ranked = sorted(late)
    return {
        "planted": len(planted), "exposed": exposed,
        "decoys": sum(bool(x.decoy) for log in written for x in log), "touched": touched,
        "p95_ms": 1e3 * ranked[int(0.95 * len(ranked))],
        "shown_keys": len(live), "revoked": len(revoked), "still_work": missed_keys,
        "slowest_revocation_s": max(revoked, default=0.0),
        "missed": missed.most_common(5), "wrong": wrong.most_common(5),
    }  # fmt: skip


def main() -> int:
    """Run the case; 0 when nothing crossed, and the scanner did what the docs say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small numbers, for a test")
    parser.add_argument("--report", type=Path, default=Path("tenants-report.html"))
    options = parser.parse_args()
    jobs, tries = (20, 400) if options.quick else (1000, 10_000)
    ran = min(jobs, 40)  # each runs on the simulator; the others are their logs alone
    with tempfile.TemporaryDirectory(prefix="interlock-tenants-") as name:
        with shared_account(Path(name) / "before") as before:
            made = before.run_jobs(min(ran, 10))
            open_reads = attempts.fuzz(before, made, min(tries, 1000), seed=1)
        with two_tenants(Path(name) / "after") as after:
            made = after.run_jobs(ran)
            began = time.monotonic()
            closed = attempts.fuzz(after, made, tries, seed=1)
            rate = tries / (time.monotonic() - began)
            at_store = attempts.at_the_store(after, made)
            rules = attempts.rules_that_fire(after)
            # A key of each tenant for each part of the work, as pipelines have them.
            keys = [after.fresh_key(tenant) for tenant in ("north", "south") for _ in range(5)]
            written = write_logs(keys, jobs, PLANTED, DECOYS)
            seen = watch(after, written)
            sound = after.gateway.guard.ledger.verify().ok
            feed = Feed(after.gateway)
            denied = [
                e
                for tenant in ("north", "south")
                for e in feed.newest(after.auditor(tenant), feed.size())[0]
                if e.outcome == "DENY"
            ]
    recall = 1 - seen["exposed"] / seen["planted"]
    caught = seen["planted"] - seen["exposed"]
    precision = caught / max(caught + seen["touched"], 1)
    per_before = 1000 * open_reads["crossed"] / open_reads["tried"]
    per_after = 1000 * closed["crossed"] / closed["tried"]
    table = [
        ["reads across tenants, a thousand attempts", f"{per_before:.0f}", f"{per_after:.0f}"],
        ["secrets readable in logs, a thousand jobs",
         f"{1000 * seen['planted'] / jobs:.0f}", f"{1000 * seen['exposed'] / jobs:.0f}"],
        ["shown API keys that still work", f"{seen['shown_keys']}", f"{seen['still_work']}"],
    ]  # fmt: skip
    lines = [
        (
            f"cross-tenant attempts: {closed['tried']}, {closed['crossed']} crossed, "
            f"statuses {json.dumps(closed['statuses'])}, {rate:.0f} a second"
        ),
        (
            f"at the store, past the gateway: {at_store['tried']} reads, lists and cancels, "
            f"{at_store['crossed']} crossed"
        ),
        f"with one shared account: {open_reads['crossed']} of {open_reads['tried']} crossed",
        (
            f"logs of {jobs} jobs: {seen['planted']} secrets planted among {seen['decoys']} "
            f"decoys; recall {recall:.3f}, precision {precision:.3f}, "
            f"redaction p95 {seen['p95_ms']:.2f} ms"
        ),
        (
            f"API keys shown: {seen['shown_keys']}, revoked {seen['revoked']}, still work "
            f"{seen['still_work']}; slowest from line to refusal "
            f"{seen['slowest_revocation_s']:.2f} s"
        ),
        f"ledger: {'sound' if sound else 'BROKEN'}, {len(denied)} denials in the tenants' feeds",
    ]
    page.write(options.report, lines, table, rules, denied, seen)
    print("\n".join(lines))
    for what, was, now in table:
        print(f"{what:45} before {was:>5}  after {now:>5}")
    for name, rows in (("not redacted", seen["missed"]), ("redacted without need", seen["wrong"])):
        for text, count in rows:
            print(f"{name}, {count}: {text[:100]}")
    print(f"report: {options.report}")
    fine = (
        not closed["crossed"] and not at_store["crossed"] and open_reads["crossed"] > 0
        and recall >= 0.98 and precision >= 0.9 and not seen["still_work"]
        and seen["slowest_revocation_s"] < 5 and seen["p95_ms"] < 5000 and sound and denied
    )  # fmt: skip
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
