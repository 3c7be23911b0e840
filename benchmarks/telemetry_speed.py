"""Telemetry speed side by side in one run, in rows a CPU-second (all threads counted).

taskset -c 0 python benchmarks/telemetry_speed.py [--rows 2000000] [--long 0]
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from interlock.monitor.detectors.alarms import AlarmBank
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.ingest.files import read_frames
from interlock.monitor.ingest.otlp import decode_metrics
from interlock.monitor.pipeline import AssetMonitor

CHANNELS = 32


def rate(rows: int, run: Callable[[], object], repeat: int = 3) -> float:
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return rows / best


def show(label: str, value: float) -> None:
    print(f"  {label:<44}{value:>16,.0f} rows/CPU-s", flush=True)


def missing(*names: str) -> bool:
    """Say which of these packages is not installed; they are beside us, not below us."""
    lacking = [n for n in names if importlib.util.find_spec(n) is None]
    for name in lacking:
        package = {"sklearn": "scikit-learn"}.get(name, name)
        print(f"  left out: {package} is not installed; pip install {package}", flush=True)
    return bool(lacking)


def scikit(train: np.ndarray, some: np.ndarray) -> None:
    from sklearn import decomposition
    from sklearn.ensemble import IsolationForest

    sk = decomposition.PCA(3).fit(train)

    def residual() -> object:
        return ((some - sk.inverse_transform(sk.transform(some))) ** 2).sum(axis=1)

    show("scikit-learn PCA residual", rate(len(some), residual))
    forest = IsolationForest(n_estimators=100, random_state=0).fit(train)
    show(
        "scikit-learn IsolationForest", rate(20_000, lambda: forest.score_samples(some[:20_000]), 1)
    )


def pyod(train: np.ndarray, some: np.ndarray) -> None:
    from pyod.models.hbos import HBOS
    from pyod.models.pca import PCA

    for label, model in (("PyOD PCA", PCA()), ("PyOD HBOS", HBOS())):
        model.fit(train)
        show(label, rate(len(some), lambda m=model: m.decision_function(some), 1))


def river(some: np.ndarray) -> None:
    from river import anomaly, drift

    trees = anomaly.HalfSpaceTrees(seed=0)
    rows = [dict(enumerate(map(float, row))) for row in some[:1000]]

    def half_space() -> None:
        for row in rows:
            trees.score_one(row)
            trees.learn_one(row)

    show("river HalfSpaceTrees", rate(len(rows), half_space, 1))
    tests = [drift.PageHinkley() for _ in range(CHANNELS)]

    def page_hinkley() -> None:
        for row in some[:1000]:
            for test, value in zip(tests, row, strict=True):
                test.update(float(value))

    show("river PageHinkley on each channel", rate(1000, page_hinkley, 1))


def otlp(points: int) -> bytes:
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    message = metrics_service_pb2.ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "fridge.mxc"
    for k in range(points):
        point = metric.gauge.data_points.add()
        point.time_unix_nano, point.as_double = 1_700_000_000_000_000_000 + k, k / 7
        attribute = point.attributes.add()
        attribute.key, attribute.value.string_value = "qubit", str(k % 100)
    payload: bytes = message.SerializeToString()
    return payload


def official(payload: bytes) -> list[tuple[int, float]]:
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    message = metrics_service_pb2.ExportMetricsServiceRequest()
    message.ParseFromString(payload)
    return [
        (p.time_unix_nano, p.as_double)
        for r in message.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
        for p in m.gauge.data_points
    ]


def arrow_to_alarm(x: np.ndarray) -> float:
    import pyarrow as pa
    from pyarrow import feather

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.arrow"
        table = pa.table({f"c{c}": np.ascontiguousarray(x[:, c]) for c in range(CHANNELS)})
        feather.write_feather(table, str(path), compression="uncompressed")

        def run() -> None:
            monitor = AssetMonitor(CHANNELS, block=1024)
            for frame in read_frames(path):
                monitor.update(frame.values)

        return rate(len(x), run)


def memory(x: np.ndarray, rows: int) -> None:
    monitor = AssetMonitor(CHANNELS, block=4096)
    part, done, first = x[: 1 << 18], 0, 0
    start = time.process_time()
    while done < rows:
        monitor.update(part)
        done += len(part)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        first = first or now
    speed = done / (time.process_time() - start)
    print(f"  memory over {done:,} rows: {first} MiB after the first batch, {now} MiB at the end")
    show("fused pass and alarms, blocks of 4096", speed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument(
        "--long", type=int, default=0, help="only the memory check, over so many rows"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.rows, CHANNELS), dtype=np.float32)
    scorer = FusedScorer(CHANNELS).fit(x[:16_384])
    whole = x[: len(x) // 256 * 256]
    print(f"{CHANNELS} channels, float32")
    if args.long:
        memory(x, args.long)
        return
    show("reading the memory once (numpy max)", rate(len(x), x.max, 25))
    scorer.score(whole)
    show(
        "interlock EWMA + CUSUM + PCA, every row", rate(len(whole), lambda: scorer.score(whole), 25)
    )
    train, some = x[:5000], x[5000:205_000]
    if not missing("sklearn"):
        scikit(train, some)
    if not missing("pyod"):
        pyod(train, some)
    if not missing("river"):
        river(some)
    bank = AlarmBank(CHANNELS, seed=0)
    show("interlock alarms, row by row", rate(20_000, lambda: bank.update(x[:20_000])))
    show("Arrow file to alarm, blocks of 1024", arrow_to_alarm(x))
    payload = otlp(100_000)
    decode_metrics(payload)
    show("OTLP metrics decode", rate(100_000, lambda: decode_metrics(payload)))
    show("OTLP through the official messages", rate(100_000, lambda: official(payload), 1))


if __name__ == "__main__":
    main()
