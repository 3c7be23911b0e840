"""Fuzz the gateway's two interfaces: no input may be the gateway's fault.

    python benchmarks/gateway_fuzz.py --requests 10000

REST: Schemathesis makes requests from the gateway's own OpenAPI description, valid and invalid,
and checks status, content type and form of every answer. gRPC: random bytes, valid messages with
bytes changed, and messages with random fields, with and without credentials. A 5xx or a gRPC
INTERNAL, UNKNOWN, UNAVAILABLE or DATA_LOSS is a fault, and so is a missing status detail.
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import random
import secrets
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import status_pb2

from interlock.access import keys
from interlock.gateway import gateway_pb2
from interlock.gateway.rest import build_app
from interlock.gateway.rpc import SERVICE, build_server, message_of
from interlock.gateway.serve import Options, running
from interlock.gateway.service import Gateway
from interlock.gateway.store import Tenant
from interlock.guard.policy import load_policy
from interlock.types import Principal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.gateway_crash import body

RULES = """
@id("all") permit (principal in Interlock::Role::"all", action, resource);
"""
CIRCUIT = json.loads(body(1))["programs"][0]["circuit"]
FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED"}


@contextlib.contextmanager
def gateway_with_keys(access: dict[str, Any] | None = None) -> Iterator[tuple[Gateway, str]]:
    """A gateway with its engine, and ada's key, who may do everything unless `access` says else."""
    with tempfile.TemporaryDirectory(prefix="interlock-fuzz-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        document = json.loads(json.dumps(load_policy().document))
        member = {"id": "ada", "tenant": "north", "roles": ["all"]}
        document["admit"]["authorisation"] = access or {"rules": RULES, "members": [member]}
        (home / "p.yaml").write_text(json.dumps(document))
        options = Options(home=home, policy=str(home / "p.yaml"), workers=1, local=False)
        with running(options) as (gateway, _):
            gateway.store.set_tenant(Tenant(name="north", rate=1e6, burst=1e6))
            who = Principal(id="ada", tenant="north")
            yield gateway, keys.issue(gateway.access, who, lifetime_s=3600)[1]


def fuzz_rest(gateway: Gateway, key: str, requests: int, seed: int) -> dict[str, Any]:
    import hypothesis
    import numpy  # noqa: F401, ICN001 - a worker that imports it meanwhile breaks hypothesis
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    warnings.filterwarnings("ignore", category=hypothesis.errors.HypothesisDeprecationWarning)
    app = build_app(gateway)
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    operations = [r.ok() for r in schema.get_all_operations()]
    statuses: collections.Counter[int] = collections.Counter()
    faults: list[str] = []
    rng = random.Random(seed)
    jobs = ["0" * 28]

    def one(label: str, case: Any) -> None:
        # Never wait for a job's end here: only the form of the answer is in question.
        if isinstance(case.query, dict) and isinstance(case.query.get("wait"), int | float):
            case.query["wait"] = 0
        if isinstance(case.path_parameters, dict) and rng.random() < 0.4:
            case.path_parameters = {k: rng.choice(jobs) for k in case.path_parameters}
        if label == "POST /v1/jobs" and rng.random() < 0.5:
            case.body = _nearly(rng)
        headers = {"authorization": f"Bearer {key}"} if rng.random() < 0.9 else {}
        reply = case.call(headers=headers)
        statuses[reply.status_code] += 1
        if reply.status_code == 202 and label == "POST /v1/jobs":
            jobs.append(reply.json()["id"])
        try:
            case.validate_response(reply, excluded_checks=_EXCLUDED)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - counted
            faults.append(f"{label}: {error}"[:600])
        if reply.status_code >= 500:
            faults.append(f"{label}: {reply.status_code} {reply.text[:300]}")

    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    turn = 0
    while (left := requests - sum(statuses.values())) > 0:
        turn += 1
        each = max(1, -(-left // (len(operations) * 2)))
        for operation, mode in itertools.product(operations, modes):
            test = given(case=operation.as_strategy(generation_mode=mode))(
                _bound(one, operation.label)
            )
            test = settings(
                max_examples=each, database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(hypothesis.seed(seed + turn)(test))  # fmt: skip
            try:
                test()
            except hypothesis.errors.Unsatisfiable:  # of a call that takes nothing
                assert mode is modes[1], operation.label
    return {"requests": sum(statuses.values()), "operations": len(operations),
            "statuses": dict(sorted(statuses.items())), "faults": len(faults),
            "first": sorted(set(faults))[:5]}  # fmt: skip


def _bound(one: Any, label: str) -> Any:
    def test(case: Any) -> None:
        one(label, case)

    return test


def _nearly(rng: random.Random) -> Any:
    """A good job in which, mostly, one thing is wrong."""
    job = json.loads(json.dumps({
        "kind": "sample", "backend": "aer_simulator", "seed": 3, "labels": ["a"],
        "programs": [{"circuit": CIRCUIT, "shots": 5}],
    }))  # fmt: skip
    if rng.random() < 0.2:
        return job
    spots: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for at in list(value) if isinstance(value, dict) else range(len(value)):
            spots.append((value, at))
            if isinstance(value[at], dict | list):
                walk(value[at])

    walk(job)
    where, at = rng.choice(spots)
    where[at] = rng.choice([None, -1, 2**70, 1e308, "", "x" * 300, [], {}, [[]], True, "h", 0])
    return job


def _excluded() -> list[Any]:
    """Checks of choices, not of faults: what JSON the gateway reads as valid is stricter."""
    from schemathesis.specs.openapi import checks

    return [
        checks.positive_data_acceptance,
        checks.negative_data_rejection,
        checks.missing_required_header,
        checks.unsupported_method,
        checks.ignored_auth,
    ]


_EXCLUDED = _excluded()


class _Maker:
    """Random messages of a description."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def scalar(self, field: Any) -> Any:
        rng = self.rng
        if field.cpp_type == field.CPPTYPE_STRING:
            return rng.choice(
                ["", "ada", "sample", "estimate", "aer_simulator", "0" * 28, "{}", "[]", "\x00",
                 "é" * 50, "a" * 5000, secrets.token_hex(8), "' OR 1=1", "../..", "null",
                 "OPENQASM 3.0; qubit q;", '{"num_qubits": 1}', json.dumps(CIRCUIT)]
            )  # fmt: skip
        if field.cpp_type == field.CPPTYPE_DOUBLE:
            return rng.choice([0.0, 1.0, -1.0, 1e308, float("nan"), float("inf"), 0.5, 29.0])
        if field.cpp_type == field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        return rng.choice([0, 1, -1, 7, 2**31, 2**63 - 1, -(2**63)])

    def message(self, kind: Any) -> Any:
        out = kind()
        for field in kind.DESCRIPTOR.fields:
            if self.rng.random() < 0.25 or (field.name == "wait"):
                continue
            repeated = field.is_repeated
            if field.message_type is None:
                values = [self.scalar(field) for _ in range(self.rng.randrange(4))]
                if repeated:
                    getattr(out, field.name).extend(values)
                elif values:
                    setattr(out, field.name, values[0])
            elif not field.message_type.GetOptions().map_entry:
                inner = message_factory.GetMessageClass(field.message_type)
                for _ in range(self.rng.randrange(4)):
                    getattr(out, field.name).add().CopyFrom(self.message(inner))
        return out


def fuzz_grpc(gateway: Gateway, key: str, requests: int, seed: int) -> dict[str, Any]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    path = gateway.home / "fuzz.sock"

    async def start() -> Any:
        server = build_server(gateway, None)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    rng = random.Random(seed)
    maker = _Maker(rng)
    methods = list(gateway_pb2.DESCRIPTOR.services_by_name["Gateway"].methods)
    codes: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    with grpc.insecure_channel(f"unix:{path}") as channel:
        for _ in range(requests):
            method = rng.choice(methods)
            asked = maker.message(message_factory.GetMessageClass(method.input_type))
            if method.name == "Submit" and rng.random() < 0.5:
                with contextlib.suppress(TypeError, ValueError, AttributeError, KeyError):
                    asked = message_of(type(asked), _nearly(rng))  # what proto can say of it
            raw_body = bytearray(asked.SerializeToString())
            if rng.random() < 0.2:
                raw_body = bytearray(rng.randbytes(rng.randrange(200)))
            elif rng.random() < 0.4 and raw_body:
                for _ in range(rng.randrange(1, 4)):
                    raw_body[rng.randrange(len(raw_body))] = rng.randrange(256)
            metadata = [("authorization", f"Bearer {key}")] if rng.random() < 0.9 else []
            if rng.random() < 0.05:
                metadata.append(("dpop", secrets.token_hex(20)))
            name = method.name if rng.random() < 0.99 else "Nothing"
            kind = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = kind(f"/{SERVICE}/{name}")
            try:
                reply = call(
                    bytes(raw_body), metadata=metadata, timeout=2 if name == "Watch" else 60
                )
                for _ in reply if method.server_streaming else ():
                    pass
                codes["OK"] += 1
            except grpc.RpcError as error:
                code = error.code().name
                codes[code] += 1
                raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
                told = raw is not None and status_pb2.Status.FromString(raw).details
                if (code in FAULTS and name != "Watch") or (not told and name != "Nothing"):
                    faults.append(f"{name}: {code} {error.details()}")
    asyncio.run_coroutine_threadsafe(server.stop(1.0), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    return {"requests": requests, "codes": dict(sorted(codes.items())), "faults": len(faults),
            "first": sorted(set(faults))[:5]}  # fmt: skip


def measure(requests: int, seed: int = 1) -> dict[str, Any]:
    started = time.monotonic()
    with gateway_with_keys() as (gateway, key):
        rest = fuzz_rest(gateway, key, requests, seed)
        rpc = fuzz_grpc(gateway, key, requests, seed)
        counted = sum(n for (what, _), n in gateway.counters.items() if what == "fault")
        sound = gateway.guard.ledger.verify().ok
    return {"rest": rest, "grpc": rpc, "faults_counted_by_the_gateway": counted,
            "ledger_sound": sound, "seconds": round(time.monotonic() - started, 1)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000, help="for each interface")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.requests, options.seed), indent=1))
