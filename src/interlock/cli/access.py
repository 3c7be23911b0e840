"""`interlock access`: API keys, revocations and approvals of a home."""

from __future__ import annotations

import json
import time
from typing import Any

import click

HOME = click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
TENANT = click.option("--tenant", default="local", show_default=True, help="Whose it is.")
DATABASE = click.option("--database", help="The gateway's database URL, if it has one.")


@click.group()
def command() -> None:
    """Issue API keys, revoke, approve."""


def _store(home: str | None, database: str | None) -> Any:
    from interlock import config
    from interlock.access.store import AccessStore, open_database, store_of
    from interlock.crypto import files

    if database:
        return AccessStore(open_database(database))
    return store_of(files.private_dir(config.home(home)))


def _record(home: str | None, event: str, payload: dict[str, Any]) -> None:
    from interlock import config
    from interlock.guard.jobs import local_principal
    from interlock.ledger import Ledger

    with Ledger.open(config.home(home)) as ledger:
        body = {**payload, "operator": local_principal().id}
        ledger.append(event, {"outcome": "ALLOW"}, body).wait(30.0)


@command.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["person", "service", "agent"]),
    default="person",
    help="What NAME is.",
)
@click.option("--on-behalf-of", help="The person an agent acts for.")
@click.option("--days", type=click.FloatRange(min=0.001, max=365), default=30.0, help="Lifetime.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="ACTION",
    help="Limit it to an action of the rules, or to `metrics`; may be repeated.",
)
@TENANT
@HOME
@DATABASE
def key(
    name: str,
    kind: str,
    on_behalf_of: str | None,
    days: float,
    scopes: tuple[str, ...],
    tenant: str,
    home: str | None,
    database: str | None,
) -> None:
    """Issue an API key for the principal NAME; it is shown this once."""
    from interlock.access import keys
    from interlock.access.cedar import ACTIONS
    from interlock.types import Principal

    known = [*sorted(ACTIONS), "metrics"]
    if wrong := sorted(set(scopes) - set(known)):
        raise click.UsageError(f"--scope {wrong[0]!r} is none of {', '.join(known)}")
    who = Principal(id=name, kind=kind, tenant=tenant, on_behalf_of=on_behalf_of)
    key_id, value = keys.issue(_store(home, database), who, lifetime_s=days * 86_400, scopes=scopes)
    _record(
        home, "access", {"issued": key_id, "to": name, "tenant": tenant, "scopes": list(scopes)}
    )
    click.echo(f"id  {key_id}\nkey {value}")


@command.command()
@click.argument("kind", type=click.Choice(["principal", "key", "token", "tenant"]))
@click.argument("value")
@click.option("--reason", default="", help="Recorded with it.")
@TENANT
@HOME
@DATABASE
def revoke(
    kind: str, value: str, reason: str, tenant: str, home: str | None, database: str | None
) -> None:
    """Revoke a principal, key, token or tenant; running gateways see it within a second."""
    _store(home, database).revoke(kind, value, tenant, reason)
    _record(home, "revoke", {"kind": kind, "value": value, "of": tenant, "reason": reason})
    click.echo(f"revoked {kind} {value} of tenant {tenant}")


@command.command()
@click.argument("subject")
@click.option("--gate", required=True, help="Group the approval is for.")
@click.option("--days", type=click.FloatRange(min=0.001, max=90), default=7.0, help="Lifetime.")
@TENANT
@HOME
@DATABASE
def approve(
    subject: str, gate: str, days: float, tenant: str, home: str | None, database: str | None
) -> None:
    """Approve the held job SUBJECT, signed with your own keys in this home."""
    from interlock import config
    from interlock.access.approvals import approve as sign
    from interlock.crypto.keys import KeyStore
    from interlock.errors import InputError
    from interlock.guard.jobs import local_principal
    from interlock.types import Principal

    store = _store(home, database)
    found = [w for w in store.waiting(tenant) if w["subject"] == subject]
    if not found:
        raise InputError(
            "nothing waits under this subject",
            code="approval-unknown",
            got=subject[:80],
            expected="the subject that a held job names",
            fix="copy it from the held job, and give its --tenant",
        )
    keys = KeyStore(config.home(home) / "keys")
    who = local_principal().id
    body = sign(
        subject=subject,
        gate=gate,
        approver=Principal(id=who, tenant=tenant),
        submitter=Principal(
            id=found[0]["job"]["submitter"], on_behalf_of=found[0].get("on_behalf_of")
        ),
        lifetime_s=days * 86_400,
        now=time.time(),
        signer=who,
        key=lambda a: keys.signing_key(f"approver-{who}-{a}", a),
    )
    _record(home, "approval", {"approval": body})
    store.add_approval(body)
    click.echo(f"{who} approved {subject} for {gate}")


@command.command()
@click.option("--gateway", is_flag=True, help="The gateway's keys, to let it vouch.")
@HOME
def public(gateway: bool, home: str | None) -> None:
    """Print your public keys, for `admit.approvals.approvers` in a policy."""
    from interlock import config
    from interlock.crypto import files
    from interlock.crypto.keys import KeyStore
    from interlock.guard.bundle import public_keys
    from interlock.guard.jobs import local_principal

    keys = KeyStore(files.private_dir(config.home(home)) / "keys")
    who = "gateway" if gateway else local_principal().id
    name = "gateway" if gateway else f"approver-{who}"
    click.echo(json.dumps({"id": who, "public": public_keys(keys, name)}, indent=1))
