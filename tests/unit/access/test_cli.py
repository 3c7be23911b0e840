import json
from pathlib import Path

from click.testing import CliRunner

from interlock.access import keys
from interlock.access.store import store_of
from interlock.cli.access import command
from interlock.ledger import Ledger
from interlock.types import Principal


def run(*arguments: str) -> str:
    done = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_key_is_issued_used_and_revoked_and_the_ledger_never_holds_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = run("key", "ada", "--tenant", "north", "--home", str(home)).split()
    key_id, key = made[1], made[3]
    row = keys.lookup(store_of(home), key)
    assert row is not None
    assert row.principal == Principal(id="ada", tenant="north")
    run("revoke", "key", key_id, "--tenant", "north", "--home", str(home))
    assert store_of(home).revoked(row.principal, key=key_id) == f"key {key_id}"
    with Ledger.open(home) as ledger:
        events = [(e.event, e.payload) for e in ledger.entries()]
    assert [name for name, _ in events] == ["access", "revoke"]
    assert key.rsplit("_", 1)[1] not in str(events)


def test_the_approval_of_the_command_line_is_one_the_policy_can_check(
    tmp_path: Path,
) -> None:
    from interlock.access.approvals import Approver, check, described, subject_of
    from interlock.guard.jobs import local_principal
    from tests.unit.guard.doubles import a_job

    me = local_principal().id
    home = tmp_path / "home"
    shown = json.loads(run("public", "--home", str(home)))
    import datetime as dt

    now = dt.datetime.now(dt.UTC)
    job = a_job(submitted_at=now.isoformat())
    subject = subject_of(job, "v")
    store_of(home).wait_for(subject, "local", {"gates": {}, "job": described(job, "v")})
    run("approve", subject, "--gate", "ethics", "--home", str(home))
    approver = Approver(id=me, groups=("ethics",), public=shown["public"])
    (body,) = store_of(home).approvals(subject, "local")
    assert check(body, (approver,), subject=subject, job=job, at=now.timestamp()) == me


def test_a_key_is_limited_to_its_scopes_and_a_scope_that_is_none_is_refused(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "home"))
    made = run("key", "bot", "--scope", "submit", "--scope", "metrics", *home).split()
    row = keys.lookup(store_of(tmp_path / "home"), made[3])
    assert row is not None
    assert row.scopes == ("submit", "metrics")
    done = CliRunner().invoke(command, ["key", "bot", "--scope", "everything", *home])
    assert done.exit_code == 2
    assert "submit" in done.output
