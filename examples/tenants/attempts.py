"""What one team tries on the other: at the gateway, at the store, and which rule stops it."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from gateway import CANARY, PEOPLE, Shared

from interlock.access.cedar import Authoriser
from interlock.guard.admit.authorisation import authoriser_of, backend_resource
from interlock.types import Principal

OTHER = {"north": "south", "south": "north"}


def fuzz(shared: Shared, made: dict[str, list[str]], tries: int, seed: int) -> dict[str, Any]:
    """Send requests of each team against the other's names; count the answers that tell anything.

    An answer crosses when it holds the other team's label, its person, or an id of a job or
    receipt of its that the caller did not send.
    """
    rng = random.Random(seed)
    statuses: Counter[str] = Counter()
    crossed = 0
    for _ in range(tries):
        team = rng.choice(("north", "south"))
        other = OTHER[team]
        sent = rng.choice(made[other])
        name = _bent(rng, sent)
        method, path, body = rng.choice(
            (
                ("GET", f"/v1/jobs/{name}", None),
                ("GET", f"/v1/jobs/{name}/result", None),
                ("POST", f"/v1/jobs/{name}/cancel", None),
                ("GET", f"/v1/jobs/{name}/events", None),
                ("GET", f"/v1/receipts/{name}", None),
                ("GET", f"/v1/jobs?limit={rng.randrange(1, 200)}", None),
                ("GET", f"/v1/jobs?state=done&before={rng.choice(('1e11', '9e10'))}", None),
                ("GET", "/v1/approvals", None),
                ("GET", "/v1/backends", None),
                ("GET", "/metrics", None),
                ("PUT", f"/v1/tenants/{other}", {"weight": 0.1}),
                ("POST", "/v1/jobs/../" + name, None),
                ("GET", f"/v1/jobs/{name}?tenant={other}", None),
            )
        )
        reply = shared.call(team, method, path, body)
        statuses[str(reply.status_code)] += 1
        secrets = {f"{CANARY}{other}", f'"{PEOPLE[other]}"', *made[other]} - {sent}
        crossed += any(s in reply.text for s in secrets) or (
            reply.status_code < 300 and sent in reply.text
        )
    return {"tried": tries, "crossed": crossed, "statuses": dict(sorted(statuses.items()))}


def _bent(rng: random.Random, name: str) -> str:
    """Return a name as it is, mostly, or bent a little."""
    forms = (name, name, name, name[:-1], name.upper(), f"{name}%00", "*", f"{name}%2e")
    return rng.choice(forms)


def at_the_store(shared: Shared, made: dict[str, list[str]]) -> dict[str, int]:
    """Ask the store itself, as code behind the gateway would, with the wrong tenant."""
    store = shared.gateway.store
    tried = crossed = 0
    for team, names in made.items():
        other = OTHER[team]
        for name in names:
            tried += 2
            crossed += store.job(name, other) is not None
            crossed += store.cancel(name, other)
        tried += 1
        listed = store.jobs(other, owner=None, state=None, before=1e11, limit=200)
        crossed += sum(row.id in names for row in listed)
    return {"tried": tried, "crossed": crossed}


def rules_that_fire(shared: Shared) -> list[list[str]]:
    """Return what each action of north on south is answered with, and the rule that decides."""
    bound = next(b for b in shared.gateway.policy.controls("admit") if b.id == "authorisation")
    rules = authoriser_of(bound.settings)
    lead = Principal(id="lea", tenant="north")
    admin = Principal(id="adm", tenant="north")
    theirs = Authoriser.job("job", "south", "sol")
    asked = [
        (lead, "read", theirs, {}),
        (lead, "cancel", theirs, {}),
        (lead, "approve", theirs, {}),
        (Principal(id="audra", tenant="north"), "read-ledger", Authoriser.tenant("south"), {}),
        (admin, "administer", Authoriser.tenant("south"), {}),
        (admin, "export-telemetry", Authoriser.tenant("south"), {"rows_today": 1}),
        (Principal(id="ada", tenant="north"), "submit",
         backend_resource("south_1", bound.settings),
         {"shots": 1, "qubits": 1, "circuits": 1, "depth": 1, "labels": [], "kind": "sample",
          "mode": "ENFORCED", "hour_utc": 12}),
    ]  # fmt: skip
    rows = []
    for who, action, resource, context in asked:
        ruling = rules.ask(who, action, resource, context)
        rows.append([f"{who.id} of north", f"{action} {resource.kind} of south",
                     "ALLOW" if ruling.allowed else "DENY", ", ".join(ruling.rules)])  # fmt: skip
    return rows
