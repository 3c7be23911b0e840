"""Listeners over real sockets, fed by the real OTLP exporters."""

import contextlib
import hashlib
import http.client
import socket
import time

import numpy as np
import pytest

from interlock.crypto import signing
from interlock.errors import InterlockError, UsageError
from interlock.monitor.frames import Origin, StreamKind
from interlock.monitor.ingest.listen import grpc_listener, http_listener
from interlock.monitor.ingest.receiver import LOGS, METRICS, REMOTE_WRITE, Receiver
from interlock.monitor.ingest.sources import SignedPush, Source

requests = pytest.importorskip("requests")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

KEY = signing.load_private("ed25519", b"k" * 32)
TOKEN = "t" * 40
PERIOD_MS = 1000.0
START_NS = 1_700_000_000 * 10**9


def source(name="fridge", *, token=None, **more):
    keys = (
        {"token_sha256": hashlib.sha256(token.encode()).hexdigest()}
        if token
        else {"public_key": KEY.public_key().public_bytes_raw().hex()}
    )
    fields = {"kind": StreamKind.TEMPERATURE, "channels": ("mxc", "t1_us{qubit=3}"),
              "period_ms": PERIOD_MS, "origin": Origin.SIMULATED, **keys, **more}  # fmt: skip
    return Source(source=name, **fields)


class Clock:
    def __init__(self):
        self.now = START_NS

    def __call__(self):
        return self.now


@pytest.fixture
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def clock():
    return Clock()


def row(k, values, *, skew_ns=0):
    """One row as the OTLP message an exporter would send."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    message = metrics_service_pb2.ExportMetricsServiceRequest()
    scope = message.resource_metrics.add().scope_metrics.add()
    for name, value in values.items():
        metric = scope.metrics.add()
        metric.name, _, label = name.partition("{")
        point = metric.gauge.data_points.add()
        point.time_unix_nano = START_NS + k * 10**9 + skew_ns
        point.as_double = value
        if label:
            key, _, text = label.rstrip("}").partition("=")
            attribute = point.attributes.add()
            attribute.key, attribute.value.string_value = key, text
    return message.SerializeToString()


def both(k, **more):
    return row(k, {"mxc": float(k), "t1_us{qubit=3}": 100.0 + k}, **more)


def post(port, path, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(
            "POST", path, body, {"content-type": "application/x-protobuf", **headers}
        )
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())
    finally:
        connection.close()


def drained(receiver):
    frames = list(iter(receiver.take, None))
    return (
        np.concatenate([f.seq for f in frames]) if frames else np.empty(0),
        np.concatenate([f.original for f in frames]) if frames else np.empty((0, 2)),
    )


def exporter(port, auth=None, headers=None):
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    session = requests.Session()
    session.auth = auth
    return OTLPMetricExporter(
        endpoint=f"http://127.0.0.1:{port}/v1/metrics", session=session, headers=headers, timeout=20
    )


def measured(made, rounds):
    """Export gauges, a counter and a histogram of a real meter provider."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    meter = provider.get_meter("fridge")
    gauge, histogram = meter.create_gauge("mxc"), meter.create_histogram("latency_ms")
    results = []
    for k in range(rounds):
        gauge.set(10.0 + k)
        for value in (1.0, 3.0, 8.0):
            histogram.record(value)
        results.append(made.export(reader.get_metrics_data()))
        time.sleep(0.03)
    provider.shutdown()
    return [r.name for r in results]


def test_a_real_exporter_signs_and_is_heard(clock):
    clock.now = time.time_ns()
    channels = ("mxc", "latency_ms.count", "latency_ms.p50", "latency_ms.sum")
    receiver = Receiver([source(channels=channels, period_ms=10.0)])
    with http_listener(receiver) as port:
        made = exporter(port, SignedPush("fridge", KEY))
        assert measured(made, 4) == ["SUCCESS"] * 4
        spoof = exporter(port, SignedPush("fridge", signing.load_private("ed25519", b"x" * 32)))
        assert measured(spoof, 1) == ["FAILURE"]
        made.shutdown()
        spoof.shutdown()
    _, values = drained(receiver)
    kept = values[np.isfinite(values).any(axis=1)]
    assert kept[:, 0].tolist() == [10.0, 11.0, 12.0]
    assert kept[:, 1].tolist() == [3.0, 6.0, 9.0]
    assert ((kept[:, 2] > 0) & (kept[:, 2] <= 5)).all()
    assert kept[:, 3].tolist() == [12.0, 24.0, 36.0]
    assert receiver.refused["monitor-source"] == 1
    assert receiver.streams["fridge"].unknown > 0  # series nobody registered are counted


def test_a_real_exporter_with_a_token_over_grpc():
    pytest.importorskip("grpc")
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    receiver = Receiver([source(token=TOKEN, channels=("mxc",), period_ms=10.0)])
    with grpc_listener(receiver) as port:
        for token, expected in ((TOKEN, "SUCCESS"), ("wrong", "FAILURE")):
            made = OTLPMetricExporter(
                endpoint=f"127.0.0.1:{port}", insecure=True, timeout=10,
                headers=(("authorization", f"Bearer {token}"),),
            )  # fmt: skip
            assert measured(made, 3 if token == TOKEN else 1) == [expected] * (
                3 if token == TOKEN else 1
            )
            made.shutdown()
    assert receiver.streams["fridge"].account.rows == 2
    assert receiver.refused["monitor-source"] == 1


def test_replayed_spoofed_and_changed_requests_are_refused_over_a_restart(clock, tmp_path):
    state = tmp_path / "state.json"
    receiver = Receiver([source(), source("other")], state=state, clock_ns=clock)
    push = SignedPush("fridge", KEY, clock_ns=clock)
    body = both(0)
    good = push.headers(METRICS, body)
    with http_listener(receiver) as port:
        assert post(port, METRICS, body, good)[0] == 200
        later = both(1)
        signed = push.headers(METRICS, later)
        refused = [
            (409, METRICS, body, good),
            (401, METRICS, later, good),
            (401, METRICS, later, {**signed, "x-interlock-source": "other"}),
            (401, METRICS, later, {**signed, "x-interlock-source": "nobody"}),
            (401, METRICS, later, {**signed, "x-interlock-number": str(10**18 * 2)}),
            (401, METRICS, later, {**signed, "x-interlock-number": "-5"}),
            (401, METRICS, later, {**signed, "x-interlock-signature": "zz"}),
            (401, METRICS, later, {"authorization": "Bearer guess"}),
            (401, METRICS, later, {}),
            (401, REMOTE_WRITE, later, signed),
            (400, METRICS, b"\xff", push.headers(METRICS, b"\xff")),
            (409, METRICS, both(0), push.headers(METRICS, both(0))),
            (404, "/other", later, signed),
            (415, METRICS, later, {**signed, "content-type": "application/json"}),
        ]
        for status, path, data, headers in refused:
            assert post(port, path, data, headers)[0] == status, (status, path, headers)
        assert post(port, METRICS, later, push.headers(METRICS, later))[0] == 200
    with pytest.raises(InterlockError) as caught:  # a second listener would take them again
        Receiver([source(), source("other")], state=state, clock_ns=clock)
    assert caught.value.code == "monitor-listen-home"
    receiver.close()
    again = Receiver([source(), source("other")], state=state, clock_ns=clock)
    with http_listener(again) as port:
        assert post(port, METRICS, body, good)[0] == 409
        assert post(port, METRICS, both(0), push.headers(METRICS, both(0)))[0] == 409
        for k in (2, 3):
            assert post(port, METRICS, both(k), push.headers(METRICS, both(k)))[0] == 200


def test_a_token_source_cannot_speak_for_another_and_its_copies_are_refused(clock):
    other = source("other", token="o" * 40)
    receiver = Receiver([source(token=TOKEN), other], clock_ns=clock)
    header = {"authorization": f"Bearer {TOKEN}"}
    with http_listener(receiver) as port:
        assert post(port, METRICS, both(0), header)[0] == 200
        assert post(port, METRICS, both(0), header)[0] == 409
        assert post(port, METRICS, both(1), {**header, "x-interlock-source": "other"})[0] == 401
        far = row(10_000, {"mxc": 1.0})
        status, reply, _ = post(port, METRICS, far, header)
        assert status == 400
        assert b"monitor-clock" in reply


def test_gaps_duplicates_skew_and_unknown_series_are_accounted(clock):
    receiver = Receiver([source()], clock_ns=clock)
    push = SignedPush("fridge", KEY)
    skew = 200_000_000
    with http_listener(receiver) as port:
        for k in [*range(20), *range(30, 40)]:
            clock.now = START_NS + k * 10**9 + skew
            body = both(k) if k != 5 else both(k) + row(k, {"mxc": 9.0}) + row(k, {"other": 1.0})
            status, reply, _ = post(port, METRICS, body, push.headers(METRICS, body))
            assert status == 200
            assert (reply != b"") == (k == 5)
    seq, values = drained(receiver)
    account = receiver.streams["fridge"].account
    assert (account.missing, account.duplicates, account.rows) == (10, 1, 29)
    assert account.skew_ns == pytest.approx(skew, abs=1_000_000)
    assert receiver.streams["fridge"].unknown == 1
    assert np.diff(seq).tolist() == [1] * 38
    assert np.isnan(values).all(axis=1).sum() == 10
    assert values[5].tolist() == [5.0, 105.0]  # the first sample of a cell stands


def test_a_full_buffer_holds_the_sender_back_and_loses_nothing(clock):
    receiver = Receiver([source()], buffer_rows=6, clock_ns=clock)
    push = SignedPush("fridge", KEY)
    got, full = [], 0
    with http_listener(receiver) as port:
        for k in range(20):
            clock.now = START_NS + k * 10**9
            while True:
                body = both(k)
                status, _, headers = post(port, METRICS, body, push.headers(METRICS, body))
                if status == 200:
                    break
                assert (status, headers["retry-after"]) == (503, "1")
                full += 1
                got += drained(receiver)[0].tolist()
                assert receiver.waiting_rows == 0
    got += drained(receiver)[0].tolist()
    assert full >= 3
    assert got == list(range(START_NS // 10**9, START_NS // 10**9 + 19))


def test_the_last_rows_are_watched_and_kept_at_the_end(clock, tmp_path):
    from interlock.monitor.live import LiveWatch
    from interlock.monitor.store import MonitorStore

    receiver = Receiver([source(token=TOKEN)], state=tmp_path / "state", clock_ns=clock)
    store = MonitorStore(tmp_path)
    live = LiveWatch([source(token=TOKEN)], store=store)
    body = b"".join(both(k) for k in range(100))
    clock.now = START_NS + 100 * 10**9
    receiver.push(METRICS, BEARER, body)
    assert list(live.run(receiver, rows=99)) == []
    assert list(live.finish(receiver)) == []
    assert live.accounts(receiver)[0]["rows"] == 100
    strips = store.strips("fridge")
    assert [s.row for s in strips] == [0, 64]
    assert strips[-1].high[0] == 99.0
    receiver.close()
    again = Receiver([source(token=TOKEN)], state=tmp_path / "state", clock_ns=clock)
    with pytest.raises(InterlockError) as caught:
        again.push(METRICS, BEARER, both(99))
    assert caught.value.code == "monitor-replay"


def test_few_bytes_cannot_ask_for_many_rows(clock):
    import tracemalloc

    names = tuple(f"c{k}" for k in range(4096))
    receiver = Receiver([source(token=TOKEN, channels=names, period_ms=1.0)], clock_ns=clock)
    body = b"".join(row(-100 * k, {"c0": 1.0}) for k in range(20_000, 0, -1))
    assert len(body) < 1_000_000
    tracemalloc.start()
    with pytest.raises(InterlockError) as caught:
        receiver.push(METRICS, BEARER, body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "monitor-batch-rows"
    assert peak < 100 << 20
    assert receiver.streams["fridge"].account.refused == 1
    assert receiver.push(METRICS, BEARER, row(0, {"c0": 1.0})) == 0


def test_missing_rows_are_charged_and_long_gaps_restart_the_series(clock):
    receiver = Receiver([source(token=TOKEN)], buffer_rows=100, clock_ns=clock)

    def send(k):
        clock.now = START_NS + k * 10**9
        return receiver.push(METRICS, BEARER, both(k))

    for k in (0, 1, 66, 67):  # 64 rows are missing: told one by one
        send(k)
    account = receiver.streams["fridge"].account
    assert (receiver.waiting_rows, account.missing, account.restarts) == (67, 64, 0)
    with pytest.raises(InterlockError) as caught:
        send(10_000)
    assert caught.value.code == "monitor-busy"
    assert len(drained(receiver)[0]) == 67
    send(10_000)
    send(10_001)
    assert (account.missing, account.restarts) == (64 + 9932, 1)
    seq, values = drained(receiver)
    assert len(seq) == receiver.waiting_rows + 66
    assert np.isnan(values).all(axis=1).sum() == 64


def test_a_time_that_would_wrap_around_is_refused(clock):
    pa = pytest.importorskip("pyarrow")
    from interlock.monitor.ingest.remote_write import decode_remote_write

    sample = b"\x09" + np.float64(1).tobytes() + b"\x10" + b"\xff" * 8 + b"\x7f"
    series = b"\x12" + bytes([len(sample)]) + sample
    body = pa.compress(b"\x0a" + bytes([len(series)]) + series, codec="snappy", asbytes=True)
    assert decode_remote_write(body).t_ns[0] > START_NS * 5
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with pytest.raises(InterlockError) as caught:
        receiver.push(REMOTE_WRITE, BEARER, body)
    assert caught.value.code == "monitor-clock"


def test_remote_write_over_the_socket(clock):
    pa = pytest.importorskip("pyarrow")

    def chunk(number, wire, body):
        return bytes([number << 3 | wire]) + (bytes([len(body)]) if wire == 2 else b"") + body

    def varint(n):
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    def request(k):
        sample = chunk(1, 1, np.float64(k).tobytes()) + bytes([2 << 3])
        sample += varint(START_NS // 10**6 + 1000 * k)
        label = chunk(1, 2, b"__name__") + chunk(2, 2, b"t1_us")
        other = chunk(1, 2, b"qubit") + chunk(2, 2, b"3")
        series = chunk(1, 2, label) + chunk(1, 2, other) + chunk(2, 2, sample)
        return pa.compress(chunk(1, 2, series), codec="snappy", asbytes=True)

    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    header = {"authorization": f"Bearer {TOKEN}", "content-encoding": "snappy"}
    with http_listener(receiver) as port:
        for k in range(5):
            clock.now = START_NS + k * 10**9
            assert post(port, REMOTE_WRITE, request(k), header)[0] == 204
        assert post(port, REMOTE_WRITE, request(1), header)[0] == 409
        assert post(port, REMOTE_WRITE, b"\xff\xff\xff\xff\x0f1", header)[0] == 400
        newer = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
        later = {**header, "content-type": newer}  # else its samples would be lost with a 204
        assert post(port, REMOTE_WRITE, request(4), later)[0] == 415
    _, values = drained(receiver)
    assert values[:, 1].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(values[:, 0]).all()


def test_audit_logs_over_the_socket(clock):
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    message = logs_service_pb2.ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.body.string_value = START_NS, "list backends"
    body = message.SerializeToString()
    audit = source("audit", kind=StreamKind.AUDIT, channels=("events",), token=TOKEN)
    receiver = Receiver([audit, source()], clock_ns=clock)
    header = {"authorization": f"Bearer {TOKEN}"}
    with http_listener(receiver) as port:
        assert post(port, "/v1/logs", body, header)[0] == 200
        assert post(port, "/v1/logs", body, header)[0] == 409
        signed = SignedPush("fridge", KEY).headers("/v1/logs", body)
        assert post(port, "/v1/logs", body, signed)[0] == 401
    assert [(s, e.body) for s, e in receiver.events] == [("audit", "list backends")]


def test_audit_logs_of_a_token_source_are_not_replayed_after_a_restart(clock, tmp_path):
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    def logs(*seconds):
        message = logs_service_pb2.ExportLogsServiceRequest()
        scope = message.resource_logs.add().scope_logs.add()
        for s in seconds:
            record = scope.log_records.add()
            record.time_unix_nano, record.body.string_value = START_NS + s * 10**9, f"e{s}"
        return message.SerializeToString()

    audit = source("audit", kind=StreamKind.AUDIT, channels=("events",), token=TOKEN)
    state = tmp_path / "listen.json"
    receiver = Receiver([audit], state=state, clock_ns=clock)
    receiver.push("/v1/logs", BEARER, logs(1, 2))
    receiver.close()
    events = tmp_path / "listen.json.events"
    with events.open("ab") as torn:  # as a crash in the middle of a write leaves it
        torn.write(b'["torn", "au')
    again = Receiver([audit], state=state, clock_ns=clock)
    with pytest.raises(InterlockError) as caught:
        again.push("/v1/logs", BEARER, logs(1, 2))
    assert caught.value.code == "monitor-replay"
    again.push("/v1/logs", BEARER, logs(2, 3, 0))  # late ones are heard, copies are not
    assert [e.body for _, e in again.take_events()] == ["e3", "e0"]
    again.close()
    events.write_text("{}\nnonsense\n")
    with pytest.raises(InterlockError) as caught:
        Receiver([audit], state=state, clock_ns=clock)
    assert caught.value.code == "monitor-listen-state"
    events.unlink()
    Receiver([audit], state=state, clock_ns=clock).close()  # the lock was let go


def test_misuse_in_received_audit_logs_is_judged_as_it_comes(clock, tmp_path):
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    from interlock.ledger import Ledger
    from interlock.monitor.access import Tighten, pseudonym
    from interlock.monitor.access_record import AccessWatch, pseudonym_key, read_events
    from interlock.monitor.live import LiveWatch
    from interlock.monitor.live_access import LiveAccess
    from interlock.monitor.store import MonitorStore
    from tests.unit.monitor.test_access_record import log, misuse, rows

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    key = pseudonym_key(home)
    message = logs_service_pb2.ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for event in [*misuse(), {**misuse()[0], "allowed": "perhaps"}]:
        record = scope.log_records.add()
        record.time_unix_nano = int(event["t_s"] * 1e9)
        for name in ("principal", "role", "action", "target", "allowed"):
            attribute = record.attributes.add()
            attribute.key, attribute.value.string_value = name, str(event[name])
    audit = source("audit", kind=StreamKind.AUDIT, channels=("events",), token=TOKEN)
    receiver = Receiver([audit, source()], clock_ns=clock)
    told = []
    with Ledger.open(home) as ledger, http_listener(receiver) as port:
        watch = AccessWatch(home, ledger)
        watch.learn(read_events(log(tmp_path / "x.ndjson", rows()), key))
        access = LiveAccess(watch, key)
        live = LiveWatch([audit, source()], store=MonitorStore(home))
        header = {"authorization": f"Bearer {TOKEN}"}
        assert post(port, "/v1/logs", message.SerializeToString(), header)[0] == 200
        push = SignedPush("fridge", KEY)
        for k in range(2):
            clock.now = START_NS + k * 10**9
            assert post(port, METRICS, both(k), push.headers(METRICS, both(k)))[0] == 200
        on_events = lambda records: access.take(records, lambda *said: told.append(said))  # noqa: E731
        assert list(live.run(receiver, rows=1, on_events=on_events)) == []
    assert [(who, step) for who, _, step, _ in told] == [(pseudonym(key, "user1"), Tighten.HOLD)]
    assert access.unread == 1
    assert MonitorStore(home).standing(pseudonym(key, "user1"), 3600.0 * 200)[0] == Tighten.HOLD
    assert receiver.take_events() == []


def audit_body(*events):
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    message = logs_service_pb2.ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for event in events:
        record = scope.log_records.add()
        record.time_unix_nano = int(event["t_s"] * 1e9)
        for name in event.keys() - {"t_s"}:
            attribute = record.attributes.add()
            attribute.key, attribute.value.string_value = name, str(event[name])
    return message.SerializeToString()


AUDIT = {"kind": StreamKind.AUDIT, "channels": ("events",), "token": TOKEN}
BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_a_record_that_lies_ahead_hides_no_other(clock):
    from tests.unit.monitor.test_access_record import misuse

    receiver = Receiver([source("audit", **AUDIT)], clock_ns=clock)
    ahead = {**misuse()[0], "t_s": START_NS / 1e9 + 1e9}
    assert receiver.push("/v1/logs", BEARER, audit_body(ahead, *misuse())) == 1
    assert len(receiver.take_events()) == len(misuse())
    assert receiver.streams["audit"].account.refused == 1
    with pytest.raises(InterlockError) as caught:
        receiver.push("/v1/logs", BEARER, audit_body(ahead))
    assert caught.value.code == "monitor-clock"


def test_audit_records_without_a_profile_are_counted_and_wait_for_one(clock, tmp_path):
    from interlock.ledger import Ledger
    from interlock.monitor.access import Tighten
    from interlock.monitor.access_record import AccessWatch, pseudonym_key, read_events
    from interlock.monitor.live_access import LiveAccess
    from tests.unit.monitor.test_access_record import log, misuse, rows

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    key, told, failed = pseudonym_key(home), [], []
    receiver = Receiver([source("audit", **AUDIT)], clock_ns=clock)
    with Ledger.open(home) as ledger:
        watch = AccessWatch(home, ledger)
        access = LiveAccess(watch, key)

        def send(*events):
            receiver.push("/v1/logs", BEARER, audit_body(*events))
            access.take(receiver.take_events(), lambda *said: told.append(said), failed.append)

        # an older record of the same batch is judged too, whatever the newest one says
        later = {**misuse()[0], "t_s": misuse()[0]["t_s"] + 5 * 3600}
        *first, last = misuse()
        send(*first)
        assert ([e.code for e in failed], access.unjudged) == (
            ["monitor-access-profile"],
            len(first),
        )
        assert told == []
        watch.learn(read_events(log(tmp_path / "x.ndjson", rows()), key))
        send(last, later)
    assert Tighten.HOLD in [step for _, _, step, _ in told]
    assert (len(failed), access.unjudged) == (1, len(first))


def test_the_command_goes_on_after_an_audit_record_it_cannot_judge(tmp_path, free_port):
    import json
    import subprocess
    import sys

    from tests.unit.monitor.test_access_record import misuse

    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    file = tmp_path / "sources.yaml"
    file.write_text(
        "sources:\n- {source: audit, kind: audit, channels: [events], period_ms: 1000,\n"
        f"   origin: simulated, token_sha256: {digest}}}\n"
        "- {source: fridge, kind: temperature, channels: [mxc], period_ms: 1000,\n"
        f"   origin: simulated, public_key: {KEY.public_key().public_bytes_raw().hex()}}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "monitor", "listen", "--sources", str(file),
         "--home", str(tmp_path / "home"), "--port", str(free_port), "--rows", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process.stdout.readline()
        assert post(free_port, "/v1/logs", audit_body(*misuse()), BEARER)[0] == 200
        time.sleep(1.0)
        body = row(0, {"mxc": 1.0}) + row(1, {"mxc": 1.0})
        push = SignedPush("fridge", KEY)
        assert post(free_port, METRICS, body, push.headers(METRICS, body))[0] == 200
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert err.count("audit records are not judged: monitor-access-profile") == 1
    assert json.loads(out.splitlines()[-1]) == {
        "audit_unread": 0,
        "audit_unjudged": len(misuse()),
    }


def test_a_listener_speaks_tls_with_a_post_quantum_group(clock, tmp_path):
    import ssl

    from interlock.crypto.certs import Authority
    from interlock.crypto.tls import connect

    authority = Authority(tmp_path / "certs")
    pair = authority.issue("lab", kind="ecdsa-p256", hosts=["localhost"])
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    body = both(0)
    with http_listener(receiver, certificates=(pair,)) as port:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            post(port, METRICS, body, {"authorization": f"Bearer {TOKEN}"})
        assert receiver.streams["fridge"].account.rows == 0
        assert over_tls(connect, authority, port, body) == 200
    assert receiver.refused == {}


def over_tls(connect, authority, port, body):
    channel = connect("localhost", port, authority=authority.ca_file("ecdsa-p256"))
    head = (
        f"POST {METRICS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/x-protobuf\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    channel.sendall(head.encode() + body)
    return int(channel.makefile("rb").readline().split()[1])


def test_bodies_too_large_or_bombs_are_refused(clock):
    import gzip

    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    header = {"authorization": f"Bearer {TOKEN}"}
    with http_listener(receiver) as port:
        bomb = gzip.compress(bytes(70 << 20), 9)
        assert post(port, METRICS, bomb, {**header, "content-encoding": "gzip"})[0] == 400
        assert post(port, METRICS, b"x", {**header, "content-encoding": "br"})[0] == 400
        with contextlib.suppress(ConnectionError):
            assert post(port, METRICS, bytes(17 << 20), header)[0] == 400
        squeezed = gzip.compress(both(0))
        assert post(port, METRICS, squeezed, {**header, "content-encoding": "gzip"})[0] == 200


def dribble(port, text=b"POST /v1/metrics HTTP/1.1\r\n"):
    slow = socket.create_connection(("127.0.0.1", port), timeout=20)
    slow.sendall(text)
    return slow


def closed(slow):
    with contextlib.suppress(ConnectionError):
        return slow.recv(1) == b""
    return True


UNFINISHED = (
    b"",
    b"POST /v1/metrics HTTP/1.1\r\nhost: x\r\n",
    (
        b"POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        b"content-length: 50\r\n\r\nab"
    ),
)


def test_slow_connections_shut_out_nobody(clock):
    from interlock.monitor.ingest.connections import PER_PEER

    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with http_listener(receiver) as port, contextlib.ExitStack() as stack:
        for k in range(100):
            stack.enter_context(dribble(port, UNFINISHED[k % 3]))
        for k in range(3):
            assert post(port, METRICS, both(k), BEARER)[0] == 200
        oldest = stack.enter_context(dribble(port, UNFINISHED[1]))
        for _ in range(PER_PEER):
            stack.enter_context(dribble(port))
        assert closed(oldest)


def test_a_body_that_nobody_known_can_have_sent_is_not_read(clock):
    receiver = Receiver([source(), source("fridge-2", token=TOKEN)], clock_ns=clock)
    head = (b"POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
            b"content-length: 16000000\r\n")  # fmt: skip
    liars = (
        b"authorization: Bearer guess\r\n",
        b"",
        b"x-interlock-source: nobody\r\n",
        b"x-interlock-source: fridge\r\nx-interlock-number: 1\r\nx-interlock-signature: 00\r\n",
    )
    with http_listener(receiver) as port:
        for more in liars:
            with dribble(port, head + more + b"\r\n" + bytes(200_000)) as sent:
                assert sent.recv(99).startswith(b"HTTP/1.1 401")  # long before the body is in
    assert receiver.refused == {"monitor-source": len(liars)}


def test_bodies_of_unproven_senders_are_bounded_for_each_address(clock, monkeypatch):
    from interlock.monitor.ingest import connections

    monkeypatch.setattr(connections, "UNPROVEN_PEER", 300_000)
    receiver = Receiver([source(), source("t", token=TOKEN)], clock_ns=clock)
    push = SignedPush("fridge", KEY, clock_ns=clock)
    lines = "".join(f"{k}: {v}\r\n" for k, v in push.headers(METRICS, b"").items())
    head = (f"POST {METRICS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
            f"content-length: 16000000\r\n{lines}\r\n").encode()  # fmt: skip
    with http_listener(receiver) as port, contextlib.ExitStack() as stack:
        held = [stack.enter_context(dribble(port, head + bytes(200_000))) for _ in range(2)]
        held[1].settimeout(20)
        heard = [b"", b""]
        while not any(heard):
            for k, one in enumerate(held):
                one.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    heard[k] = one.recv(200)
        assert max(heard).startswith(b"HTTP/1.1 503")
        assert b"retry-after" in max(heard)
        assert post(port, METRICS, both(0), BEARER)[0] == 200  # a token is proof: not charged
    # what was held is given back
    with http_listener(receiver) as port:
        late = both(1)
        assert post(port, METRICS, late, push.headers(METRICS, late))[0] == 200


def test_log_records_are_charged_by_their_size(clock, monkeypatch):
    from interlock.monitor.ingest import receiver as module

    monkeypatch.setattr(module, "BUFFER_BYTES", 100_000)
    receiver = Receiver([source("audit", token=TOKEN, kind=StreamKind.AUDIT), source()],
                        clock_ns=clock)  # fmt: skip
    receiver._buffer._max_bytes = 100_000

    def send(k, size):
        body = audit_body({"t_s": float(k), "note": "x" * size})
        return receiver.push(LOGS, BEARER, body)

    assert send(0, 40_000) == send(1, 40_000) == 0
    with pytest.raises(InterlockError) as caught:
        send(2, 40_000)
    assert caught.value.code == "monitor-busy"
    with pytest.raises(InterlockError) as caught:
        send(3, 200_000)  # it would never fit
    assert caught.value.code == "monitor-batch-rows"
    assert len(receiver.take_events()) == 2
    assert send(2, 40_000) == 0  # nothing of it was taken before, and there is room again


def test_a_message_of_too_many_records_is_refused(clock):
    from interlock.monitor.ingest.otlp import MAX_RECORDS

    receiver = Receiver([source("audit", token=TOKEN, kind=StreamKind.AUDIT)], clock_ns=clock)
    inner = b"\x12\x00" * (MAX_RECORDS + 1)
    size = bytes([len(inner) & 127 | 128, len(inner) >> 7 & 127 | 128, len(inner) >> 14])
    inner = b"\x12" + size + inner
    size = bytes([len(inner) & 127 | 128, len(inner) >> 7 & 127 | 128, len(inner) >> 14])
    with pytest.raises(InterlockError) as caught:
        receiver.push(LOGS, BEARER, b"\x0a" + size + inner)
    assert "100001 records" in caught.value.got


SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("text", [b"", SETTINGS[:24], SETTINGS, SETTINGS + b"\0\0\0\4\1\0\0\0\0"])
def test_a_grpc_client_that_goes_silent_loses_its_place(clock, monkeypatch, text):
    from interlock.monitor.ingest import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with grpc_listener(receiver) as port, dribble(port, text) as slow:
        began = time.monotonic()
        while not closed(slow):
            pass  # the server's own settings come first
        assert time.monotonic() - began < 8  # far from the 40 s a connection may live
        assert over_grpc(port) == 0


def test_grpc_reads_no_message_of_an_unknown_sender(clock):
    import grpc

    receiver = Receiver([source(), source("fridge-2", token=TOKEN)], clock_ns=clock)
    pushed = []
    receiver.push = lambda *a: pushed.append(a) or 0
    with grpc_listener(receiver) as port:
        for token in ("guess", ""):
            with pytest.raises(grpc.RpcError) as caught:
                over_grpc(port, token=token)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            call = channel.unary_unary(
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            )
            signed = SignedPush("fridge", KEY, clock_ns=clock).headers(METRICS, both(0))
            with pytest.raises(grpc.RpcError) as caught:
                call(both(0), timeout=20, metadata=tuple(signed.items()))
            assert "gRPC takes no signed requests" in caught.value.details()
        assert not pushed
        assert over_grpc(port) == 0
        assert len(pushed) == 1


@pytest.fixture
def pair(tmp_path):
    from interlock.crypto.certs import Authority

    authority = Authority(tmp_path / "certs")
    return authority, authority.issue("lab", kind="ecdsa-p256", hosts=["localhost"])


@pytest.mark.parametrize("listen", [http_listener, grpc_listener])
def test_handshakes_that_never_begin_shut_out_nobody(clock, pair, listen):
    from interlock.crypto.door import PER_ADDRESS
    from interlock.crypto.tls import connect

    authority, files = pair
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with listen(receiver, certificates=(files,)) as port, contextlib.ExitStack() as stack:
        half = [stack.enter_context(dribble(port, (b"", b"\x16\x03\x01")[k % 2]))
                for k in range(PER_ADDRESS + 80)]  # fmt: skip
        assert all(closed(s) for s in half[:80])
        if listen is http_listener:
            assert over_tls(connect, authority, port, both(0)) == 200
        else:
            assert over_grpc(port, authority) == 0
    assert receiver.refused == {}


def over_grpc(port, authority=None, token=TOKEN):
    import grpc

    target, options = f"localhost:{port}", [("grpc.enable_retries", 0)]
    if authority is None:
        channel = grpc.insecure_channel(target, options)
    else:
        ca = grpc.ssl_channel_credentials(authority.ca_file("ecdsa-p256").read_bytes())
        channel = grpc.secure_channel(target, ca, options)
    with channel:
        call = channel.unary_unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        )
        return len(call(both(0), timeout=20, metadata=(("authorization", f"Bearer {token}"),)))


@pytest.mark.parametrize("listen", [http_listener, grpc_listener])
def test_a_handshake_that_is_not_done_by_its_deadline_is_cut(clock, pair, monkeypatch, listen):
    from interlock.crypto import door

    monkeypatch.setattr(door, "HANDSHAKE_S", 0.3)
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with listen(receiver, certificates=(pair[1],)) as port, dribble(port, b"\x16") as slow:
        assert closed(slow)  # `dribble` gives up after 20 s


def test_grpc_takes_no_classical_group_and_no_plain_bytes_under_tls(clock, pair):
    import grpc

    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with grpc_listener(receiver, certificates=(pair[1],)) as port:
        with pytest.raises(grpc.RpcError):
            over_grpc(port)
        assert over_grpc(port, pair[0]) == 0


def test_grpc_connections_that_say_nothing_shut_out_nobody(clock):
    from interlock.monitor.ingest.connections import PER_PEER

    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with grpc_listener(receiver) as port, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(dribble(port, (b"", preface)[k % 2]))
                for k in range(PER_PEER + 60)]  # fmt: skip
        for one in slow[:60]:
            one.settimeout(20)
            while not closed(one):
                pass  # the server's own settings come first
        assert over_grpc(port) == 0


def test_the_busiest_address_gives_way_when_all_places_are_taken():
    from interlock.crypto.door import surplus

    many = [f"10.0.0.{k}" for k in range(20) for _ in range(3)] + ["10.0.0.7"]
    assert surplus(["lab", *many], share=16, most=60) == 1 + many.index("10.0.0.7")
    assert surplus(["lab", *many], share=16, most=61 + 1) is None
    assert surplus(["lab", *["x"] * 17], share=16, most=60) == 1


@pytest.mark.parametrize("text", UNFINISHED)
def test_a_request_that_is_not_in_by_its_deadline_is_cut(clock, monkeypatch, text):
    from interlock.monitor.ingest import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "BODY_S", 0.3)
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    with http_listener(receiver) as port, dribble(port, text) as slow:
        began = time.monotonic()
        assert closed(slow)
        assert 0.2 < time.monotonic() - began < 5
        assert post(port, METRICS, both(0), BEARER)[0] == 200
        # a second request on a connection that answered one has its deadline too
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        head = {"content-type": "application/x-protobuf", **BEARER}
        kept.request("POST", METRICS, both(1), head)
        reply = kept.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
        kept.sock.sendall(b"POST")
        assert closed(kept.sock)
        kept.close()


def test_a_request_that_takes_long_to_answer_is_not_cut(clock, monkeypatch):
    from interlock.monitor.ingest import connections

    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    monkeypatch.setattr(connections, "BODY_S", 0.1)
    receiver = Receiver([source(token=TOKEN)], clock_ns=clock)
    push = receiver.push
    monkeypatch.setattr(receiver, "push", lambda *a: (time.sleep(0.8), push(*a))[1])
    with http_listener(receiver) as port:
        assert post(port, METRICS, both(0), BEARER)[0] == 200


def test_plain_listeners_stay_on_loopback(tmp_path):
    receiver = Receiver([source()])
    for listen in (http_listener, grpc_listener):
        with pytest.raises(UsageError) as caught, listen(receiver, host="0.0.0.0"):
            pass
        assert caught.value.code == "monitor-listen-plain"
    (tmp_path / "state").write_text("[]")
    (tmp_path / "state").chmod(0o600)
    with pytest.raises(InterlockError) as caught:
        Receiver([source()], state=tmp_path / "state")
    assert caught.value.code == "monitor-listen-state"


def test_the_command_listens_and_alarms(tmp_path, free_port):
    """`interlock monitor listen` as a process: a shift sent over the socket raises an alarm."""
    import json
    import subprocess
    import sys

    file = tmp_path / "sources.yaml"
    file.write_text(
        "sources:\n- {source: fridge, kind: temperature, channels: [mxc], period_ms: 1000,\n"
        f"   origin: simulated, public_key: {KEY.public_key().public_bytes_raw().hex()}}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "monitor", "listen", "--sources", str(file),
         "--home", str(tmp_path / "home"), "--port", str(free_port), "--rows", "3999", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first = json.loads(process.stdout.readline())
        assert first["http"] == free_port
        rng = np.random.default_rng(0)
        push = SignedPush("fridge", KEY)
        values = rng.standard_normal(4000)
        values[3000:] += 4
        for start in range(0, 4000, 500):
            body = b"".join(row(k, {"mxc": values[k]}) for k in range(start, start + 500))
            assert post(free_port, METRICS, body, push.headers(METRICS, body))[0] == 200
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait(60) == 0
    finally:
        process.kill()
    alarms = [a for a in lines if "kind" in a]
    assert any(3000 <= a["row"] < 3100 and a["channel"] == "mxc" for a in alarms)
    assert all(a["row"] >= 3000 for a in alarms)
    assert lines[-1]["rows"] == 4000  # the last row is closed by the end
