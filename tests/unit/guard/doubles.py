"""A policy made of test controls, one or more a stage, and a job to walk along it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interlock.guard.control import Control, Settings
from interlock.guard.pipeline import STAGES
from interlock.guard.policy import Bound, Policy, Timeouts
from interlock.types import CircuitFacts, Decision, Evidence, Job, Mode, Principal, Verdict


class Saying(Control):
    """Decides what its evidence says; `raise`, `none` and `text` break the contract."""

    id = "saying"
    stage = "admit"

    def gather(self, request: Any, settings: Settings) -> Evidence:
        raise AssertionError("the walk must not gather by itself")

    def decide(self, job: Job, settings: Settings, evidence: Evidence) -> Any:
        say = evidence["say"]
        if say == "raise":
            raise RuntimeError("broken control")
        if say == "none":
            return None
        if say == "text":
            return "ALLOW"
        return Verdict(decision=Decision[say], evidence=evidence)


def policy_of(
    controls: Mapping[str, Sequence[str]],
    missing: frozenset[tuple[str, str]] = frozenset(),
    make: Callable[[], Control] = Saying,
) -> Policy:
    bound = {
        stage: tuple(
            Bound(id=name, control=None if (stage, name) in missing else make(), settings=None)
            for name in names
        )
        for stage, names in controls.items()
    }
    return Policy(name="test", document={}, timeouts=Timeouts(), bound=bound)


def one_each() -> dict[str, list[str]]:
    return {stage: ["a"] for stage in STAGES}


def a_job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": "job-1",
        "kind": "sample",
        "principal": Principal(id="alice"),
        "mode": Mode.ADVISORY,
        "backend": "twin",
        "circuits": (
            CircuitFacts(
                sha256="0" * 64,
                num_qubits=2,
                num_clbits=2,
                size=4,
                depth=3,
                two_qubit_ops=1,
                shots=1000,
            ),
        ),
        "submitted_at": "2026-01-01T00:00:00+00:00",
    }
    return Job(**(values | changes))


def a_request(home: Any, **changes: Any) -> Any:
    """A request with no circuits, for controls that look only at the job and the state."""
    from interlock.guard.control import Request
    from interlock.guard.state import State

    values: dict[str, Any] = {
        "job": a_job(),
        "programs": (),
        "backend": None,
        "execute": lambda: None,
        "baseline": None,
        "decode": None,
        "home": home,
        "state": State(home),
        "now": lambda: 1_000_000.0,
    }
    return Request(**(values | changes))


def ask(control: Control, request: Any, settings: Any) -> Verdict:
    """Gather and decide, with the evidence as it would be recorded."""
    import msgspec

    evidence = msgspec.json.decode(msgspec.json.encode(control.gather(request, settings)))
    return control.decide(request.job, settings, evidence)
