"""A gateway with rules, principals of two tenants and a client that needs no network."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from interlock.access import keys
from interlock.circuits.canonical import Circuit, Operation
from interlock.gateway.rest import build_app
from interlock.gateway.serve import Options, running
from interlock.gateway.service import Gateway
from interlock.types import Principal

RULES = """
@id("submit") permit (principal in Interlock::Role::"r", action == Interlock::Action::"submit",
  resource);
@id("own") permit (principal, action in [Interlock::Action::"read", Interlock::Action::"cancel"],
  resource) when { resource.owner == principal.id && resource.tenant == principal.tenant };
@id("lead") permit (principal in Interlock::Role::"lead",
  action in [Interlock::Action::"read", Interlock::Action::"approve"], resource)
  when { resource.tenant == principal.tenant };
@id("admin") permit (principal in Interlock::Role::"admin",
  action in [Interlock::Action::"administer", Interlock::Action::"read-policy",
  Interlock::Action::"read-ledger"], resource) when { resource.id == principal.tenant };
"""
MEMBERS = [
    {"id": "ada", "tenant": "north", "roles": ["r"]},
    {"id": "ben", "tenant": "north", "roles": ["r"]},
    {"id": "lea", "tenant": "north", "roles": ["r", "lead"]},
    {"id": "adm", "tenant": "north", "roles": ["admin"]},
    {"id": "sol", "tenant": "south", "roles": ["r", "lead", "admin"]},
]


def policy(**admit: Any) -> dict[str, Any]:
    from interlock.guard.policy import load_policy

    document = json.loads(json.dumps(load_policy().document))
    document["admit"]["authorisation"] = {"rules": RULES, "members": MEMBERS}
    document["admit"] |= admit
    document["execute"]["standing"] = {}
    document["release"]["standing"] = {}
    return document


def bell(shots: int = 100, **changes: Any) -> dict[str, Any]:
    circuit = Circuit(
        num_qubits=2,
        num_clbits=2,
        operations=(
            Operation("h", (), (0,)),
            Operation("cx", (), (0, 1)),
            Operation("measure", (), (0,), (0,)),
            Operation("measure", (), (1,), (1,)),
        ),
        registers=(),
    )
    plain = json.loads(circuit.to_json())
    plain["registers"] = [["meas", [0, 1]]]
    job: dict[str, Any] = {
        "kind": "sample",
        "backend": "aer_simulator",
        "programs": [{"circuit": plain, "shots": shots}],
        "seed": 7,
    }
    return job | changes


class Kit:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.client = TestClient(build_app(gateway), raise_server_exceptions=False)
        self.tokens: dict[str, str] = {}

    def key(self, name: str, **principal: Any) -> str:
        tenant = "south" if name == "sol" else "north"
        if name not in self.tokens or principal:
            who = Principal(**({"id": name, "tenant": tenant} | principal))
            self.tokens[name] = keys.issue(self.gateway.access, who, lifetime_s=3600)[1]
        return self.tokens[name]

    def call(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        extra = {"authorization": f"Bearer {self.key(who)}"} if who else {}
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.client.request(method, path, content=content, headers={**extra, **named})

    def run(self, who: str, job: Any, **headers: str) -> tuple[str, dict[str, Any]]:
        made = self.call(who, "POST", "/v1/jobs", job, **headers)
        assert made.status_code in (200, 202), made.text
        name = made.json()["id"]
        for _ in range(6):
            reply = self.call(who, "GET", f"/v1/jobs/{name}/result?wait=10")
            if reply.status_code == 200:
                return name, reply.json()
        raise AssertionError(f"job {name} did not end")


@contextmanager
def kit(home: Path, workers: int = 2, **options: Any) -> Iterator[Kit]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = home / "p.yaml"
    chosen.write_text(json.dumps(options.pop("document", None) or policy()))
    local = options.pop("local", False)
    with running(
        Options(home=home, policy=str(chosen), workers=workers, local=local, **options)
    ) as (gateway, _):
        made = Kit(gateway)
        with made.client:  # one event loop for all threads of a test
            yield made
