"""Traces and metrics as a real OTLP/HTTP receiver gets them."""

import itertools
import os
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from interlock.errors import SetupError
from interlock.gateway import otlp
from interlock.gateway.serve import Options, running
from interlock.gateway.traces import ATTRIBUTES, SPANS, trace_id_of, traceparent
from interlock.guard.pipeline import STAGES
from interlock.guard.remote import _traced
from tests.integration.gateway.kit import bell, kit
from tests.integration.gateway.rpc import rpc_server, submission

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, raw)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, raw: bytes) -> None:
        if path == "/v1/traces":
            for told in ExportTraceServiceRequest.FromString(raw).resource_spans:
                found = {a.key: a.value.string_value for a in told.resource.attributes}
                self.resources.append(found)
                self.spans += [s for scope in told.scope_spans for s in scope.spans]
        elif path == "/v1/metrics":
            for some in ExportMetricsServiceRequest.FromString(raw).resource_metrics:
                for scope in some.scope_metrics:
                    self.metrics |= {m.name: m for m in scope.metrics}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv(otlp.ENDPOINT, made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


def facts(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_job_is_one_trace_with_a_span_for_each_stage(
    tmp_path: Path, collector: Collector
) -> None:
    with kit(tmp_path / "home") as made:
        name, outcome = made.run("ada", bell(), traceparent=PARENT)
        other, _ = made.run("ben", bell())
        labelled = bell(labels=["subject:p-17"], pipeline="secret-pipeline")
        made.run("ada", labelled | {"backend": "no-such-backend"})
    assert outcome["outcome"] == "RELEASE"
    ours = [s for s in collector.spans if s.trace_id.hex() == PARENT[3:35]]
    (job,) = [s for s in ours if s.name == "quantum.job"]
    assert job.parent_span_id.hex() == PARENT[36:52]
    rest = [s for s in ours if s is not job]
    assert all(s.parent_span_id == job.span_id for s in rest)
    assert [s.name for s in rest] == ["quantum.queue", *(f"quantum.{s}" for s in STAGES)]
    assert facts(job)["quantum.job.id"] == name
    assert facts(job)["quantum.job.outcome"] == "RELEASE"
    assert facts(job)["quantum.receipt.id"] == outcome["receipt"]["id"]
    for before, after in itertools.pairwise(rest[1:]):
        assert job.start_time_unix_nano <= before.start_time_unix_nano
        assert before.end_time_unix_nano == after.start_time_unix_nano
        assert facts(before)["quantum.verdict"] == "ALLOW"
    assert rest[-1].end_time_unix_nano == job.end_time_unix_nano
    theirs = [s for s in collector.spans if int.from_bytes(s.trace_id) == trace_id_of(other)]
    assert len(theirs) == 10
    (failed,) = [s for s in collector.spans if facts(s).get("quantum.job.outcome") == "FAILED"]
    assert failed.status.code == 2
    said = [v for s in collector.spans for v in facts(s).values()]
    assert not {"north", "ada", "ben", "secret-pipeline", "no-such-backend"} & set(map(str, said))
    assert not any("p-17" in str(v) for v in said)
    assert {k for s in collector.spans for k in facts(s)} <= set(ATTRIBUTES)
    assert collector.resources[0]["service.name"] == "interlock-gateway"
    assert collector.metrics["quantum.gateway.submitted"].sum.data_points[0].as_int == 3
    states = collector.metrics["quantum.jobs"].gauge.data_points
    assert {p.attributes[0].value.string_value: p.as_int for p in states} == {
        "done": 2, "failed": 1,
    }  # fmt: skip


def test_a_refused_job_says_where_and_by_which_rule(tmp_path: Path, collector: Collector) -> None:
    with kit(tmp_path / "home") as made:
        made.run("adm", bell())  # has no right to submit
    spans = {s.name: facts(s) for s in collector.spans}
    assert set(spans) == {"quantum.job", "quantum.queue", "quantum.admit"}
    assert spans["quantum.job"]["quantum.job.outcome"] == "DENY"
    assert spans["quantum.admit"]["quantum.verdict"] == "DENY"
    assert spans["quantum.admit"]["quantum.rule"].startswith("admit.authorisation.")


def test_grpc_and_the_client_hand_the_trace_on(tmp_path: Path, collector: Collector) -> None:
    with kit(tmp_path / "home") as made, rpc_server(made.gateway, tmp_path) as rpc:
        view = rpc(
            "Submit", submission(bell()), made.key("ada"), metadata=[("traceparent", PARENT)]
        )
        assert not rpc("GetResult", {"id": view["id"], "wait": 20}, made.key("ada")).get("pending")
    assert {s.trace_id.hex() for s in collector.spans} == {PARENT[3:35]}
    span = trace.NonRecordingSpan(trace.SpanContext(17, 18, True, trace.TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(span))
    try:
        assert _traced() == {"traceparent": f"00-{17:032x}-{18:016x}-01"}
    finally:
        context.detach(token)
    assert _traced() == {}


@pytest.mark.parametrize(
    "header",
    ["", "x", PARENT + "-1", PARENT.upper(), PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736",
     "0" * 32), "01" + PARENT[2:], PARENT + "\n"],
)  # fmt: skip
def test_what_is_no_traceparent_counts_as_none(header: str) -> None:
    assert traceparent(header) == ""
    assert traceparent(PARENT) == PARENT


def test_a_collector_that_is_down_or_deaf_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    monkeypatch.setattr(otlp, "WAITING", 12)
    monkeypatch.setattr(otlp, "LAST_S", 0.2)
    for place in (f"http://127.0.0.1:{deaf.getsockname()[1]}", "http://127.0.0.1:9"):
        monkeypatch.setenv(otlp.ENDPOINT, place)
        with kit(tmp_path / place[-4:].strip(":/")) as made:
            for _ in range(3):
                assert made.run("ada", bell())[1]["outcome"] == "RELEASE"
    deaf.close()


def test_no_thread_of_it_is_in_a_forked_child(tmp_path: Path, collector: Collector) -> None:
    with kit(tmp_path / "home") as made:
        assert made.run("ada", bell())[1]["outcome"] == "RELEASE"
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            names = " ".join(t.name for t in threading.enumerate())
            os.write(write, f"child: {names}".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        told = os.read(read, 10_000).decode()
        assert told.startswith("child: ")
        assert "otel" not in told.lower()
        assert "otlp" not in told.lower()
        os.close(read)
        os.close(write)


def test_another_protocol_is_refused(tmp_path: Path, collector: Collector,
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SetupError) as caught, running(Options(home=tmp_path / "home")):
        pass
    assert caught.value.code == "otlp-protocol"


def test_off_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(otlp.ENDPOINT, raising=False)
    with kit(tmp_path / "home"):
        assert "interlock-otlp" not in {t.name for t in threading.enumerate()}


def test_every_name_is_documented() -> None:
    text = PAGE.read_text("utf-8")
    named = set(re.findall(r"`(quantum\.[a-z0-9.]+)`", text[text.index("## Traces") :]))
    assert named == set(SPANS) | set(ATTRIBUTES)
