"""Each rule finds its positive templates, leaves its negative ones, and cannot be made slow."""

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import PolicyError
from interlock.scan.secrets.anchors import AnchorSet
from interlock.scan.secrets.engine import BLOCK_BYTES, default_engine
from interlock.scan.secrets.ruleset import SecretRule, builtin_rules, load_rules
from interlock.scan.secrets.synth import fill

RULES = builtin_rules()
ENGINE = default_engine()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_finds_its_positives_and_leaves_its_negatives(rule: SecretRule) -> None:
    assert all((rule.positive, rule.negative, rule.source, rule.revoke))
    for seed in range(5):
        rng = random.Random(f"rule-tests-{seed}")
        for template in rule.positive:
            text = fill(template, rng)
            assert rule.id in [m.rule.id for m in ENGINE.scan(text.encode())], template
        for template in rule.negative:
            text = fill(template, rng)
            assert rule.id not in [m.rule.id for m in ENGINE.scan(text.encode())], template


def test_the_page_lists_every_rule() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "scan-secrets.md"
    rows = page.read_text(encoding="utf-8").partition("## Rules\n")[2].splitlines()[2:]
    said = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row]
    assert said == [[r.id, r.provider, r.severity.label, r.title, r.check or ""] for r in RULES]


def test_the_providers_of_the_scope_have_rules() -> None:
    providers = {rule.provider for rule in RULES}
    assert {
        "ibm", "aws", "azure", "ionq", "quantinuum", "dwave", "iqm", "rigetti", "pasqal",
        "quandela", "xanadu", "oqc", "quera", "braket",
    } <= providers  # fmt: skip
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_no_rule_backtracks_on_hostile_text(rule: SecretRule) -> None:
    anchor = rule.anchors[0].decode()
    word = anchor + "_token"
    hostile = [
        anchor * 800,
        (word + " ") * 500,
        (word + "= '") * 500,
        word + "=" + "a" * 6000,
        word + "=" + "aA1+" * 1500 + "\x00",
        word + " " * 6000,
        (word + ":\\\\\\'\\'") * 400,
        "-----BEGIN PRIVATE KEY-----" * 500,
    ]
    for text in hostile:
        start = time.process_time()
        ENGINE.scan(text.encode())
        assert time.process_time() - start < 2.0, text[:40]


def test_entropy_alone_never_reports() -> None:
    rng = random.Random("entropy")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    for size in (20, 32, 40, 44, 64, 128):
        text = "\n".join("".join(rng.choices(alphabet, k=size)) for _ in range(300))
        assert ENGINE.scan(text.encode()) == []


@pytest.mark.parametrize("shift", [-9000, -4000, -60, -30, -1, 0, 1, 40, 6000])
def test_a_secret_across_a_block_boundary_is_found_once_at_its_line(shift: int) -> None:
    secret = fill("token = DEV-{hex:40}", random.Random(7)).encode()
    before = BLOCK_BYTES + shift
    text = (b"x" * 79 + b"\n") * (before // 80) + secret + b"\n" + b"y\n" * 200_000
    blocks = [text[i : i + BLOCK_BYTES] for i in range(0, len(text), BLOCK_BYTES)]
    found = list(ENGINE.stream(blocks))
    assert [f.match.rule.id for f in found] == ["dwave-token"]
    assert found[0].line == before // 80 + 1
    assert found[0].column == len(b"token = ") + 1


def test_every_secret_of_a_long_stream_is_found_once() -> None:
    rng = random.Random(11)
    wanted, parts = [], []
    for _ in range(400):
        secret = fill("DEV-{hex:40}", rng)
        wanted.append(secret)
        parts.append("z " * rng.randrange(2500) + "token = " + secret + "\n")
    text = "".join(parts).encode()
    blocks = [text[i : i + 50_000] for i in range(0, len(text), 50_000)]
    assert [f.match.secret.decode() for f in ENGINE.stream(blocks)] == wanted


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("rule = [", "TOML"),
        ("version = 2", "version"),
        ("version = 1\n[[rule]]\nid='a'", "missing"),
        (
            (
                "version = 1\n[[rule]]\nid='a'\ntitle='t'\nseverity='high'\nanchors=['abc']\n"
                "expression='(?P<secret>'\nsource='s'\npositive=['p']"
            ),
            "compile",
        ),
        (
            (
                "version = 1\n[[rule]]\nid='a'\ntitle='t'\nseverity='high'\nanchors=['abc']\n"
                "expression='abc'\nsource='s'\npositive=['p']"
            ),
            "group",
        ),
    ],
)
def test_a_wrong_rule_file_says_what_is_wrong(tmp_path, text: str, word: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_rules(path)
    assert word in caught.value.diagnostics()


@given(
    st.lists(st.binary(min_size=3, max_size=9).map(bytes.lower), min_size=1, max_size=12),
    st.lists(st.integers(0, 11), max_size=12),
    st.binary(max_size=40),
)
def test_anchors_are_found_wherever_they_stand(
    anchors: list[bytes], picks: list[int], glue: bytes
) -> None:
    text = glue.join(anchors[n % len(anchors)] for n in picks).swapcase()
    low = text.lower()
    wanted = sorted(
        (at, anchor)
        for anchor in set(anchors)
        for at in range(len(low))
        if low.startswith(anchor, at)
    )
    assert list(AnchorSet(anchors).find(text)) == wanted
