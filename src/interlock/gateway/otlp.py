"""Sends traces and metrics to a collector by OTLP over HTTP, where one is named.

Nothing waits for the collector: what it does not take in time is dropped. The SDK's own batching
is not used: it starts a thread in every forked child, and those of this process must have one
thread when they confine themselves.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from interlock.errors import SetupError
from interlock.gateway.metrics import METRICS, Metric, measured
from interlock.gateway.traces import Traces

if TYPE_CHECKING:
    from interlock.gateway.service import Gateway

__all__ = ["Exporting", "wanted"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: Spans that wait; a released job has ten.
WAITING = 8192
BATCH = 512
PAUSE_S = 1.0
#: How long the end of the gateway waits for what is left.
LAST_S = 5.0
log = logging.getLogger("interlock.gateway")


def wanted() -> bool:
    """Whether a collector is named."""
    return bool(os.environ.get(ENDPOINT))


class Exporting:
    """The thread that sends, and what it sends.

    Args:
        name: of this process among the gateways.

    Raises:
        SetupError: the extra `otlp` is missing, or another protocol is asked for.
    """

    def __init__(self, name: str) -> None:
        asked = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        if asked != "http/protobuf":
            raise SetupError(
                "traces and metrics leave by OTLP over HTTP only",
                code="otlp-protocol",
                got=f"OTEL_EXPORTER_OTLP_PROTOCOL={asked}"[:100],
                expected="http/protobuf",
                fix=f"unset it, and give {ENDPOINT} the collector's HTTP port (4318)",
            )
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
        except ImportError as error:
            raise SetupError(
                f"{ENDPOINT} is set, and the extra `otlp` is missing",
                code="extra-missing",
                got=str(error),
                expected="opentelemetry-sdk and its OTLP exporter over HTTP",
                fix="pip install 'interlock[otlp]', or unset the variable",
            ) from error
        named = os.environ.get("OTEL_SERVICE_NAME") or "interlock-gateway"
        self._resource = Resource.create(
            {
                "service.name": named,
                "service.instance.id": name,
                "service.version": metadata.version("interlock"),
            }
        )
        self._spans: queue.Queue[Any] = queue.Queue(WAITING)
        self._exporter = OTLPSpanExporter()
        self._traced = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        self._traced.add_span_processor(_handing_over(self._spans))
        self.traces = Traces(self._traced)
        self._reader: Any = None
        self._meters: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="interlock-otlp", daemon=True)

    def start(self, gateway: Gateway) -> None:
        """Begin to send."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        # Without an interval it has no thread of its own either.
        self._meters = OTLPMetricExporter()
        self._reader = PeriodicExportingMetricReader(self._meters, math.inf)
        provider = MeterProvider([self._reader], self._resource, shutdown_on_exit=False)
        meter = provider.get_meter("interlock.gateway")
        for metric in METRICS:
            make = (
                meter.create_observable_counter
                if metric.kind == "counter"
                else meter.create_observable_gauge
            )
            make(metric.name, [_observing(gateway, metric)], description=metric.help)
        self._thread.start()

    def _send(self) -> None:
        every = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 60_000) / 1000
        due = time.monotonic() + every
        while not self._stop.wait(PAUSE_S):
            self._send_spans()
            if time.monotonic() >= due:
                due = time.monotonic() + every
                self._reader.collect()
        self._send_spans()
        self._reader.collect()

    def _send_spans(self) -> None:
        while not self._spans.empty():
            some = [self._spans.get_nowait() for _ in range(min(BATCH, self._spans.qsize()))]
            try:
                self._exporter.export(some)
            except Exception as error:
                log.warning("traces could not be sent", exc_info=error)

    def close(self) -> None:
        """Send what is left, as far as the collector takes it now."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(LAST_S)
        self._exporter.shutdown()  # ends a wait for a collector that does not answer
        if self._meters is not None:
            self._meters.shutdown()


def _handing_over(spans: queue.Queue[Any]) -> Any:
    """Return a span processor that puts what has ended into a queue, or drops it."""
    from opentelemetry.sdk.trace import SpanProcessor

    class HandingOver(SpanProcessor):
        def on_end(self, span: Any) -> None:
            if span.context.trace_flags.sampled:
                try:
                    spans.put_nowait(span)
                except queue.Full:
                    return

    return HandingOver()


def _observing(gateway: Gateway, metric: Metric) -> Callable[[Any], Iterable[Any]]:
    from opentelemetry.metrics import Observation

    def observe(_: Any) -> Iterable[Any]:
        for value, n in measured(gateway, metric).items():
            yield Observation(n, {metric.label: value} if metric.label else {})

    return observe
