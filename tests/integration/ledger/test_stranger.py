"""Somebody who has a bundle, Python and its README, and nothing of Interlock."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from interlock.ledger import Ledger
from interlock.ledger.evidence import bundle

LEFT_OUT = (".pyc", "INSTALLER", "REQUESTED", "direct_url.json")


def wheel(name: str, folder: Path) -> None:
    """Pack an installed distribution into a wheel again, so that no network is needed."""
    found = metadata.distribution(name)
    tag = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)[0]
    path = folder / f"{found.name.replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as packed:
        rows = list(csv.reader(io.StringIO(found.read_text("RECORD"))))
        kept = [row for row in rows if not row[0].endswith(LEFT_OUT) and ".." not in row[0]]
        for row in kept:
            if row[0].endswith(".dist-info/RECORD"):
                packed.writestr(row[0], "".join(",".join(r) + "\n" for r in kept))
            else:
                packed.write(str(found.locate_file(row[0])), row[0])


def needed(name: str) -> set[str]:
    names = {name}
    for line in metadata.requires(name) or ():
        if "extra ==" not in line:
            found = re.match(r"[\w.-]+", line)
            assert found is not None
            try:
                names |= needed(found.group())
            except metadata.PackageNotFoundError:
                continue  # for another Python
    return names


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name in needed("cryptography"):
        wheel(name, folder)
    return folder


def test_the_readme_is_all_a_stranger_needs(tmp_path: Path, wheels: Path) -> None:
    """Its commands as they stand, in the bundle's folder, with an empty environment."""
    with Ledger.open(tmp_path / "home") as ledger:
        for n in range(50):
            who = ("alice", "bob")[n % 2]
            header = {"job": f"j{n}", "outcome": "RELEASE"}
            ledger.append("release", header, {"n": n, "who": who}, subject=who).wait()
        ledger.rotate()
        for audience in ("auditor", "public"):
            bundle(ledger, tmp_path / audience, audience)  # type: ignore[arg-type]
        bundle(ledger, tmp_path / "subject", "subject", subject="alice")
    (tmp_path / "person").mkdir()
    environment = {
        "HOME": str(tmp_path / "person"),
        "PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }

    def type_in(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    text = (tmp_path / "auditor" / "README.txt").read_text()
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    assert len(lines) == 4
    for line in lines[:3]:
        done = type_in(tmp_path / "auditor", line)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("OK\n")
    assert "51 entries (1 header only, 50 payload)" in done.stdout
    for name in ("ledger.vkeys", "bundle.keys"):
        shutil.copy(tmp_path / "auditor" / name, tmp_path / name)
        lines[3] = lines[3].replace(f"OTHER-{name}", str(tmp_path / name))
    for audience in ("auditor", "subject", "public"):
        done = type_in(tmp_path / audience, lines[3])
        assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "public" / "summary.json").write_text("{}")
    done = type_in(tmp_path / "public", lines[2])
    assert done.returncode == 7
    assert "summary.json was changed" in done.stdout
