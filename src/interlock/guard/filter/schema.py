"""JSON Schema (2020-12) of a decoded output, without its two dangers.

References stay inside the document (nothing is fetched), and `pattern` runs in RE2, whose time is
linear in the text: a hostile output cannot make a pattern backtrack for hours.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from interlock.errors import SetupError

__all__ = ["check_schema", "errors", "linear_pattern"]

_MAX_ERRORS = 5


def _need(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(
            f"this rule needs {package}",
            code="extra-missing",
            got=str(error),
            expected=f"{package} to be installed",
            fix="pip install 'interlock[filter]'",
        ) from error


@lru_cache(maxsize=512)
def linear_pattern(text: str) -> Any:
    """Compile a pattern with RE2: linear time, no look-around, no back-references.

    Raises:
        SetupError: RE2 is not installed.
        ValueError: the pattern is not in the RE2 language.
    """
    re2 = _need("re2", "google-re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"{text!r} is no RE2 pattern: {error}") from error


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def check_schema(name: str, schema: dict[str, Any]) -> None:
    """Refuse a schema that is none, that refers outside itself, or whose patterns are not RE2.

    Raises:
        ValueError: what is wrong with it.
    """
    for key, item in _walk(schema):
        if key in ("$ref", "$dynamicRef") and not str(item).startswith("#"):
            raise ValueError(f"constraint {name!r}: {key} {item!r} leaves the document")
        if key == "pattern" and isinstance(item, str):
            linear_pattern(item)
        if key == "patternProperties" and isinstance(item, Mapping):
            for pattern in item:
                linear_pattern(str(pattern))
    _validator(msgspec.json.encode(schema, order="deterministic"), name)


@lru_cache(maxsize=128)
def _validator(document: bytes, name: str = "schema") -> Any:
    jsonschema = _need("jsonschema", "jsonschema")
    referencing = _need("referencing", "jsonschema")

    def pattern(_validator: Any, wanted: str, value: Any, _schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not linear_pattern(wanted).search(value):
            yield jsonschema.ValidationError(f"{value[:80]!r} does not match {wanted!r}")

    def pattern_properties(
        validator: Any, wanted: Mapping[str, Any], value: Any, _schema: Any
    ) -> Iterator[Any]:
        if isinstance(value, Mapping):
            for text, part in wanted.items():
                for key, item in value.items():
                    if linear_pattern(text).search(key):
                        yield from validator.descend(item, part, path=key, schema_path=text)

    base = jsonschema.Draft202012Validator
    schema = msgspec.json.decode(document)
    try:
        base.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"constraint {name!r}: not a JSON Schema: {error.message}") from error
    linear = jsonschema.validators.extend(
        base, {"pattern": pattern, "patternProperties": pattern_properties}
    )
    return linear(schema, registry=referencing.Registry())


def errors(schema: dict[str, Any], value: Any) -> list[tuple[str, str, str]]:
    """Return (where, message, what the schema wants) of the first errors.

    Example:
        >>> errors({"type": "object", "required": ["energy"]}, {})
        [('', "'energy' is a required property", 'required: ["energy"]')]
    """
    found = []
    for error in _validator(msgspec.json.encode(schema, order="deterministic")).iter_errors(value):
        where = "".join(f"[{p!r}]" for p in error.absolute_path)
        wanted = msgspec.json.encode(error.validator_value).decode()
        found.append((where, str(error.message)[:200], f"{error.validator}: {wanted[:120]}"))
        if len(found) == _MAX_ERRORS:
            break
    return found
