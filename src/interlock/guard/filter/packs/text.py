"""The text pack, for language models with a quantum layer: form, length, patterns, PII, injection.

The markers of prompt injection are a heuristic: they catch the phrases of public attacks and miss
a paraphrase. Text is folded before it is searched (`packs.folding`). Patterns run in RE2 and
ignore case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from interlock.errors import SetupError
from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.guard.filter.packs.folding import fold, skeleton, visible
from interlock.guard.filter.packs.personal import pii_spans
from interlock.guard.filter.schema import check_schema, errors, linear_pattern
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["INJECTION", "TextControl", "TextSettings", "fold", "pii_spans", "text_faults"]

#: Phrases of public prompt-injection attacks, on folded text.
INJECTION: dict[str, str] = {
    "ignore-previous": (
        r"\b(ignore|disregard|forget|override)\b.{0,40}"
        r"\b(previous|prior|above|earlier|all|your)\b.{0,30}"
        r"\b(instruction|prompt|rule|direction|context|message)s?"
        r"|\b(ignore|disregard|forget) (all|everything|anything|whatever|what)\b.{0,30}"
        r"\b(above|before|earlier|so far|told|said)\b"
        r"|\b(ignore|disregard) (all |everything )?(the )?(above|preceding|foregoing)\b"
    ),
    "new-role": (
        r"\byou are (now|no longer)\b|\bdeveloper mode\b|\bdo anything now\b"
        r"|\bact as (an?|the) (unrestricted|jailbroken|evil|root|developer)"
    ),
    "reveal-prompt": (
        r"\b(reveal|show|print|repeat|output|leak)\b.{0,30}"
        r"\b(system|hidden|initial|secret)\b.{0,15}\b(prompt|instruction|message)s?"
    ),
    "chat-markup": (
        r"< ?\|? ?(im_start|im_end|system|endoftext|assistant) ?\|? ?>"
        r"|\[/?inst\]|###\s*(system|instruction)"
    ),
    "exfiltrate": (
        r"!\[[^\]]{0,80}\]\(https?://"
        r"|\b(send|post|upload|exfiltrate)\b.{0,40}\b(to|at) https?://"
    ),
    "encoded-order": r"\b(decode|base64|rot13)\b.{0,40}\b(and|then) (follow|execute|obey|run)\b",
}

#: What presidio finds that is no datum of a person; `forbidden` can refuse it.
_NOT_PERSONAL = frozenset({"URL", "DATE_TIME"})


class TextSettings(Settings, frozen=True, kw_only=True):
    """Settings of `text`.

    Attributes:
        field: the decoded field with the text a model wrote, text or a list of text.
        input_field: the field with the text a model read; searched for injection; null for none.
        min_chars: shortest text allowed.
        max_chars: longest text allowed.
        forbidden: RE2 patterns, by name, that may not occur, whatever the case; searched in the
            text as it is and folded.
        schema: JSON Schema that the text, read as JSON, must fit.
        pii: kinds refused in the output: email, card, iban, us-ssn, phone, ipv4.
        presidio: also ask presidio-analyzer (needs the `pii` extra).
        presidio_model: an installed spaCy model, to find names and places too; null for
            presidio's pattern recognisers alone. Nothing is downloaded.
        injection: refuse the markers of prompt injection in the input.
        on_fail: what a violation leads to.
    """

    field: str = "text"
    input_field: str | None = None
    min_chars: Annotated[int, msgspec.Meta(ge=0)] = 1
    max_chars: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    forbidden: dict[str, str] = msgspec.field(default_factory=dict)
    schema: dict[str, Any] | None = None
    pii: tuple[Literal["email", "card", "iban", "us-ssn", "phone", "ipv4"], ...] = (
        "email", "card", "iban", "us-ssn",
    )  # fmt: skip
    presidio: bool = False
    presidio_model: str | None = None
    injection: bool = True
    on_fail: Literal["block", "fallback", "hold"] = "block"

    def __post_init__(self) -> None:
        for pattern in self.forbidden.values():
            linear_pattern("(?i)" + pattern)
        if self.schema is not None:
            check_schema("text", self.schema)


def text_faults(settings: TextSettings, text: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (rule, got, expected) of one text a model wrote; never the PII itself."""
    if not isinstance(text, str):
        yield "form", type(text).__name__, "text"
        return
    if not settings.min_chars <= len(text) <= settings.max_chars:
        yield "length", f"{len(text)}", f"{settings.min_chars} to {settings.max_chars} characters"
        if len(text) > settings.max_chars:
            return
    if settings.schema is not None:
        try:
            value = msgspec.json.decode(text)
            json.loads(text, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            yield "schema", f"not JSON: {error}", "JSON that fits the schema"
        else:
            for at, message, expected in errors(settings.schema, value):
                yield "schema", f"{at} {message}".strip(), expected
    folded = fold(text)
    for name, pattern in settings.forbidden.items():
        wanted = linear_pattern("(?i)" + pattern)
        if wanted.search(folded) or wanted.search(text):
            yield f"forbidden.{name}", "it occurs", f"no {pattern}"
    for kind, start, end in pii_spans(folded, settings.pii):
        yield f"pii.{kind}", f"characters {start} to {end}", "no personal data"


def _distinct(members: list[tuple[str, Any]]) -> None:
    """Refuse a member that stands twice: one reader takes the first, another the last."""
    if len(dict(members)) < len(members):
        raise ValueError("a member stands twice in an object")


class TextControl(Control):
    """Screens the text a model read and wrote."""

    id = "text"
    stage = "filter"
    phase = 1
    Settings = TextSettings

    def prepare(self, settings: TextSettings) -> None:
        """Load presidio: ten seconds of CPU."""
        if settings.presidio:
            _presidio("text", settings.presidio_model)

    def gather(self, request: Request, settings: TextSettings) -> Evidence:
        """Take the texts; ask presidio if the policy says so."""
        fields = fields_of(request)
        texts = _listed(fields.get(settings.field))
        inputs = _listed(fields.get(settings.input_field)) if settings.input_field else []
        evidence: dict[str, Any] = {"texts": texts, "inputs": inputs}
        if settings.presidio:
            evidence["presidio"] = [
                _presidio(t, settings.presidio_model) for t in texts if isinstance(t, str)
            ]
        return evidence

    def decide(self, job: Job, settings: TextSettings, evidence: Evidence) -> Verdict:
        """Check every text; no text is a violation, for the input as for the output."""
        findings: list[Finding] = []

        def say(rule: str, got: str, expected: str, at: str) -> None:
            findings.append(
                Finding(
                    rule=f"filter.text.{rule}",
                    message=f"the text breaks the rule {rule}",
                    got=got,
                    expected=expected,
                    location=at,
                )
            )

        for index, text in enumerate(evidence["texts"] or [None]):
            for rule, got, expected in text_faults(settings, text):
                say(rule, got, expected, f"text {index}")
        if settings.presidio:
            if len(evidence["presidio"]) != len(evidence["texts"]):
                say("pii.presidio", "no answer", "an answer for every text", "all texts")
            for index, kinds in enumerate(evidence["presidio"]):
                for kind in kinds:
                    say(f"pii.{kind.lower()}", "presidio found it", "no personal data",
                        f"text {index}")  # fmt: skip
        if settings.input_field and settings.injection:
            for index, text in enumerate(evidence["inputs"] or [None]):
                for name in _injections(text, settings.max_chars):
                    say(f"injection.{name}", "a marker of prompt injection", "plain input",
                        f"input {index}")  # fmt: skip
        worst = Decision.DENY if settings.on_fail == "block" else Decision[settings.on_fail.upper()]
        return verdict(evidence, findings, worst)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _injections(text: Any, max_chars: int) -> Iterator[str]:
    if not isinstance(text, str) or len(text) > max_chars:
        yield "unreadable"
        return
    folded = fold(text)
    plain = skeleton(folded)
    for name, pattern in INJECTION.items():
        wanted = linear_pattern(pattern)
        if wanted.search(folded) or wanted.search(plain):
            yield name


@cache
def _engine(model: str | None) -> Any:
    """Return presidio on an installed model, or on a blank tokenizer; it would download one."""
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        pipeline = spacy.blank("en") if model is None else spacy.load(model)
    except (ImportError, OSError) as error:
        raise SetupError(
            "presidio or its language model is not installed",
            code="extra-missing",
            got=f"{type(error).__name__}: {error}",
            expected="presidio-analyzer, and the spaCy model that presidio_model names",
            fix="pip install 'interlock[pii]'; leave presidio_model out for patterns alone",
        ) from error
    # The list of public suffixes comes from the wheel, not from the network.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    engine: Any = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": model or "blank"}])
    engine.nlp = {"en": pipeline}
    return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


def _presidio(text: str, model: str | None) -> list[str]:
    results = _engine(model).analyze(text=visible(text), language="en")
    found: Mapping[str, None] = dict.fromkeys(
        # A recogniser that matches any digits says so with a low score.
        r.entity_type
        for r in results
        if r.score >= 0.5 and r.entity_type not in _NOT_PERSONAL
    )
    return sorted(found)
