"""Whatever a control does wrong, the job is denied, on record, and nobody waits for ever."""

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import DeniedError
from interlock.guard import service
from interlock.guard.control import Control, Program, allow
from interlock.guard.pipeline import STAGES
from interlock.guard.policy import Bound, Policy, Timeouts
from interlock.guard.result import Result
from interlock.types import Decision, Evidence, Finding, Verdict

NEVER = threading.Event()


class Good(Control):
    id = "good"
    stage = "verify"

    def gather(self, request: Any, settings: Any) -> Evidence:
        request.result = Result(items=())
        return {"fine": True}

    def decide(self, job: Any, settings: Any, evidence: Evidence) -> Verdict:
        return allow(evidence)


def answer(value: Any) -> type[Control]:
    class Odd(Good):
        def decide(self, job: Any, settings: Any, evidence: Evidence) -> Any:
            if isinstance(value, BaseException):
                raise value
            if value is NEVER:
                NEVER.wait(20)
            return value

    return Odd


def gathering(value: Any) -> type[Control]:
    class Odd(Good):
        def gather(self, request: Any, settings: Any) -> Any:
            if isinstance(value, BaseException):
                raise value
            if value is NEVER:
                NEVER.wait(20)
            return value

    return Odd


def settling(value: Any) -> type[Control]:
    class Odd(Good):
        def settle(self, request: Any, settings: Any, outcome: Any) -> None:
            if isinstance(value, BaseException):
                raise value
            NEVER.wait(20)

    return Odd


def verdict(**changes: Any) -> Any:
    return Verdict(**({"decision": Decision.ALLOW} | changes))


ODD_FINDING = Finding(rule="verify.x.y", message=5)  # type: ignore[arg-type]
SURROGATE = Finding(rule="verify.x.y", message="\udc80")

DECIDING = [
    None, True, 0, "ALLOW", Decision.ALLOW, verdict(decision=0), verdict(decision=-1),
    verdict(decision="ALLOW"), verdict(findings=None), verdict(findings=("x",)),
    verdict(findings=(ODD_FINDING,)), verdict(findings=(SURROGATE,)),
    RuntimeError("x"), SystemExit(3), KeyboardInterrupt(), NEVER,
]  # fmt: skip
GATHERING = [None, 5, [], {"x": object()}, RuntimeError("x"), SystemExit(3), NEVER]


def submit(home: Path, control: type[Control]) -> Any:
    bound = {
        stage: (Bound(id="c", control=(control if stage == "verify" else Good)(), settings=None),)
        for stage in STAGES
    }
    guard = service.Guard(policy=_policy(bound), home=home)
    program: Any = Program(circuit=_Circuit(), native=None, shots=1)
    try:
        guard.submit([program], kind="sample", backend_name="x", execute=lambda: Result(items=()))
    except DeniedError as error:
        return guard.ledger.find(error.receipt.id)
    finally:
        guard.close()
    return None


class _Circuit:
    sha256 = "0" * 64
    num_qubits = num_clbits = size = depth = two_qubit_ops = 1
    global_phase = 0.0

    def walk(self) -> tuple[()]:
        return ()

    def facts(self, **changes: Any) -> Any:
        from interlock.types import CircuitFacts

        return CircuitFacts(
            sha256=self.sha256, num_qubits=1, num_clbits=1, size=1, depth=1, two_qubit_ops=0,
            **changes,
        )  # fmt: skip


def _policy(bound: Any) -> Policy:
    return Policy(name="t", document={}, timeouts=Timeouts(control_s=0.4), bound=bound)


def named(value: Any) -> str:
    """Name a case alike in every process: without its address."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:30]


@pytest.mark.parametrize("value", DECIDING, ids=named)
def test_an_odd_decision_denies_on_record(tmp_path: Path, value: Any) -> None:
    entry = submit(tmp_path, answer(value))
    assert entry is not None
    assert entry.header["outcome"] == "DENY"
    assert entry.event == "verify"


@pytest.mark.parametrize("value", GATHERING, ids=named)
def test_odd_evidence_denies_on_record(tmp_path: Path, value: Any) -> None:
    entry = submit(tmp_path, gathering(value))
    assert entry is not None
    assert entry.header["outcome"] == "DENY"


@pytest.mark.parametrize("value", [RuntimeError("x"), SystemExit(3), NEVER], ids=named)
def test_what_goes_wrong_in_settling_is_on_record(tmp_path: Path, value: Any) -> None:
    submit(tmp_path, settling(value))
    from interlock.guard.record import recorded

    with recorded(tmp_path) as ledger:
        last = [e for e in ledger.entries() if "outcome" in e.header][-1]
    assert last.payload is not None
    assert last.payload["settle_faults"]


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_slow_to_load_is_loaded_before_any_deadline(tmp_path: Path, broken: bool) -> None:
    class Slow(Good):
        ready = False

        def prepare(self, settings: Any) -> None:
            time.sleep(0.6)  # longer than a control may take
            if broken:
                raise RuntimeError("it does not load")
            self.ready = True

        def gather(self, request: Any, settings: Any) -> Any:
            self.ready or NEVER.wait(20)
            return super().gather(request, settings)

    denied = submit(tmp_path, Slow)
    assert (denied is not None) is broken  # on record


def test_a_walk_left_behind_does_nothing_more_when_it_comes_back(tmp_path: Path) -> None:
    wake, woke = threading.Event(), threading.Event()
    ran: list[str] = []

    class Late(Good):
        def gather(self, request: Any, settings: Any) -> Any:
            wake.wait(20)
            woke.set()
            return {"late": True}

    class Device(Good):
        def gather(self, request: Any, settings: Any) -> Any:
            ran.append("device")
            return {}

        def settle(self, request: Any, settings: Any, outcome: Any) -> None:
            ran.append("settled")

    kinds = {"admit": Late, "execute": Device}
    bound = {s: (Bound(id="c", control=kinds.get(s, Good)(), settings=None),) for s in STAGES}
    guard = service.Guard(policy=_policy(bound), home=tmp_path)
    program: Any = Program(circuit=_Circuit(), native=None, shots=1)
    with pytest.raises(DeniedError):
        guard.submit([program], kind="sample", backend_name="x", execute=lambda: Result(items=()))
    before = {t for t in threading.enumerate() if t.name == "interlock-job"}
    wake.set()
    assert woke.wait(10)
    assert any(_ends(thread) for thread in before)
    assert ran == []
    guard.close()


def _ends(thread: threading.Thread) -> bool:
    thread.join(0.5)
    return not thread.is_alive()
