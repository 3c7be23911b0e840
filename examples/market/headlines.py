"""Headlines written for this case: good news, bad news, and text that says nothing of a price.

The companies do not exist. Sentences for learning and sentences for trading share no template.
"""

from __future__ import annotations

import random

COMPANIES = ("Arven", "Belcor", "Castine", "Dorval")

GOOD = (
    "{c} beats profit forecasts and raises its outlook",
    "Record sales push {c} to its best quarter in {n} years",
    "{c} wins a contract worth {n} million and will hire staff",
    "Analysts upgrade {c} after strong earnings growth",
    "{c} doubles its dividend as cash flow surges",
    "Regulator approves the new product of {c}, demand is high",
    "{c} gains market share and lifts margins",
    "Orders at {c} jump {n} percent, beating every estimate",
    "{c} repays its debt early after a very profitable year",
    "Customers praise {c}; subscriptions hit an all-time high",
)
BAD = (
    "{c} misses profit forecasts and cuts its outlook",
    "Sales slump drags {c} to its worst quarter in {n} years",
    "{c} loses a contract worth {n} million and will cut jobs",
    "Analysts downgrade {c} after weak earnings",
    "{c} scraps its dividend as cash runs short",
    "Regulator fines {c} over safety failures and recalls the product",
    "{c} loses market share and margins shrink",
    "Orders at {c} fall {n} percent, missing every estimate",
    "{c} defaults on its debt after heavy losses",
    "Customers sue {c}; cancellations hit an all-time high",
)
LATER_GOOD = (
    "{c} posts a surprise profit as demand recovers",
    "Shares of {c} soar on upbeat guidance",
    "{c} announces a breakthrough and expands production",
    "Earnings at {c} rise {n} percent on booming exports",
    "Investors cheer {c} after a strong annual report",
    "{c} secures a lucrative partnership and boosts its forecast",
)
LATER_BAD = (
    "{c} posts a surprise loss as demand collapses",
    "Shares of {c} plunge on gloomy guidance",
    "{c} halts production after an accident and warns on profit",
    "Earnings at {c} drop {n} percent on collapsing exports",
    "Investors flee {c} after a poor annual report",
    "{c} faces bankruptcy fears and slashes its forecast",
)
_WHO = ("The library", "A local choir", "The museum", "Our reporter", "A cyclist", "The ferry",
        "A gardener", "The school", "A film crew", "The weather office", "{c}")  # fmt: skip
_DOES = ("opens at", "meets at", "moved its desk to", "paints", "visits", "describes", "walks past",
         "photographs", "announces a talk in", "publishes the map of")  # fmt: skip
_WHAT = ("the old bridge", "room {n}", "the town hall", "a blue door",
         "the north gate", "the harbour", "a meadow", "platform {n}", "the archive",
         "the annual meeting")  # fmt: skip
_WHEN = ("on Monday", "in the afternoon", "at {n} o'clock", "this week", "in autumn", "again",
         "as planned", "near the river", "in the rain", "for the {n}th time")  # fmt: skip


def _fill(text: str, rng: random.Random, company: str | None = None) -> str:
    return text.format(c=company or rng.choice(COMPANIES), n=rng.randint(2, 40))


def noise(rng: random.Random, company: str | None = None) -> str:
    """Return a sentence that says nothing of a price; all are drawn alike and apart."""
    parts = (rng.choice(_WHO), rng.choice(_DOES), rng.choice(_WHAT), rng.choice(_WHEN))
    return _fill(" ".join(parts), rng, company)


def learning(rng: random.Random, each: int) -> tuple[list[str], list[int]]:
    """Return sentences to learn from, with +1, -1 and 0."""
    texts, labels = [], []
    for _ in range(each):
        texts += [_fill(rng.choice(GOOD), rng), _fill(rng.choice(BAD), rng), noise(rng)]
        labels += [1, -1, 0]
    return texts, labels


def news(rng: random.Random, company: str | None = None) -> tuple[str, int]:
    """Return a sentence of the trading day and what it says: +1 or -1."""
    label = rng.choice((1, -1))
    return _fill(rng.choice(LATER_GOOD if label > 0 else LATER_BAD), rng, company), label
