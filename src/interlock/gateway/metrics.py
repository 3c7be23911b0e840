"""The gateway's metrics, in Prometheus' text format. `docs/reference/metrics.md` lists them.

A name is `quantum.` and the thing measured; Prometheus writes dots as underscores. No tenant, no
principal and no job is in a label: whoever may read metrics learns nothing about anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.gateway.service import Gateway

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "measured", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured.

    Attributes:
        name: in the namespace, with dots.
        kind: `counter` or `gauge`.
        label: name of its one label, or empty.
        help: one line.
    """

    name: str
    kind: str
    label: str = ""
    help: str

    @property
    def exposed(self) -> str:
        """The name as Prometheus writes it."""
        return self.name.replace(".", "_") + ("_total" if self.kind == "counter" else "")


METRICS = (
    Metric(name="quantum.jobs", kind="gauge", label="state", help="Jobs by state."),
    Metric(
        name="quantum.gateway.ready",
        kind="gauge",
        help="1 while jobs are taken, 0 while draining.",
    ),
    Metric(name="quantum.ledger.entries", kind="gauge", help="Entries of the ledger."),
    Metric(name="quantum.gateway.submitted", kind="counter", help="Jobs taken into the queue."),
    Metric(
        name="quantum.gateway.refused",
        kind="counter",
        label="reason",
        help="Requests refused: unauthenticated, limited, or the action the rules forbade.",
    ),
    Metric(
        name="quantum.gateway.tls",
        kind="counter",
        label="group",
        help="TLS handshakes by key-agreement group.",
    ),
    Metric(
        name="quantum.gateway.fault",
        kind="counter",
        label="type",
        help="Failures of the gateway itself, by type of the exception.",
    ),
)


def measured(gateway: Gateway, metric: Metric) -> Mapping[str, int]:
    """Return value of the label (empty where it has none) -> number, of one metric."""
    match metric.name:
        case "quantum.jobs":
            return gateway.store.counts()
        case "quantum.gateway.ready":
            return {"": int(gateway.ready)}
        case "quantum.ledger.entries":
            return {"": len(gateway.guard.ledger)}
    values: dict[str, int] = {} if metric.label else {"": 0}
    for (what, label), n in list(gateway.counters.items()):
        if metric.name == f"quantum.gateway.{what}":
            shown = label if metric.label else ""
            values[shown] = values.get(shown, 0) + n
    return values


def render(gateway: Gateway) -> str:
    """Return all metrics of this process and its queue."""
    lines: list[str] = []
    for metric in METRICS:
        lines += _lines(metric, measured(gateway, metric))
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, values: Mapping[str, int]) -> Iterable[str]:
    yield f"# HELP {metric.exposed} {metric.help}"
    yield f"# TYPE {metric.exposed} {metric.kind}"
    for value, n in sorted(values.items()):
        label = f'{{{metric.label}="{_escaped(value)}"}}' if metric.label else ""
        yield f"{metric.exposed}{label} {n}"


def _escaped(text: str) -> str:
    r"""Return a label's value as the format wants it.

    Example:
        >>> _escaped('a"b' + chr(92) + chr(10))
        'a\\"b\\\\\\n'
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
