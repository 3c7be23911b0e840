"""A live log shows no secret: not a weak one beside its name, not one that letters are glued to."""

import io
import logging
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.scan.live import LineRedactor, RedactingFilter, redact_stream
from interlock.scan.secrets.engine import default_engine
from interlock.scan.secrets.ruleset import SecretRule, builtin_rules, redaction_rules
from interlock.scan.secrets.synth import fill

ONLY = [rule for rule in redaction_rules() if rule.redact_only]
#: Rules whose tokens are known by their own shape, wherever they stand.
SHAPED = [
    rule
    for rule, loose in zip(
        builtin_rules(), [r for r in redaction_rules() if not r.redact_only], strict=True
    )
    if rule.expression.pattern != loose.expression.pattern
]
FIELD = re.compile(r"\{(\w+):(\d+)\}")


def redacted(text: str) -> str:
    return LineRedactor()(text.encode()).decode()


def drawn(template: str, rng: random.Random) -> tuple[str, list[str]]:
    """The text and the values in it; values have letters that the text around them has not."""
    values: list[str] = []

    def value(field: re.Match[str]) -> str:
        size = int(field[2])
        values.append(("7" * (size > 1) + rng.choice("QZJ") * size)[:size])
        return values[-1]

    return FIELD.sub(value, template), values


@pytest.mark.parametrize("rule", ONLY, ids=lambda rule: rule.id)
def test_any_value_beside_its_name_is_masked_in_a_log(rule: SecretRule) -> None:
    assert all((rule.positive, rule.negative, rule.source, rule.revoke))
    for seed in range(3):
        rng = random.Random(f"redact-{seed}")
        for template in rule.positive:
            text, values = drawn(template, rng)
            out = redacted(text)
            assert all(value not in out for value in values), (template, out)
            assert "****(" in out
        for template in rule.negative:
            text, _ = drawn(template, rng)
            assert redacted(text) == text


def test_what_a_log_must_not_show_is_no_finding() -> None:
    assert not {rule.id for rule in ONLY} & {rule.id for rule in default_engine().rules}
    assert default_engine().scan(b"PGPASSWORD=x mysql -px --password x\nCookie: a=b\n") == []


def test_the_rules_with_a_shape_of_their_own_are_most_of_those_with_a_prefix() -> None:
    assert len(SHAPED) > 40
    assert {"github-token", "dwave-token", "aws-access-key-id", "jwt"} <= {r.id for r in SHAPED}


@pytest.mark.parametrize("rule", SHAPED, ids=lambda rule: rule.id)
def test_a_token_glued_to_letters_is_masked(rule: SecretRule) -> None:
    rng = random.Random(f"glue-{rule.id}")
    for template in rule.positive:
        text = fill(template, rng).encode()
        for match in (m for m in default_engine().scan(text) if m.rule.id == rule.id):
            token = match.secret.decode()
            near = text[max(0, match.start - 40) : match.start].decode()
            glue = [f"xx{token}xx", f"$G{token}$G", f"_{token}_", f"{token}${token}"]
            if not token.startswith("https"):  # in the blind zone
                glue += [token * 2, token * 3]
            for glued in glue:
                out = redacted(near + glued)
                assert token[-12:] not in out, glued
                assert token[-20:-8] not in out, glued


@pytest.mark.parametrize("line", [
    "epoch 3 loss 0.1234 token accuracy 0.98", "max_tokens=4096 eos_token=</s> pad_token_id=0",
    "tokenizer=gpt2 tokens=128", "PWD=/home/kim", "OLDPWD=/root", "PASSWORD=$PASSWORD",
    'backend = service.get_backend("ibm_brisbane")', 'provider.get_backend("ibmq_16_melbourne")',
    "next_page_token: CAUQAA1b2c3d4e5f6g7h8", "password reset for kim was sent",
    "login ok, secret rotated",
    "cookie banner shown", "authorization failed for kim", "docker login --password-stdin",
    "mysql -h db -P 3306 -p", "sort_key=date key=value a?monkey=3",
    "commit 9f3a07c1d2e84b569f3a07c1d2e84b56",
    "def connect(host, password: str, port: int) -> None:", "risk-assessment task-7 desk-12 disk-a",
])  # fmt: skip
def test_a_plain_line_of_a_log_stays_as_it_is(line: str) -> None:
    assert redacted(line) == line


@given(
    st.lists(st.sampled_from(["DEV-", "x", " ", "=", "'", "ghp_", "\\", ";"]), max_size=8),
    st.integers(1, 3),
)
def test_no_glue_shows_a_token(parts: list[str], times: int) -> None:
    token = fill("DEV-{hex:40}", random.Random(5))
    line = "".join(parts) + token * times + "".join(reversed(parts))
    out = redacted(line)
    assert token[-16:] not in out


def test_a_stream_and_the_logging_filter_mask_them_too() -> None:
    out = io.BytesIO()
    assert redact_stream(io.BytesIO(b"a\nPGPASSWORD=x psql\nmysql -px\n"), out, LineRedactor()) == 3
    assert out.getvalue() == b"a\nPGPASSWORD=****(1) psql\nmysql -p****(1)\n"
    record = logging.LogRecord("a", 20, "", 0, "Cookie: sid=%s", ("abc",), None)
    RedactingFilter().filter(record)
    assert record.getMessage() == "Cookie: ****(7)"


@pytest.mark.parametrize("rule", ONLY, ids=lambda rule: rule.id)
def test_no_rule_for_logs_backtracks_on_hostile_text(rule: SecretRule) -> None:
    for anchor in rule.anchors:
        word = anchor.decode()
        for text in (word * 1500, f"{word} " * 1500, f"{word}=" * 1500, f"?{word}a; " * 1500,
                     f"{word}: {{" * 900, f"--{word} " * 900, f"{word} -p" * 900, f"{word}=a=" + "b;" * 6000):  # noqa: E501  # fmt: skip
            start = time.process_time()
            LineRedactor()(text.encode())
            assert time.process_time() - start < 4.0, text[:40]


def test_a_colour_code_before_a_secret_stays_whole() -> None:
    token = fill("DEV-{hex:40}", random.Random(9))
    line = f"\x1b[1mDWAVE_API_TOKEN\x1b[0m=\x1b[32m{token}\x1b[0m\n".encode()
    shown = LineRedactor()(line)
    assert token[8:].encode() not in shown
    assert b"=\x1b[32m" in shown
    assert shown.endswith(b"\x1b[0m\n")
