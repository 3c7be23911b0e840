"""The chemistry pack: sanitise, bounds, stability, strain, alerts, toxicity model, deny list.

A screening aid, not toxicology: `docs/reference/chemistry-pack.md` prints what it misses and what
it blocks of approved drugs. Molecules come as text; RDKit reads them in a confined child.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from interlock.confine import ForkServer, Level, Limits
from interlock.errors import InputError
from interlock.guard.control import Control, Request, Settings
from interlock.guard.filter.fields import fields_of
from interlock.guard.filter.packs import molecules
from interlock.guard.result import Result
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["Bounds", "ChemistryControl", "ChemistrySettings", "Reason", "reasons"]

_ENTRY = "interlock.guard.filter.packs.molecules:assess_bytes"
_WARM_UP = "interlock.guard.filter.packs.molecules:warm_up"
_CHUNK = 200
_lock = threading.Lock()
_server: list[ForkServer] = []

#: The 95th percentile of each score over a random half of the approved drugs that ADMET-AI lists;
#: `python -m benchmarks.chemistry_pack` derives them.
DEFAULT_TOXICITY = {"AMES": 0.75, "Carcinogens_Lagunin": 0.49, "ClinTox": 0.6, "LD50_Zhu": 3.47}


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on the properties of a molecule: `[least, most]`, or null for none.

    Attributes:
        mw: molecular weight in g/mol.
        logp: Crippen octanol-water partition coefficient.
        tpsa: topological polar surface area in square angstrom.
        donors: hydrogen-bond donors.
        acceptors: hydrogen-bond acceptors.
        rotatable: rotatable bonds.
        charge: formal charge.
        heavy: heavy atoms.
        rings: rings.
    """

    mw: tuple[float, float] | None = (30.0, 700.0)
    logp: tuple[float, float] | None = (-6.0, 8.0)
    tpsa: tuple[float, float] | None = (0.0, 220.0)
    donors: tuple[float, float] | None = (0, 8)
    acceptors: tuple[float, float] | None = (0, 15)
    rotatable: tuple[float, float] | None = (0, 18)
    charge: tuple[float, float] | None = (-2, 2)
    heavy: tuple[float, float] | None = (2, 60)
    rings: tuple[float, float] | None = (0, 8)


class ChemistrySettings(Settings, frozen=True, kw_only=True):
    """Settings of `chemistry`.

    Attributes:
        field: the decoded field with the molecules, text or a list of text.
        format: how they are written.
        max_molecules: more in one output than this is refused.
        bounds: bounds on properties.
        max_strain_kcal_per_atom: largest MMFF94 energy of a relaxed conformer for each heavy atom,
            in kcal/mol; null leaves the layer out.
        alerts: RDKit catalogs of structural alerts (PAINS, BRENK, NIH).
        on_alert: alerts warn by default, because they fire on many approved drugs.
        toxicity: ADMET-AI head to the score above which a molecule is blocked; {} leaves it out.
        min_similarity: applicability domain: least Tanimoto similarity to some approved drug.
        outside_domain: what a molecule outside the domain leads to.
        deny_list: file of your own deny list; see the reference. Nothing is bundled.
        deny_list_sha256: hash the file must have, so that the signed policy covers it too; the
            hash of the file that was used is on record either way.
        on_fail: `drop` releases the molecules that pass and holds the others back; the others
            decide about the whole output.
    """

    field: str = "smiles"
    format: Literal["smiles", "selfies"] = "smiles"
    max_molecules: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5000
    bounds: Bounds = Bounds()
    max_strain_kcal_per_atom: float | None = None
    alerts: tuple[Literal["PAINS", "BRENK", "NIH"], ...] = ("BRENK", "NIH")
    on_alert: Literal["warn", "block"] = "warn"
    toxicity: dict[str, float] = msgspec.field(default_factory=lambda: dict(DEFAULT_TOXICITY))
    min_similarity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    outside_domain: Literal["warn", "block"] = "block"
    deny_list: str | None = None
    deny_list_sha256: str | None = None
    on_fail: Literal["block", "drop", "fallback", "hold"] = "block"


class Reason(msgspec.Struct, frozen=True):
    """Why one molecule is blocked (or warned about): the rule, what it saw, the atoms it saw."""

    rule: str
    got: str
    expected: str
    atoms: tuple[int, ...] = ()
    blocks: bool = True


def reasons(settings: ChemistrySettings, facts: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield every reason against one molecule, from its facts alone.

    Example:
        >>> facts = molecules.assess("CC(=O)OOC(C)=O", {})
        >>> settings = ChemistrySettings(toxicity={})
        >>> [r.rule for r in reasons(settings, facts)]
        ['stability']
    """
    if not facts.get("ok"):
        yield Reason("sanitise", str(facts.get("error", "no facts")), "a molecule that can exist")
        return
    for name in molecules.PROPERTIES:
        bound = getattr(settings.bounds, name)
        value = facts["properties"][name]
        if bound is not None and not bound[0] <= value <= bound[1]:
            yield Reason(f"bounds.{name}", f"{value:g}", f"{bound[0]:g} to {bound[1]:g}")
    for name, atoms in facts["unstable"]:
        yield Reason("stability", name, "no unstable group", tuple(atoms))
    yield from _strain(settings, facts)
    for catalog, name, atoms in facts["alerts"]:
        yield Reason(
            f"alert.{catalog}", name, "no alert", tuple(atoms), settings.on_alert == "block"
        )
    for kind, value, atoms in facts.get("denied", ()):
        yield Reason("deny-list", f"{kind} {value}", "not on the deny list", tuple(atoms))
    yield from _toxicity(settings, facts)


def _strain(settings: ChemistrySettings, facts: Mapping[str, Any]) -> Iterator[Reason]:
    most = settings.max_strain_kcal_per_atom
    if most is None:
        return
    strain = facts.get("strain", {"kcal_per_atom": None, "why": "not computed"})
    energy = strain["kcal_per_atom"]
    if energy is None or not energy <= most:
        got = strain.get("why", f"{energy} kcal/mol an atom")
        yield Reason("strain", str(got), f"at most {most:g} kcal/mol an atom")


def _toxicity(settings: ChemistrySettings, facts: Mapping[str, Any]) -> Iterator[Reason]:
    if not settings.toxicity:
        return
    scores = facts.get("toxicity")
    if scores is None:
        yield Reason("toxicity", "no score", "a score for every molecule")
        return
    for head, most in sorted(settings.toxicity.items()):
        value = scores.get(head)
        if value is None or not math.isfinite(value) or value > most:
            yield Reason(f"toxicity.{head}", f"{value}", f"at most {most:g}")
    if not facts.get("similarity", 0.0) >= settings.min_similarity:
        yield Reason(
            "domain",
            f"similarity {facts.get('similarity')} to any approved drug",
            f"at least {settings.min_similarity:g}; a score outside the domain means little",
            (),
            settings.outside_domain == "block",
        )


class ChemistryControl(Control):
    """Screens molecules by layer: form, bounds, stability, strain, alerts, toxicity, deny list."""

    id = "chemistry"
    stage = "filter"
    phase = 1
    Settings = ChemistrySettings

    def prepare(self, settings: ChemistrySettings) -> None:
        """Start the confined child and load the toxicity model: 17 seconds of CPU."""
        assess_all(["CCO"], msgspec.structs.replace(settings, format="smiles"))

    def gather(self, request: Request, settings: ChemistrySettings) -> Evidence:
        """Establish the facts; with `drop`, take the blocked molecules out of the result."""
        texts = _texts(fields_of(request), settings)
        rows: list[Any] = []
        digest = None
        if settings.deny_list:
            rows, digest = read_deny_list(settings.deny_list, settings.deny_list_sha256)
        facts = assess_all(texts, settings, rows)
        blocked = [i for i, f in enumerate(facts) if _blocks(settings, f)]
        if settings.on_fail == "drop" and blocked:
            held = set(blocked)
            kept = {settings.field: [t for i, t in enumerate(texts) if i not in held]}
            fields = {**fields_of(request), **kept}
            request.shared[f"fields/{request.branch}"] = fields
            before = request.result or Result(items=())
            extra = {**before.extra, "dropped": len(blocked)}
            request.result = replace(before, items=(), native=fields, extra=extra)
        return {
            **({"deny_list_sha256": digest} if digest else {}),
            "texts": texts,
            "facts": facts,
            "items": {"total": len(texts), "violating": len(blocked)},
        }

    def decide(self, job: Job, settings: ChemistrySettings, evidence: Evidence) -> Verdict:
        """Decide from the facts; findings name the rule, the molecule and how many more."""
        facts = evidence["facts"]
        if len(facts) != len(evidence["texts"]) or not facts:
            raise ValueError("there are not as many facts as molecules")
        first: dict[str, tuple[int, Reason]] = {}
        count: Counter[str] = Counter()
        blocked = 0
        for index, one in enumerate(facts):
            found = list(reasons(settings, one))
            blocked += any(r.blocks for r in found)
            for rule in {r.rule for r in found}:
                count[rule] += 1
            for reason in found:
                first.setdefault(reason.rule, (index, reason))
        if blocked != evidence["items"]["violating"]:
            raise ValueError("the molecules taken out are not the ones the rules block")
        findings = [
            _finding(rule, first[rule], evidence["texts"], n)
            for rule, n in sorted(count.items(), key=lambda kv: (not first[kv[0]][1].blocks, kv))
        ]
        if not blocked or (settings.on_fail == "drop" and blocked < len(facts)):
            decision = Decision.ALLOW
        elif settings.on_fail in ("fallback", "hold"):
            decision = Decision[settings.on_fail.upper()]
        else:
            decision = Decision.DENY
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def _blocks(settings: ChemistrySettings, facts: Mapping[str, Any]) -> bool:
    return any(r.blocks for r in reasons(settings, facts))


def _finding(rule: str, first: tuple[int, Reason], texts: list[Any], count: int) -> Finding:
    index, reason = first
    verb = "blocked" if reason.blocks else "warned"
    return Finding(
        rule=f"filter.chemistry.{rule}",
        message=f"{verb} {count} of {len(texts)} molecules, first {str(texts[index])[:80]}",
        got=reason.got,
        expected=reason.expected,
        fix=None,
        location=f"molecule {index}",
    )


def _texts(fields: Mapping[str, Any], settings: ChemistrySettings) -> list[Any]:
    value = fields.get(settings.field)
    texts = value if isinstance(value, list) else [value]
    if value is None or not texts or len(texts) > settings.max_molecules:
        raise InputError(
            "the output has no molecules the pack could screen",
            code="chemistry-field",
            got="nothing" if not value else f"{len(texts)} molecules",
            expected=f"1 to {settings.max_molecules} in field {settings.field!r}",
            fix="decode the result so that it has this field",
        )
    return texts


def assess_all(
    texts: list[Any], settings: ChemistrySettings, deny: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """Return the facts of all molecules: RDKit in a confined child, then the model.

    A generator repeats itself; each different molecule is assessed once.
    """
    keys = [msgspec.json.encode(text) for text in texts]
    different = dict(zip(keys, texts, strict=True))
    known = dict(zip(different, _assess(list(different.values()), settings, deny), strict=True))
    return [known[key] for key in keys]


def _assess(
    texts: list[Any], settings: ChemistrySettings, deny: Sequence[Any]
) -> list[dict[str, Any]]:
    want = {
        "format": settings.format,
        "strain": settings.max_strain_kcal_per_atom is not None,
        "alerts": list(settings.alerts),
        "deny": list(deny),
    }
    limits = Limits(cpu_s=120.0, wall_s=180.0, memory_mb=2048)
    facts: list[dict[str, Any]] = []
    for start in range(0, len(texts), _CHUNK):
        payload = msgspec.json.encode({"texts": texts[start : start + _CHUNK], "want": want})
        facts += msgspec.json.decode(_confined().run(_ENTRY, payload, limits).result)
    if settings.toxicity:
        add_scores(facts, sorted(settings.toxicity))
    return facts


def add_scores(facts: list[dict[str, Any]], heads: Sequence[str]) -> None:
    """Add toxicity scores and similarity to the facts of molecules that were read."""
    from interlock.guard.filter.packs import toxicity

    sane = [f for f in facts if f["ok"]]
    # A part of a mixture must not hide behind the others: the worst counts.
    smiles = list(dict.fromkeys(t for f in sane for t in (f["smiles"], *f["parts"])))
    scores = dict(zip(smiles, toxicity.score(smiles, heads), strict=True))
    close = dict(zip(smiles, toxicity.similarity(smiles), strict=True))
    for one in sane:
        texts = (one["smiles"], *one["parts"])
        one["toxicity"] = {head: max(scores[t][head] for t in texts) for head in heads}
        one["similarity"] = min(close[t] for t in (one["parts"] or texts))


def _confined() -> ForkServer:
    with _lock:
        if not _server:
            _server.append(ForkServer((_ENTRY,), warm_up=(_WARM_UP,), minimum=Level.RLIMITS))
        return _server[0]


def read_deny_list(path: str, expected: str | None = None) -> tuple[list[list[Any]], str]:
    """Read a deny list: lines `kind value [threshold]`, kinds exact, inchikey, smarts, similarity.

    Returns:
        The rows, and the SHA-256 of the file.

    Raises:
        InputError: it cannot be read, is empty, has another hash than expected, or a line is
            wrong (all lines must be right).
    """
    from rdkit import Chem

    def wrong(got: str) -> InputError:
        return InputError(
            "the deny list cannot be used",
            code="deny-list",
            got=got,
            expected="lines such as `smarts [N;X3](=O)=O` or `similarity CCO 0.8`",
            fix="mend the line; while the list is wrong everything is blocked",
        )

    try:
        data = Path(path).read_bytes()
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"{path}: {type(error).__name__}") from error
    digest = hashlib.sha256(data).hexdigest()
    if expected is not None and digest != expected.lower():
        raise wrong(f"{path} has the SHA-256 {digest}, the policy says {expected}")
    rows: list[list[Any]] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kind, value = words[0], words[1] if len(words) > 1 else ""
        good = len(words) == (3 if kind == "similarity" else 2)
        if kind in ("exact", "similarity"):
            good = good and Chem.MolFromSmiles(value) is not None
        elif kind == "smarts":
            good = good and Chem.MolFromSmarts(value) is not None
        elif kind == "inchikey":
            good = good and len(value) in (14, 27)
        else:
            good = False
        try:
            threshold = float(words[2]) if good and kind == "similarity" else 0.0
        except ValueError:
            good = False
        if not good or not 0 <= threshold <= 1:
            raise wrong(f"line {number}: {line[:80]}")
        rows.append([kind, value, threshold])
    if not rows:
        raise wrong(f"{path} has no rule")
    return rows, digest
