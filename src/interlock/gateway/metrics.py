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

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "render"]

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


def render(gateway: Gateway) -> str:
    """Return all metrics of this process and its queue."""
    counted: dict[str, dict[str, int]] = {}
    for (what, label), n in list(gateway.counters.items()):
        name = f"quantum.gateway.{what}"
        values = counted.setdefault(name, {})
        shown = label if _labelled(name) else ""
        values[shown] = values.get(shown, 0) + n
    gauges: dict[str, Mapping[str, int]] = {
        "quantum.jobs": gateway.store.counts(),
        "quantum.gateway.ready": {"": int(gateway.ready)},
        "quantum.ledger.entries": {"": len(gateway.guard.ledger)},
    }
    lines: list[str] = []
    for metric in METRICS:
        empty = {} if metric.label else {"": 0}
        lines += _lines(metric, gauges.get(metric.name) or counted.get(metric.name) or empty)
    return "\n".join(lines) + "\n"


def _labelled(name: str) -> bool:
    return any(m.label for m in METRICS if m.name == name)


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
