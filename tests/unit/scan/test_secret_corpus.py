"""Recall, precision, notebooks and speed on the measured corpus, with seeds of its own."""

import importlib.util
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

from interlock.scan import run
from interlock.scan.secrets.engine import BLOCK_BYTES, default_engine

ROOT = Path(__file__).parents[3]


def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scan_corpus", ROOT / "benchmarks/scan_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scan_corpus"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", ["unit-1", "unit-2"])
def test_recall_and_precision_on_200_planted_and_2000_decoys(tmp_path: Path, seed: str) -> None:
    truth = corpus().write(tmp_path, seed)
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    found = defaultdict(list)
    for item in report.findings:
        found[item.path].append(item.secret.decode())
    hits = [t for t in truth if any(t.value in s for s in found[t.path])]
    assert len(truth) == 200
    assert len(hits) / 200 >= 0.98
    values = {t.path: t.value for t in truth}
    good = sum(values.get(f.path, "\0") in f.secret.decode() for f in report.findings)
    assert good / len(report.findings) >= 0.90
    notebooks = [t for t in truth if t.place.startswith("nb")]
    assert sum(t in hits for t in notebooks) / len(notebooks) >= 0.95


def test_clean_notebooks_give_no_finding(tmp_path: Path) -> None:
    module = corpus()
    maker = module.Maker("clean")
    for number in range(120):
        cells = [module.clean_cell(maker) for _ in range(4)]
        (tmp_path / f"n{number}.ipynb").write_text(module.notebook(cells))
    report = run.scan([tmp_path], families=("secrets",), base=tmp_path)
    assert report.files == 120
    assert report.findings == []


def test_a_notebook_finding_names_cell_output_and_line(tmp_path: Path) -> None:
    module = corpus()
    maker = module.Maker("lines")
    for place in ("nb-source", "nb-output", "nb-repr"):
        suffix, text, value = module.planted_text(maker, "dwave", place)
        path = tmp_path / f"{place}{suffix}"
        path.write_text(text)
        (finding,) = run.scan([path], families=("secrets",), base=tmp_path).findings
        assert value in text.split("\n")[finding.line - 1]
        assert finding.where == ("cell 2" if place == "nb-source" else "cell 2, output 1")


def test_speed_and_memory_do_not_depend_on_the_length_of_a_line() -> None:
    engine = default_engine()
    unit = b'{"key": "value with a token in it", "amplitude": 0.70710678, "n": [1, 2, 3]}, '

    def blocks(count: int):
        block = (unit * (BLOCK_BYTES // len(unit) + 1))[:BLOCK_BYTES]
        for _ in range(count):
            yield block

    import tracemalloc

    list(engine.stream(blocks(4)))
    tracemalloc.start()
    start = time.process_time()
    assert list(engine.stream(blocks(60))) == []
    spent = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * BLOCK_BYTES
    assert spent < 60  # tracing slows it many times; the benchmark has the figure
