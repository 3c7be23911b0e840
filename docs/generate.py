"""Writes the reference pages that come from the code: `python docs/generate.py`.

`docs/reference/policy.md` from the controls and their settings, `docs/reference/cli.md` from the
commands. A test holds that they are up to date.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from interlock import plugins
from interlock.cli import COMMANDS, cli
from interlock.guard.pipeline import STAGES
from interlock.guard.policy import Timeouts

REFERENCE = Path(__file__).parent / "reference"

QUESTIONS = {
    "admit": "May this principal ask for this, now, with this data?",
    "verify": "Is the circuit well-formed, within limits, and what was reviewed?",
    "health": "Is the device fit for this circuit?",
    "execute": "Run it, isolated.",
    "validate": "Is the result physics, or noise?",
    "filter": "Does the decoded output obey the constraints?",
    "govern": "May it act, at this speed and volume?",
    "release": "Hand over with a receipt, or fall back.",
}


def attributes(struct: type[Any]) -> dict[str, str]:
    """Return the documented attributes of a class, from its docstring."""
    text = inspect.cleandoc(struct.__doc__ or "")
    _, found, body = text.partition("Attributes:\n")
    if not found:
        return {}
    entries: dict[str, str] = {}
    name = ""
    for line in body.split("\n"):
        match = re.match(r"    (\w+): (.*)", line)
        if match:
            name = match[1]
            entries[name] = match[2]
        elif name and line.startswith("        "):
            entries[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            break
    return entries


def settings_table(struct: type[Any]) -> list[str]:
    """Return the table of a settings struct; fails when a setting has no description."""
    described = attributes(struct)
    rows = []
    for field in msgspec.structs.fields(struct):
        if field.name not in described:
            raise SystemExit(f"{struct.__qualname__}.{field.name} has no description")
        if field.default is not msgspec.NODEFAULT:
            default = json.dumps(msgspec.to_builtins(field.default))
        elif field.default_factory is not msgspec.NODEFAULT:
            default = json.dumps(msgspec.to_builtins(field.default_factory()))
        else:
            default = "(required)"
        text = described[field.name].replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{default}` | {text} |")
    return ["| setting | default | meaning |", "|---|---|---|", *rows] if rows else ["No settings."]


def nested(struct: type[Any]) -> list[type[Any]]:
    """Return the structs a settings struct is made of, itself left out."""
    found: list[type[Any]] = []

    def visit(kind: Any) -> None:
        for inner in getattr(kind, "__args__", ()):
            visit(inner)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.append(kind)
            for field in msgspec.structs.fields(kind):
                visit(field.type)

    for field in msgspec.structs.fields(struct):
        visit(field.type)
    return found


def policy_page() -> str:
    """Return `docs/reference/policy.md`."""
    lines = [
        "# Policy reference",
        "",
        "Made by `python docs/generate.py` from the code. A policy is a YAML file: `interlock: 1`,",
        "`name`, `timeouts`, and one section a stage. Every stage needs at least one control.",
        "`interlock policy init` writes the starter policy, `check` checks one, `show` prints each",
        "setting in force, `schema` prints the JSON Schema.",
        "",
        "## timeouts",
        "",
        *settings_table(Timeouts),
        "",
    ]
    for stage in STAGES:
        lines += [f"## {stage}", "", QUESTIONS[stage], ""]
        for name in plugins.installed(f"interlock.{stage}"):
            cls = plugins.load(f"interlock.{stage}", name)
            lines += [f"### {stage}.{name}", "", inspect.cleandoc(cls.__doc__ or ""), ""]
            lines += [*settings_table(cls.Settings), ""]
            for struct in nested(cls.Settings):
                summary = inspect.cleandoc(struct.__doc__ or "").split("\n\n")[0]
                lines += [f"`{struct.__name__}`: {summary}", "", *settings_table(struct), ""]
    return "\n".join(lines)


def command_lines(name: str, command: click.Command) -> list[str]:
    """Return the section of one command and its subcommands."""
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"## {name}", "", help_text, ""]
    if isinstance(command, click.Group):
        for sub in sorted(command.commands):
            lines += command_lines(f"{name} {sub}", command.commands[sub])
        return lines
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            rows.append(f"| `{parameter.make_metavar(click.Context(command))}` | argument |")
        elif isinstance(parameter, click.Option):
            if not parameter.help:
                raise SystemExit(f"{name} {parameter.opts[0]} has no help")
            names = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
            rows.append(f"| {names} | {parameter.help} |".replace("\n", " "))
    return [*lines, *(["| option | meaning |", "|---|---|", *rows, ""] if rows else [])]


def cli_page() -> str:
    """Return `docs/reference/cli.md`."""
    lines = ["# Command reference", "", "Made by `python docs/generate.py` from the code.", ""]
    context = click.Context(cli)
    for name in sorted(COMMANDS):
        command = cli.get_command(context, name)
        if command is None:
            raise SystemExit(f"{name} is listed but cannot be loaded")
        lines += command_lines(f"interlock {name}", command)
    lines += [
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | a check, scan, replay or comparison found something |",
        *(f"| {code} | {text} |" for code, text in sorted(exit_codes().items())),
        "| 130 | interrupted |",
        "",
        "`interlock run` ends as the program it ran: 128 + N when signal N ended it (Ctrl-C 130).",
        "",
    ]
    return "\n".join(lines)


def exit_codes() -> dict[int, str]:
    """Return the exit codes of the error classes."""
    from interlock import errors

    found: dict[int, str] = {}
    for name in errors.__all__:
        cls = getattr(errors, name)
        if cls not in (errors.InterlockError, errors.RefusedError):
            found[cls.exit_code] = inspect.cleandoc(cls.__doc__ or "").split("\n")[0]
    return found


PAGES = {"policy.md": policy_page, "cli.md": cli_page}


def main() -> None:
    """Write the pages."""
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), "utf-8")
        sys.stdout.write(f"wrote {REFERENCE / name}\n")


if __name__ == "__main__":
    main()
