import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.guard.stats.attribution import CAUSES, Arm, attribute

FLAT = {format(i, "02b"): 0.25 for i in range(4)}
TILT = {"00": 0.55, "01": 0.15, "10": 0.15, "11": 0.15}
NOTHING = {"shot-noise", "cannot-tell"}


def drawn(rng: np.random.Generator, *laws: dict[str, float], shots: int = 500) -> Arm:
    """One batch a law, eight batches; what is expected is flat."""
    counts = []
    for batch in range(8):
        law = laws[batch * len(laws) // 8]
        counts.append(
            dict(zip(law, map(int, rng.multinomial(shots, list(law.values()))), strict=True))
        )
    return Arm(counts=tuple(counts), expected=FLAT)


def test_pure_shot_noise_is_given_another_cause_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(1500):
        arms = {name: drawn(rng, FLAT, shots=120) for name in ("plain", "twirled", "flipped")}
        wrong += attribute(arms).cause not in NOTHING
    assert wrong / 1500 <= 0.05
    assert wrong > 0, "a test that never errs has no level"


@pytest.mark.parametrize(
    ("cause", "arms"),
    [
        ("coherent", ((TILT,), (FLAT,), (TILT,))),
        ("bias", ((TILT,), (TILT,), (FLAT,))),
        ("drift", ((FLAT, TILT), (FLAT, TILT), (FLAT, TILT))),
        ("noise", ((TILT,), (TILT,), (TILT,))),
    ],
)
def test_each_cause_is_named(cause: str, arms: tuple[tuple[dict[str, float], ...], ...]) -> None:
    rng = np.random.default_rng(2)
    names = ("plain", "twirled", "flipped")
    for _ in range(20):
        made = {n: drawn(rng, *laws) for n, laws in zip(names, arms, strict=True)}
        found = attribute(made, alpha=0.005)
        assert found.cause == cause
        assert found.tests[cause].found


def test_too_few_shots_say_how_many_would_tell_and_those_do() -> None:
    rng = np.random.default_rng(3)
    arms = {n: drawn(rng, FLAT, shots=20) for n in ("plain", "twirled", "flipped")}
    few = attribute(arms, alpha=1e-4)
    assert few.cause == "cannot-tell"
    assert few.shots_needed is not None
    assert few.shots_needed > few.shots
    assert f"cannot tell at {few.shots} shots" in few.statement
    each = few.shots_needed // 24 + 1
    many = {n: drawn(rng, FLAT, shots=each) for n in ("plain", "twirled", "flipped")}
    assert attribute(many, alpha=1e-4).cause == "shot-noise"


def test_the_stated_power_is_reached() -> None:
    """Deviations of the size a test says it can see are seen in four of five runs."""
    rng = np.random.default_rng(4)
    first = attribute({n: drawn(rng, FLAT) for n in ("plain", "twirled", "flipped")})
    size = first.tests["bias"].detectable
    biased = {k: p + (size / 2 if k < "10" else -size / 2) for k, p in FLAT.items()}
    seen = 0
    for _ in range(200):
        arms = {n: drawn(rng, FLAT if n == "flipped" else biased) for n in ("plain", "twirled")}
        seen += attribute(arms | {"flipped": drawn(rng, FLAT)}).tests["bias"].found
    assert seen / 200 >= 0.75


def test_plain_runs_alone_do_not_name_what_they_cannot_tell() -> None:
    rng = np.random.default_rng(5)
    found = attribute({"plain": drawn(rng, TILT)})
    assert found.cause == "unexplained"
    assert "cannot tell from what" in found.statement


COUNTS = st.dictionaries(st.text("01", min_size=1, max_size=3), st.integers(0, 2000), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(COUNTS, min_size=1, max_size=6),
    st.lists(COUNTS, min_size=1, max_size=6),
    st.booleans(),
)
def test_any_counts_are_attributed_or_refused(first: list, second: list, known: bool) -> None:
    expected = {"0": 0.5, "1": 0.5} if known else None
    arms = {
        "plain": Arm(counts=tuple(first), expected=expected),
        "twirled": Arm(counts=tuple(second), expected=expected),
    }
    try:
        found = attribute(arms)
    except ValueError:
        assert not all(sum(sum(b.values()) for b in rows) for rows in (first, second))
        return
    assert found.cause in CAUSES
    assert all(0 <= t.p <= 1 and 0 <= t.detectable <= 1 for t in found.tests.values())
    assert found == attribute(arms)


def test_one_run_without_a_prediction_cannot_tell() -> None:
    found = attribute({"plain": Arm(counts=({"0": 60, "1": 40},))})
    assert found.cause == "cannot-tell"
    assert found.tests == {}
    assert found.shots_needed == 40_000
