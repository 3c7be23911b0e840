"""The case's gateways: one with two tenants, and one account that both teams share."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from interlock.access import keys
from interlock.access.identity import Identity
from interlock.gateway.rest import build_app
from interlock.gateway.serve import Options, running
from interlock.gateway.service import Gateway
from interlock.gateway.store import Tenant
from interlock.guard.policy import load_policy, parse_yaml
from interlock.types import Principal

#: Whose job it is stands in its label, so that a read of it can be told.
CANARY = "label-of-"
PEOPLE = {"north": "ada", "south": "sol"}


class Shared:
    """A running gateway that two teams use.

    Args:
        gateway: the gateway.
        client: speaks REST to it.
        tenants: team -> the tenant its people are in.
    """

    def __init__(self, gateway: Gateway, client: TestClient, tenants: dict[str, str]) -> None:
        self.gateway = gateway
        self.client = client
        self.tenants = tenants
        self.keys = {
            team: self._key(PEOPLE[team], tenant, 86_400) for team, tenant in tenants.items()
        }

    def _key(self, who: str, tenant: str, lifetime_s: float) -> str:
        made = Principal(id=who, tenant=tenant)
        return keys.issue(self.gateway.access, made, lifetime_s=lifetime_s)[1]

    def fresh_key(self, team: str) -> str:
        """Return another key of a team, as one of its pipelines has it."""
        return self._key(PEOPLE[team], self.tenants[team], 3600)

    def auditor(self, team: str) -> Identity:
        """Return who may read a tenant's record."""
        who = {"north": "audra", "south": "sol"}[team]
        return Identity(principal=Principal(id=who, tenant=self.tenants[team]), method="case")

    def call(self, team: str, method: str, path: str, body: Any = None) -> Any:
        """Ask the gateway something as a team."""
        headers = {"authorization": f"Bearer {self.keys[team]}"}
        return self.client.request(method, path, headers=headers, json=body)

    def run_jobs(self, count: int) -> dict[str, list[str]]:
        """Run jobs of both teams through the shared queue; return their ids and receipts."""
        made: dict[str, list[str]] = {team: [] for team in self.tenants}
        for number in range(count):
            for team in self.tenants:
                reply = self.call(team, "POST", "/v1/jobs", job(team, number))
                made[team].append(str(reply.json()["id"]))
        for team, names in made.items():
            for name in tuple(names):
                path = f"/v1/jobs/{name}/result?wait=30"
                outcome = self.call(team, "GET", path).json()
                if outcome.get("outcome") != "RELEASE":
                    raise SystemExit(f"a job of {team} was not released: {outcome}")
                names.append(str(outcome["receipt"]["id"]))
        return made

    def works(self, key: str) -> bool:
        """Whether a key is still taken."""
        reply = self.client.get("/v1/tenant", headers={"authorization": f"Bearer {key}"})
        return bool(reply.status_code == 200)

    def revoke_shown(self, key: str, since: float) -> float:
        """Revoke a key that stood in a log; return the seconds until the gateway refuses it."""
        parts = keys.parse(key)
        row = self.gateway.access.key(parts[0]) if parts else None
        if row is None:
            return 0.0  # no key of ours
        who = row.principal
        self.gateway.access.revoke("key", row.id, who.tenant, "shown in a job's log")
        self.gateway.guard.ledger.append(
            "revoke",
            {"tenant": who.tenant, "outcome": "DENY"},
            {"kind": "key", "value": row.id, "principal": {"id": who.id}, "reason": "in a log"},
        ).wait(10.0)
        while self.works(key):
            time.sleep(0.02)
        return time.perf_counter() - since


def job(team: str, number: int) -> dict[str, Any]:
    """Return a small circuit as a submission."""
    circuit = {
        "num_qubits": 2, "num_clbits": 2, "version": 1, "global_phase": 0.0,
        "operations": [["h", [], [0]], ["cx", [], [0, 1]], ["rz", [0.001 * number], [1]],
                       ["measure", [], [0], [0]], ["measure", [], [1], [1]]],
        "registers": [["meas", [0, 1]]],
    }  # fmt: skip
    return {
        "kind": "sample", "backend": "aer_simulator", "seed": number,
        "labels": [f"{CANARY}{team}"], "programs": [{"circuit": circuit, "shots": 100}],
    }  # fmt: skip


def _document() -> dict[str, Any]:
    folder = resources.files("interlock.guard").joinpath("starters", "multi-tenant-provider")
    document = dict(parse_yaml(folder.joinpath("policy.yaml").read_text("utf-8"), "policy.yaml"))
    members = parse_yaml(folder.joinpath("members.yaml").read_text("utf-8"), "members.yaml")
    for member in members["members"]:
        if member["id"] == "sol":  # all that a tenant's own people may be
            member["roles"] = ["researcher", "lead", "approver", "admin", "auditor"]
    rules = folder.joinpath("rules.cedar").read_text("utf-8")
    document["admit"]["authorisation"] = {"rules": rules, **members}
    return document


@contextlib.contextmanager
def _gateway(
    home: Path, document: dict[str, Any], tenants: dict[str, str], backends: dict[str, Any]
) -> Iterator[Shared]:
    home.mkdir(mode=0o700, parents=True)
    (home / "backends.yaml").write_text(json.dumps({"backends": backends}))
    (home / "policy.yaml").write_text(json.dumps(document))
    load_policy(str(home / "policy.yaml"))
    options = Options(home=home, policy=str(home / "policy.yaml"), workers=2, local=False)
    with running(options) as (gateway, _):
        for tenant in set(tenants.values()):
            gateway.store.set_tenant(Tenant(name=tenant, rate=1e6, burst=1e6))
        with TestClient(build_app(gateway), raise_server_exceptions=False) as client:
            yield Shared(gateway, client, tenants)


@contextlib.contextmanager
def two_tenants(home: Path) -> Iterator[Shared]:
    """A provider's gateway: north and south are tenants, each with a device of its own."""
    backends = {
        "aer_simulator": {"provider": "aer"},
        "south_1": {"provider": "twin", "device": "quito", "tenant": "south"},
    }
    tenants = {"north": "north", "south": "south"}
    with _gateway(home, _document(), tenants, backends) as shared:
        yield shared


@contextlib.contextmanager
def shared_account(home: Path) -> Iterator[Shared]:
    """What teams do without one: a single account, in which everybody may look after all jobs."""
    document = _document()
    members = [{"id": p, "tenant": "lab", "roles": ["researcher", "lead"]} for p in PEOPLE.values()]
    document["admit"]["authorisation"]["members"] = members
    tenants = {"north": "lab", "south": "lab"}
    with _gateway(home, document, tenants, {"aer_simulator": {"provider": "aer"}}) as shared:
        yield shared
