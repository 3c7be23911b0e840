"""The command line: one thin module a command, loaded only when it is called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from interlock.errors import InterlockError, StorageError

__all__ = ["main", "silence"]

#: command -> one line of help. Each lives in `interlock.cli.<command>` as `command`. Keep sorted.
COMMANDS: dict[str, str] = {
    "access": "Issue API keys, revoke, approve.",
    "backup": "Write everything of a home into one file, while it is in use.",
    "bom": "Print a bill of materials: cryptography, software or a model.",
    "canary": "Mark sensitive columns, so that what reaches a circuit is found.",
    "certs": "Issue, show and rotate certificates.",
    "check": "Say before the queue whether circuits will run, and what they cost.",
    "ci": "Scan, preflight, policy tests and statistical tests in one command.",
    "demo": "Show what the guard does, in six scenes, without account or network.",
    "detector": "Check signed detectors, or roll one back.",
    "doctor": "Say what is installed, what works, and how to mend what does not.",
    "env": "Throwaway environments: tenant, keys, home and simulated devices.",
    "envelope": "Encrypt files to a key and open them: X25519 + ML-KEM-768, AES-256-GCM.",
    "erase": "Destroy the data keys of a subject; proofs stay valid.",
    "explain": "Say why a job was released or refused, with its whole lineage.",
    "export": "Write a signed evidence bundle for an auditor, a subject or the public.",
    "exposure": "Is data secret for longer than its encryption will be?",
    "filter": "Explain the output filter and try outputs against it.",
    "firmware": "Release signed firmware, decide what a device may boot.",
    "governor": "Hold signed limits on orders in a process of their own.",
    "health": "Say how fit devices are, and where a circuit would run best.",
    "heartbeat": "Test a quantum channel by CHSH rounds; says nothing about data.",
    "keys": "List keys, rotate the key-encryption key, choose where it is kept.",
    "ledger": "Heads, proofs, exports, witnesses, time-stamps, rotation of keys.",
    "migrate": "Bring the gateway's databases of an older version to this one.",
    "monitor": "Watch telemetry with a false-alarm budget.",
    "policy": "Make, check and show policies.",
    "qkd": "Keys from a QKD network, sealed updates, a simulated link.",
    "replay": "Decide every recorded job again; name any difference.",
    "restore": "Make a home from a backup, checked.",
    "resume": "Lift the stop.",
    "run": "Run a program with every quantum call guarded.",
    "scan": "Look for secrets, unsafe code and unsafe model files.",
    "serve": "Run the gateway, which holds the credentials.",
    "stop": "Stop everything: nothing is admitted, nothing released.",
    "verify": "Check a ledger offline: every entry and every signed head.",
    "weights": "Sign and check weights and chains of training checkpoints.",
    "witness": "Serve a witness that cosigns only consistent checkpoints.",
    "zones": "Which process may talk to which: one file, and firewalls made from it.",
}


class _Lazy(click.Group):
    """A group that imports a command only when it runs: `--help` stays fast."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"interlock.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def _version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"interlock {version('interlock')}")
        ctx.exit()


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the version.",
)  # fmt: skip
def cli() -> None:
    """One guarded path between AI code and any quantum backend.

    Bad jobs stop before they cost anything, bad results stop before they act, and anyone can
    check why, offline.
    """


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code; errors print as text, never a traceback."""
    try:
        result: Any = cli.main(args=argv, prog_name="interlock", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = 130
    except InterlockError as error:
        click.echo(error.diagnostics(), err=True)
        code = error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "interlock").partition(".")[0] == "interlock":
            raise  # ours: not a package that somebody could install
        from interlock.extras import missing

        lacking = missing(error)
        click.echo(lacking.diagnostics(), err=True)
        code = lacking.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        silence()
        full = StorageError(
            "the output could not be written",
            code="output-lost",
            got=str(error),
            expected="room for the output",
            fix="free some space, or write it to another place; the ledger is not touched by this",
        )
        click.echo(full.diagnostics(), err=True)
        code = full.exit_code
    if argv is None:
        sys.exit(code)
    return code


def silence() -> None:
    """Write nothing to standard output from here on: it cannot be written."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
