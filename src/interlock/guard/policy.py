"""The policy: which controls each stage has, and with what settings."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from interlock import plugins
from interlock.crypto.files import MAX_SMALL
from interlock.errors import PolicyError, SetupError
from interlock.guard.control import Control, Settings
from interlock.guard.pipeline import BASELINE, QUANTUM, STAGES, Asked

__all__ = ["Bound", "Policy", "Timeouts", "json_schema", "load_policy", "parse_yaml"]

VERSION = 1
_TOP = ("interlock", "name", "timeouts", *STAGES)


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long things may take before they count as failed.

    Attributes:
        control_s: seconds for a control to gather, for those of a phase to decide, and for all to
            settle.
        execute_s: seconds for the execution of a job.
    """

    control_s: float = 30.0
    execute_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A control with its settings. `control` is None when it is not installed."""

    id: str
    control: Control | None
    settings: Any
    phase: int = 0

    @cached_property
    def settles(self) -> bool:
        """Whether there is anything to do when the job has ended."""
        return self.control is not None and type(self.control).settle is not Control.settle


Registry = Callable[[str, str], type[Control]]


def _installed_control(stage: str, control: str) -> type[Control]:
    cls: type[Control] = plugins.load(f"interlock.{stage}", control)
    return cls


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy, checked and bound to its controls. Build it with `load_policy`."""

    name: str
    document: Mapping[str, Any]
    timeouts: Timeouts
    bound: Mapping[str, tuple[Bound, ...]]

    def controls(self, stage: str) -> tuple[Bound, ...]:
        """Return the controls of a stage."""
        return self.bound.get(stage, ())

    def questions(self, stage: str, branch: str) -> tuple[Asked, ...]:
        """Return what a stage asks its controls, phase by phase, in the order they run."""
        return self._questions.get((stage, branch), ())

    def prepare(self) -> None:
        """Let every control load what is slow to load, before a deadline counts it."""
        for bound in (b for stage in self.bound.values() for b in stage):
            if bound.control is not None:
                # `gather` fails likewise, and its failure denies on record.
                with contextlib.suppress(Exception):
                    bound.control.prepare(bound.settings)

    @cached_property
    def _questions(self) -> dict[tuple[str, str], tuple[Asked, ...]]:
        return {
            (stage, branch): tuple(
                Asked(stage, branch, phase, tuple(b for b in bound if b.phase == phase))
                for phase in sorted({b.phase for b in bound})
            )
            for stage, bound in self.bound.items()
            for branch in (QUANTUM, BASELINE)
        }

    @cached_property
    def sha256(self) -> str:
        """Identity of the policy: the hash of its content, not of its spacing or comments."""
        return hashlib.sha256(msgspec.json.encode(self.document, order="deterministic")).hexdigest()

    @classmethod
    def from_document(
        cls, document: Any, *, registry: Registry = _installed_control, strict: bool = True
    ) -> Policy:
        """Check a parsed document and bind its controls.

        Args:
            document: the parsed YAML.
            registry: finds the class of a control; tests may pass their own.
            strict: raise when a control is not installed; else bind it as missing, which denies.

        Raises:
            PolicyError: what is wrong with which key, and the nearest right key.
        """
        if not isinstance(document, Mapping):
            raise PolicyError(
                "a policy is a mapping of stages to controls",
                code="policy-not-a-mapping",
                got=type(document).__name__,
                expected="keys such as admit:, verify:, filter:",
                fix="start from `interlock policy init`",
            )
        _known_keys(document, _TOP, "policy")
        if document.get("interlock") != VERSION:
            raise PolicyError(
                "the policy does not say which format it has",
                code="policy-version",
                got=repr(document.get("interlock")),
                expected=f"interlock: {VERSION}",
                fix=f"put `interlock: {VERSION}` at the top of the policy",
            )
        bound: dict[str, tuple[Bound, ...]] = {}
        for stage in STAGES:
            section = document.get(stage)
            if not isinstance(section, Mapping) or not section:
                raise PolicyError(
                    f"stage {stage!r} has no control",
                    code="policy-empty-stage",
                    got=repr(section),
                    expected=f"at least one of: {_options(stage)}",
                    fix=f"add a control under `{stage}:`; every stage must decide",
                )
            bound[stage] = tuple(
                _bind(stage, str(name), section[name], registry, strict)
                for name in sorted(section, key=str)
            )
        return cls(
            name=str(document.get("name", "unnamed")),
            document=document,
            timeouts=_convert(document.get("timeouts") or {}, Timeouts, "timeouts"),
            bound=bound,
        )


def _options(stage: str) -> str:
    return ", ".join(plugins.installed(f"interlock.{stage}")) or "(none installed)"


def _known_keys(section: Mapping[Any, Any], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in section:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1, 0.5)
            raise PolicyError(
                f"{where} has an unknown key {str(key)!r}",
                code="policy-unknown-key",
                got=str(key),
                expected="one of " + ", ".join(names),
                fix=f"did you mean {near[0]!r}?" if near else "remove the key",
            )


def _bind(stage: str, name: str, value: Any, registry: Registry, strict: bool) -> Bound:
    where = f"{stage}.{name}"
    try:
        cls = registry(stage, name)
    except SetupError as error:
        if not strict:
            return Bound(id=name, control=None, settings=None)
        if error.code == "plugin-broken":
            raise
        near = difflib.get_close_matches(name, plugins.installed(f"interlock.{stage}"), 1, 0.5)
        raise PolicyError(
            f"stage {stage!r} has no control named {name!r}",
            code="policy-unknown-control",
            got=name,
            expected=f"one of: {_options(stage)}",
            fix=f"did you mean {near[0]!r}?" if near else (error.fix or "remove the key"),
        ) from error
    return Bound(
        id=name, control=cls(), settings=_convert(value or {}, cls.Settings, where), phase=cls.phase
    )


def _convert(value: Any, struct: type[Any], where: str) -> Any:
    if not isinstance(value, Mapping):
        raise PolicyError(
            f"{where} is not a mapping of settings",
            code="policy-settings",
            got=repr(value),
            expected="settings such as `key: value`, or {} for the defaults",
            fix=f"write `{where.rsplit('.', 1)[-1]}: {{}}`",
        )
    _known_keys(value, struct.__struct_encode_fields__, where)
    try:
        return msgspec.convert(value, struct, strict=True)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$.")
        place = at.rstrip("`")
        setting = place.partition(".")[0].partition("[")[0]
        raise PolicyError(
            f"{where}{place and '.'}{place} has a wrong value",
            code="policy-value",
            got=repr(value.get(setting, dict(value)))[:200],
            expected=what.removeprefix("Expected ").partition(", got ")[0],
            fix=f"see docs/reference/policy.md, {where}",
        ) from error


def load_policy(source: Policy | Mapping[str, Any] | str | Path | None = None) -> Policy:
    """Load a policy from a file, a mapping, or a starter name.

    Args:
        source: a path to a YAML file, a signed `.bundle` or the folder of one, a parsed mapping,
            a Policy, or None for the shipped `starter` policy.

    Raises:
        PolicyError: the file is missing, is not YAML, or has wrong keys or values.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, Mapping):
        return Policy.from_document(source)
    if source is None:
        text = resources.files("interlock.guard").joinpath("starter.yaml").read_text("utf-8")
        label = "the starter policy"
    else:
        path = Path(source)
        label = str(path)
        if path.suffix == ".bundle" or path.is_dir():
            from interlock import config
            from interlock.guard.bundle import open_bundle

            return open_bundle(path, config.home()).policy()
        try:
            with path.open("rb") as handle:  # a pipe will do: --policy <(...)
                data = handle.read(MAX_SMALL + 1)
            if len(data) > MAX_SMALL:
                raise OSError(errno.EFBIG, f"larger than {MAX_SMALL} bytes")
            text = data.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(
                f"cannot read the policy {label}",
                code="policy-unreadable",
                got=f"{type(error).__name__}: {error}",
                expected="a readable YAML file",
                fix="check the path, or make one with `interlock policy init`",
            ) from error
    return Policy.from_document(parse_yaml(text, label))


def parse_yaml(text: str, label: str) -> Any:
    """Parse YAML that has no aliases (they can explode) and no key twice (one would win)."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.MarkedYAMLError(None, None, "a policy may not use aliases", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PolicyError(
            f"{label} is not a YAML document a policy may be",
            code="policy-not-yaml",
            got=" ".join(str(error).split()),
            expected="YAML without aliases and with every key once",
            fix="mend the line named above",
        ) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy with all installed controls."""
    properties: dict[str, Any] = {
        "interlock": {"const": VERSION},
        "name": {"type": "string"},
        "timeouts": msgspec.json.schema(Timeouts)["$defs"]["Timeouts"],
    }
    definitions: dict[str, Any] = {}
    for stage in STAGES:
        section: dict[str, Any] = {}
        for name in plugins.installed(f"interlock.{stage}"):
            settings: type[Settings] = plugins.load(f"interlock.{stage}", name).Settings
            (reference,), parts = msgspec.json.schema_components(
                [settings], ref_template=f"#/$defs/{stage}.{name}.{{name}}"
            )
            definitions |= {f"{stage}.{name}.{key}": part for key, part in parts.items()}
            section[name] = {"anyOf": [reference, {"type": "null"}]}
        properties[stage] = {
            "type": "object",
            "properties": section,
            "additionalProperties": False,
            "minProperties": 1,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Interlock policy",
        "type": "object",
        "properties": properties,
        "required": ["interlock", *STAGES],
        "additionalProperties": False,
        "$defs": definitions,
    }
