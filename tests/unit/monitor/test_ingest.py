import contextlib
import dataclasses

import numpy as np
import pytest

from interlock.errors import InputError, IntegrityError
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.ingest.assemble import RowAssembler
from interlock.monitor.ingest.columns import Numbering
from interlock.monitor.ingest.files import accounted, read_frames
from interlock.monitor.ingest.otlp import decode_logs, decode_metrics
from interlock.monitor.ingest.remote_write import decode_remote_write
from interlock.monitor.ingest.source import SKEW_LIMIT_NS, Account
from interlock.monitor.ingest.sources import read_sources
from interlock.monitor.watch import watch

pa = pytest.importorskip("pyarrow")
RNG = np.random.default_rng(0)


def write(path, table):
    from pyarrow import csv, feather, parquet

    if path.suffix == ".arrows":
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    elif path.suffix == ".arrow":
        feather.write_feather(table, str(path), compression="uncompressed")
    elif path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        import orjson

        path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in table.to_pylist()))


@pytest.mark.parametrize("ending", ["arrow", "arrows", "parquet", "csv", "ndjson"])
def test_formats_give_the_same_frames(tmp_path, ending):
    values = RNG.standard_normal((100_000 if ending == "arrow" else 3000, 2))
    values[5, 1] = np.nan
    table = pa.table({"t_ns": np.arange(len(values)) * 10, "a": values[:, 0], "b": values[:, 1]})
    if ending == "ndjson":
        table = table.set_column(2, "b", pa.array(values[:, 1], from_pandas=True))
    write(tmp_path / f"x.{ending}", table)
    frames = list(read_frames(tmp_path / f"x.{ending}"))
    got = np.concatenate([f.values for f in frames])
    np.testing.assert_allclose(got, values.astype("f4"), rtol=1e-6)
    assert np.concatenate([f.t_ns for f in frames])[-1] == (len(values) - 1) * 10
    assert max(len(f) for f in frames) <= 65_536


def test_a_column_of_text_is_named(tmp_path):
    write(tmp_path / "x.parquet", pa.table({"a": [1.0, 2.0], "site": ["lab", "lab"]}))
    with pytest.raises(InputError) as caught:
        list(read_frames(tmp_path / "x.parquet"))
    assert "column 'site'" in caught.value.got


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"t_ns,a\n1,hello\n"),
        ("x.ndjson", b'{"a": 1}\nnot json\n'),
        ("x.ndjson", b"[1]\n"),
        ("x.ndjson", b'{"a": 1}\n{"a": 2, "b": 3}\n'),
        ("x.arrow", b"garbage"),
        ("x.parquet", b"PAR1garbage"),
        ("x.txt", b""),
        ("x.csv", b""),
    ],
)
def test_hostile_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_frames(tmp_path / name))
    assert caught.value.code == "monitor-file"


@pytest.mark.parametrize(
    ("column", "values", "left_out"),
    [
        ("timestamp", ["2024-01-01 00:00:00", "2024-01-01 00:00:01"], True),
        ("logged", ["2024-01-01 00:00:00", "2024-01-01 00:00:01"], True),  # by its type
        ("Time", ["not", "numbers"], True),
        ("unix_time_ms", [1, 2], True),
        ("", [0, 1], True),
        ("t_s", [0.5, 1.0], True),
        ("time", [3.0, 1.0], False),  # goes down: a sensor of times
        ("T", [0.1, 0.2], False),
        ("date_rate", [1, 2], False),
    ],
)
def test_clocks_are_not_watched_as_sensors(tmp_path, column, values, left_out):
    path, said = tmp_path / "x.csv", []
    path.write_text(f"{column},a\n" + "\n".join(f"{v},1" for v in values))
    (frame,) = read_frames(path, say=said.append)
    assert frame.spec.channels == (("a",) if left_out else (column, "a"))
    assert len(said) == left_out
    assert all(repr(column) in line for line in said)


@pytest.mark.parametrize(
    "content",
    [
        b'{"seq": 1, "a": 1}\n{"seq": null, "a": 1}\n',
        b'{"seq": 1.5, "a": 1}\n',
        b'{"seq": 1e300, "a": 1}\n',
        b'{"seq": "1", "a": 1}\n',
        b'{"seq": 18446744073709551615, "a": 1}\n',
        b'{"t_ns": 1, "a": 1}\n{"t_ns": null, "a": 1}\n',
    ],
)
def test_numbers_and_times_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "x.ndjson").write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_frames(tmp_path / "x.ndjson"))
    assert caught.value.code == "monitor-file"


def test_a_file_of_far_numbers_stays_small(tmp_path):
    account, names = Account(), [f"c{k}" for k in range(64)]
    table = pa.table(
        {"seq": np.arange(20_000) * 10**12} | dict.fromkeys(names, np.ones(20_000, "f4"))
    )
    write(tmp_path / "x.parquet", table)
    rows = 0
    for frame in accounted(read_frames(tmp_path / "x.parquet"), account):
        assert frame.values.size <= 1 << 22
        rows += len(frame)
    assert rows == 20_000 + 19_999 * 64
    assert (account.rows, account.restarts) == (20_000, 19_999)


def test_a_file_that_repeats_itself_and_jitters_is_watched_once():
    rng = np.random.default_rng(3)
    t = np.sort(np.arange(1000) * 1000 + rng.integers(-200, 200, 1000))
    numbers = Numbering(None)
    seq = np.concatenate([numbers.number(t[:600]), numbers.number(t[500:])])
    assert np.unique(seq).tolist() == list(range(1000))
    assert (np.diff(seq) >= 0).all()


def test_small_steps_of_large_numbers_survive(tmp_path):
    hz, late = 5e9 + np.arange(2000) % 3, [None] * 500 + [1e12 + 1] * 1500
    write(tmp_path / "x.parquet", pa.table({"hz": hz, "mxc": hz - 5e9, "late": late}))
    frames = list(read_frames(tmp_path / "x.parquet"))
    assert np.unique(np.diff(np.concatenate([f.values[:, 0] for f in frames]))).tolist() == [-2, 1]
    assert np.concatenate([f.original[:, 0] for f in frames]).tolist() == hz.tolist()
    assert frames[0].reference.tolist() == [5e9 + 1, 0.0, 1e12 + 1]
    rows = RowAssembler(SPEC)
    for k in range(3):  # one sample a request, the first of one channel missing
        frame, _ = rows.add(
            np.array([k, k]) * 10**6, np.array([0, 1]), np.array([5e9 + k, 1.0 if k else np.nan])
        )
    assert frame.original.tolist() == [[5e9 + 1, 1.0]]
    assert rows.flush().original.tolist() == [[5e9 + 2, 1.0]]


def test_a_small_step_of_a_large_number_raises_an_alarm():
    rng = np.random.default_rng(0)
    hz = 5e9 + rng.standard_normal(4000)
    hz[3000:] += 8
    one = dataclasses.replace(SPEC, channels=("hz",))
    frame, _ = RowAssembler(one).add(np.arange(4000) * 10**6, np.zeros(4000, int), hz)
    seen = watch([frame])
    assert any(3000 <= a.row < 3100 for a in seen.alarms)
    assert all(a.row >= 3000 for a in seen.alarms)
    assert abs((seen.values[:, 0] + seen.reference[0])[:3000].mean() - 5e9) < 1


def metrics_message(points=50):
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    message = metrics_service_pb2.ExportMetricsServiceRequest()
    scope = message.resource_metrics.add().scope_metrics.add()
    expected = []
    for name, kind in (("fridge.mxc", "gauge"), ("queue.depth", "sum")):
        metric = scope.metrics.add()
        metric.name = name
        for k in range(points):
            point = getattr(metric, kind).data_points.add()
            point.time_unix_nano = 1_700_000_000_000_000_000 + k
            attribute = point.attributes.add()
            attribute.key, attribute.value.string_value = "qubit", str(k % 3)
            if kind == "sum":
                point.as_int = -k
            else:
                point.as_double = k / 7
            expected.append((name, point.time_unix_nano, -k if kind == "sum" else k / 7))
    return message.SerializeToString(), expected


def test_otlp_metrics_agree_with_the_official_messages():
    payload, expected = metrics_message()
    got = decode_metrics(payload)
    rows = zip(
        [got.names[c] for c in got.code], got.t_ns.tolist(), got.values.tolist(), strict=True
    )
    assert list(rows) == expected
    assert len(set(got.series.tolist())) == 6


def test_otlp_distributions_give_count_sum_extremes_and_quantiles():
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    message = metrics_service_pb2.ExportMetricsServiceRequest()
    metrics = message.resource_metrics.add().scope_metrics.add().metrics
    for name, kind in (("a", "histogram"), ("b", "exponential_histogram"), ("c", "summary")):
        metric = metrics.add()
        metric.name = name
        point = getattr(metric, kind).data_points.add()
        point.time_unix_nano, point.count, point.sum = 5, 10, 50.0
        attribute = point.attributes.add()
        attribute.key, attribute.value.string_value = "qubit", "3"
        if kind != "summary":
            point.min, point.max = 0.5, 9.0
        if kind == "histogram":
            point.explicit_bounds.extend([1.0, 5.0])
            point.bucket_counts.extend([2, 6, 2])
        getattr(metric, kind).data_points.add().count = 4  # without a time it is not kept
    got = decode_metrics(message.SerializeToString())
    rows = {got.label(k): got.values[k] for k in range(len(got))}
    assert rows == {
        "a.count{qubit=3}": 10, "a.sum{qubit=3}": 50, "a.min{qubit=3}": 0.5, "a.max{qubit=3}": 9,
        "a.p50{qubit=3}": pytest.approx(3.0), "a.p99{qubit=3}": pytest.approx(8.8),
        "b.count{qubit=3}": 10, "b.sum{qubit=3}": 50, "b.min{qubit=3}": 0.5, "b.max{qubit=3}": 9,
        "c.count{qubit=3}": 10, "c.sum{qubit=3}": 50,
    }  # fmt: skip
    assert got.lost == 3


KEYED = (
    "sources: [{source: a, kind: queue, channels: [x], period_ms: PERIOD, origin: simulated,"
    f" token_sha256: {'ab' * 32}}}]"
)


@pytest.mark.parametrize(
    "text",
    [
        "sources: []",
        "sources: [{source: a}]",
        "nothing",
        "sources: [{source: a, kind: queue, channels: [x], period_ms: 1, origin: simulated}]",
        "sources: [{source: a, kind: queue, channels: [x], period_ms: 1, origin: nowhere}]",
        KEYED.replace("PERIOD", ".inf"),
        KEYED.replace("PERIOD", ".nan"),
        "{",
    ],
)
def test_a_sources_file_that_is_not_one_is_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_sources(tmp_path / "s.yaml")
    assert caught.value.code == "monitor-sources-file"
    (tmp_path / "s.yaml").write_text(KEYED.replace("PERIOD", "1000"))
    assert len(read_sources(tmp_path / "s.yaml")) == 1


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_read_without_a_word(tmp_path):
    """Whoever sends a file or a request must not write to the terminal of who watches it."""
    values = np.where(np.arange(3000) % 97 == 0, 1e300, RNG.standard_normal(3000))
    write(tmp_path / "x.parquet", pa.table({"a": values}))
    for block in (1, 16):
        watch(read_frames(tmp_path / "x.parquet"), block=block)
    spec = StreamSpec(
        source="s", kind=StreamKind.QUEUE, channels=("a",), period_ns=10, origin=Origin.SIMULATED
    )
    wild = np.array([1.0, np.inf, -np.inf, 1e300, np.nan, 2.0])
    frame, new = RowAssembler(spec).add(10 * np.arange(1, 7), np.zeros(6, np.int64), wild)
    assert new == 6
    assert np.isfinite(frame.values[:, 0]).tolist() == [True, False, False, False, False]


def test_otlp_metrics_survive_any_broken_bytes():
    payload, _ = metrics_message(5)
    for k in range(400):
        broken = bytearray(payload)
        for _ in range(3):
            broken[RNG.integers(len(broken))] = RNG.integers(256)
        with contextlib.suppress(InputError):
            decode_metrics(bytes(broken[: len(broken) - k % 7]))


def test_remote_write_round_trip_and_bombs():
    def chunk(number, wire, body):
        return bytes([number << 3 | wire]) + (bytes([len(body)]) if wire == 2 else b"") + body

    sample = chunk(1, 1, np.float64(2.5).tobytes()) + bytes([2 << 3, 0x90, 0x4E])
    label = chunk(1, 2, b"__name__") + chunk(2, 2, b"t1_us")
    other = chunk(1, 2, b"qubit") + chunk(2, 2, b"3")
    series = chunk(1, 2, label) + chunk(1, 2, other) + chunk(2, 2, sample) * 2
    payload = pa.compress(chunk(1, 2, series), codec="snappy", asbytes=True)
    got = decode_remote_write(payload)
    assert got.values.tolist() == [2.5, 2.5]
    assert got.t_ns.tolist() == [10_000 * 1_000_000] * 2
    assert got.names == ("t1_us{qubit=3}",)
    for bad in (b"\xff\xff\xff\xff\x0f123", b"", payload[:-3]):
        with pytest.raises(InputError):
            decode_remote_write(bad)


def test_otlp_logs():
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

    message = logs_service_pb2.ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.severity_text = 5, "WARN"
    record.body.string_value = "list backends"
    attribute = record.attributes.add()
    attribute.key, attribute.value.int_value = "status", 403
    (event,) = decode_logs(message.SerializeToString())
    assert (event.t_ns, event.body, event.attributes) == (5, "list backends", {"status": "403"})
    with pytest.raises(InputError):
        decode_logs(b"\xff\xff\xff")


SPEC = StreamSpec(
    source="fridge",
    kind=StreamKind.TEMPERATURE,
    channels=("mxc", "still"),
    period_ns=1_000_000,
    origin=Origin.SIMULATED,
)


def take(account, frame, *, received_ns=None):
    last = int(frame.t_ns[-1])
    lag_ns = 0 if received_ns is None else received_ns - last
    return account.take(frame, lag_ns=lag_ns, limit_ns=SKEW_LIMIT_NS)


def test_rows_seen_before_are_refused():
    account = Account()
    frame = Frame.of(SPEC, np.zeros((10, 2)))
    take(account, frame)
    for again in (frame, frame[3:5], frame[:0]):
        with pytest.raises(IntegrityError) as caught:
            account.take(again, lag_ns=0, limit_ns=0)
        assert caught.value.code == "monitor-replay"
    assert account.refused == 3
    later = Frame.of(SPEC, np.zeros((10, 2)), first_seq=10, start_ns=10_000_000)
    assert len(take(account, later)) == 10


def test_drops_duplicates_and_200_ms_of_skew_are_accounted():
    account, dropped, skew = Account(), 0, 200_000_000
    rng = np.random.default_rng(1)
    for start in range(0, 4000, 100):
        frame = Frame.of(
            SPEC, np.ones((110, 2)), first_seq=start, start_ns=start * 1_000_000 - skew
        )
        keep = rng.random(110) > 0.05
        keep[[0, 100, 109]] = True
        dropped += int((~keep[:100]).sum())
        part = Frame(
            spec=SPEC, t_ns=frame.t_ns[keep], seq=frame.seq[keep], values=frame.values[keep]
        )
        out = take(account, part, received_ns=int(part.t_ns[-1]) + skew + int(rng.exponential(2e6)))
    assert account.duplicates > 300
    assert account.missing == pytest.approx(dropped, abs=40)
    assert account.skew_ns == pytest.approx(skew, abs=1_000_000)
    assert abs(int(out.t_ns[-1]) - out.seq[-1] * 1_000_000) < 2_000_000


def test_taking_skew_out_lets_a_detector_look_at_two_sources():
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[3]))
    from benchmarks.telemetry_sync import PERIOD_NS, auc, received, streams

    fridge, qubit, label = streams(0)
    sent, fixed, account = received(fridge, np.random.default_rng(0))
    at = np.arange(len(fridge)) * PERIOD_NS
    late, right = (
        auc(np.abs(qubit - np.interp(at, f.t_ns, f.values[:, 0])), label) for f in (sent, fixed)
    )
    assert account.skew_ns == pytest.approx(200_000_000, abs=1_000_000)
    assert late < 0.7
    assert right > 0.98


@pytest.mark.parametrize("first", [9.91e37, -9.9e37, 1e12, np.inf])
def test_a_first_reading_that_is_none_does_not_blind_its_channel(tmp_path, first):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(8000)
    values[6000:] += 4.0
    values[0] = first
    values[3000:3004] = 9.91e37
    path = tmp_path / "fridge.csv"
    path.write_text("mxc\n" + "\n".join(map(repr, values.tolist())) + "\n")
    seen = watch(read_frames(path))
    assert [a.kind.value for a in seen.alarms] == ["shift"]
    assert 6000 <= seen.alarms[0].row < 6200
