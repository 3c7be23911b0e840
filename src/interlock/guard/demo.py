"""Six scenes on a simulated device: what the guard does, on real controls and a real ledger."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from interlock.errors import RefusedError
from interlock.guard.hooks import guard
from interlock.guard.policy import Policy, load_policy
from interlock.ledger import Ledger, audit

__all__ = ["Scene", "scenes"]

DEVICE = "manila"
BAD_DAY = 12.0
MAX_DOSE_MG = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One scene.

    Attributes:
        title: what is shown.
        happened: what happened.
        why: the reason, as the guard gives it.
        look: the command to look closer.
        as_expected: whether it happened as the scene says it must.
    """

    title: str
    happened: str
    why: str
    look: str
    as_expected: bool


def scenes(home: Path) -> Iterator[Scene]:
    """Play the scenes in a home of their own, one at a time.

    Raises:
        ModuleNotFoundError: Qiskit or Aer is not installed.
    """
    for needed in ("qiskit", "qiskit_aer"):
        import_module(needed)  # the guard would answer for a device that cannot run
    policy = load_policy(Path(str(resources.files("interlock.guard").joinpath("demo.yaml"))))
    for scene in (_released, _bad_circuit, _over_budget, _degraded, _unsafe):
        yield scene(policy, home)
    yield _tampered(home)


def _bell() -> Any:
    from qiskit import QuantumCircuit, transpile

    from interlock.backends import twin

    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return transpile(circuit, twin(DEVICE), optimization_level=1, seed_transpiler=7)


def _sampler(factor: float = 1.0) -> Any:
    import msgspec

    from interlock.backends import Twin, TwinSampler, TwinSpec, twin
    from interlock.backends.noise import scaled

    device = twin(DEVICE, age_s=3600.0)
    if factor != 1.0:
        worse = scaled(device.calibration, factor)
        worse = msgspec.structs.replace(worse, observed_at=device.calibration.observed_at)
        device = Twin(TwinSpec(reported=worse))
    return TwinSampler(device, seed=7)


def _look(receipt: str, home: Path) -> str:
    return f"interlock explain {receipt} --home {home}"


def _refused(run: Callable[[], Any], home: Path, title: str, rule: str, cost: str) -> Scene:
    try:
        run()
    except RefusedError as error:
        receipt = error.receipt
        reason = error.message.partition(": ")[2]
        return Scene(
            title=title,
            happened=f"{receipt.outcome}({receipt.rule}), {cost}",
            why=f"{reason}; expected {error.expected}; "
            + str(error.fix).partition("interlock explain")[0].rstrip("; "),
            look=_look(receipt.id, home),
            as_expected=receipt.rule == rule,
        )
    return Scene(title=title, happened="it was released", why="", look="", as_expected=False)


def _released(policy: Policy, home: Path) -> Scene:
    sampler = guard(_sampler(), policy=policy, home=home)
    result = sampler.run([_bell()], shots=1000).result()
    receipt = result.metadata["interlock"]
    counts = dict(sorted(result[0].data.meas.get_counts().items()))
    return Scene(
        title="a job released",
        happened=f"{receipt['outcome']}: {counts}",
        why="every stage allowed it; the receipt is in the result's metadata",
        look=_look(receipt["id"], home),
        as_expected=receipt["outcome"] == "RELEASE",
    )


def _bad_circuit(policy: Policy, home: Path) -> Scene:
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(5)
    circuit.x(0)
    circuit.cx(0, 4)  # the device has no coupling between these two
    circuit.measure_all()
    sampler = guard(_sampler(), policy=policy, home=home)
    return _refused(
        lambda: sampler.run([circuit], shots=1000).result(),
        home,
        "a circuit that could not run, stopped before the queue",
        "verify.target.edge",
        "nothing was sent to the device",
    )


def _over_budget(policy: Policy, home: Path) -> Scene:
    sampler = guard(_sampler(), policy=policy, home=home)
    return _refused(
        lambda: sampler.run([_bell()], shots=50_000).result(),
        home,
        "a job over budget, denied",
        "admit.budget.cost-usd-per-job",
        "nothing was paid",
    )


def _degraded(policy: Policy, home: Path) -> Scene:
    def ideal(pubs: list[Any]) -> list[Mapping[str, int]]:
        """Answer a Bell pair by pen and paper."""
        return [{"00": p.shots // 2, "11": p.shots - p.shots // 2} for p in pubs]

    sampler = guard(_sampler(BAD_DAY), policy=policy, home=home, fallback=ideal)
    result = sampler.run([_bell()], shots=1000).result()
    receipt = result.metadata["interlock"]
    return Scene(
        title=f"a device {BAD_DAY:g} times worse than its calibration of record, answered by the"
        " classical baseline",
        happened=f"{receipt['outcome']}({receipt['rule']}): "
        f"{result[0].data.meas.get_counts()}, labelled in the result",
        why=str(receipt["reason"]),
        look=_look(receipt["id"], home),
        as_expected=receipt["outcome"] == "FALLBACK",
    )


def _unsafe(policy: Policy, home: Path) -> Scene:
    def dose(result: Any) -> Mapping[str, Any]:
        """Read the share of 11 as a dose in milligrams."""
        counts = result[0].data.meas.get_counts()
        return {"dose_mg": 40.0 * counts.get("11", 0) / sum(counts.values())}

    rule = {"id": "dose", "field": "dose_mg", "max": MAX_DOSE_MG}
    strict = load_policy({**policy.document, "filter": {"constraints": {"rules": [rule]}}})
    sampler = guard(_sampler(), policy=strict, home=home, decode=dose)
    return _refused(
        lambda: sampler.run([_bell()], shots=1000).result(),
        home,
        "an unsafe output, blocked before it acts",
        "filter.constraints.dose",
        "the number did not reach the program",
    )


def _tampered(home: Path) -> Scene:
    """Edit one record and delete the newest, in a copy of the home."""
    with Ledger.open(home) as ledger:
        ledger.checkpoint()
    copy = home.with_name(home.name + "-tampered")
    shutil.copytree(home, copy)
    tamper(copy / "ledger.db")
    kinds = [fault.kind for fault in audit(copy).faults]
    return Scene(
        title="a ledger record edited and the newest deleted, both named",
        happened="; ".join(dict.fromkeys(kinds)) or "nothing was noticed",
        why="every record is under a signed head: an edit changes its hash, a cut the size. What no"
        " head has seen yet could be cut unnoticed; a witness sees heads as they are signed",
        look=f"interlock verify --home {copy}",
        as_expected=len(set(kinds)) >= 2,
    )


def tamper(path: Path) -> None:
    """Change one payload and delete the newest record, as somebody with the file could."""
    db = sqlite3.connect(path)
    with db:
        index, stored = db.execute("SELECT idx, payload FROM entries ORDER BY idx").fetchone()
        changed = stored[:-1] + bytes([stored[-1] ^ 1])
        db.execute("UPDATE entries SET payload = ? WHERE idx = ?", (changed, index))
        db.execute("DELETE FROM entries WHERE idx = (SELECT max(idx) FROM entries)")
    db.close()
