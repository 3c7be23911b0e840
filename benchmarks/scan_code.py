"""The code rules on their cases beside qcheck, and on the SDKs' own code.

    python benchmarks/scan_code.py [--qcheck PATH] [--sdk NAME ...]

A tool sees a positive case if it reports anything the case is about: for qcheck, anything beyond
style of a fragment (missing header, missing import, no circuit, unsupported file).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import scan_code_cases

from interlock.scan import run

FRAGMENT = {
    "UNSUPPORTED", "QISKIT-MISSING-IMPORT", "QISKIT-NO-CIRCUIT", "QISKIT-TRANSPILE-MISSING-IMPORT",
    "QISKIT-PARAMETER-MISSING-IMPORT", "QISKIT-REGISTER-MISSING-IMPORT", "CIRQ-MISSING-IMPORT",
    "PENNYLANE-QML-MISSING-IMPORT", "PY-UNSAFE-IMPORT",
}  # fmt: skip

SDKS = ["qiskit", "qiskit_aer", "qiskit_ibm_runtime", "pennylane", "cirq", "sklearn"]


def ours(path: Path, rule: str) -> bool:
    found = run.scan([path], families=("code",), base=path.parent).findings
    return any(item.rule == f"code.{rule}" for item in found)


def theirs(tool: str, path: Path) -> bool:
    done = subprocess.run(
        [tool, "verify", str(path), "--format", "sarif"], capture_output=True, check=False
    )
    data = json.loads(done.stdout)
    found = {result["ruleId"] for result in data["runs"][0]["results"]}
    return bool(found - FRAGMENT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--qcheck")
    parser.add_argument("--sdk", nargs="*", default=SDKS)
    options = parser.parse_args()
    print("| rule | positives | negatives | seen | false | seen by qcheck | false by qcheck |")
    print("|---|---|---|---|---|---|---|")
    totals = [0] * 6
    for table, suffix in ((scan_code_cases.PYTHON, ".py"), (scan_code_cases.QASM, ".qasm")):
        for rule, (positives, negatives) in table.items():
            row = [len(positives), len(negatives), 0, 0, 0, 0]
            for wanted, texts in ((True, positives), (False, negatives)):
                for text in texts:
                    with tempfile.TemporaryDirectory() as folder:
                        path = Path(folder) / f"case{suffix}"
                        path.write_text(text)
                        row[2 if wanted else 3] += ours(path, rule)
                        if options.qcheck:
                            row[4 if wanted else 5] += theirs(options.qcheck, path)
            totals = [a + b for a, b in zip(totals, row, strict=True)]
            print(f"| {rule} | " + " | ".join(map(str, row)) + " |", flush=True)
    print("| total | " + " | ".join(map(str, totals)) + " |\n")
    print("| SDK | files | lines | findings | by rule |\n|---|---|---|---|---|")
    for name in options.sdk:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            print(f"| {name} | not installed | | | |")
            continue
        folder = Path(spec.origin).parent
        files = list(folder.rglob("*.py"))
        lines = sum(f.read_bytes().count(b"\n") for f in files)
        found = run.scan([folder], families=("code",), base=folder).findings
        rules = ", ".join(
            f"{r.split('.')[1]} {n}" for r, n in Counter(f.rule for f in found).most_common()
        )
        print(f"| {name} | {len(files)} | {lines} | {len(found)} | {rules} |", flush=True)


if __name__ == "__main__":
    main()
