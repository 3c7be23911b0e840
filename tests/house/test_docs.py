"""Every flag, setting, control and error code is documented; every claimed number has a row."""

import ast
import importlib.util
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["policy.md", "cli.md"])
def test_the_generated_reference_is_up_to_date(page: str) -> None:
    made = generator().PAGES[page]()
    there = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    assert there == made, "run `python docs/generate.py`"


def error_codes() -> set[str]:
    codes: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                values = [k.value for k in node.keywords if k.arg == "code"]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values = [node.value] if node.targets[0].id == "code" else []
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                first = node.targets[0].elts[0]
                named = isinstance(first, ast.Name) and first.id == "code"
                values = node.value.elts[:1] if named and isinstance(node.value, ast.Tuple) else []
            else:
                continue
            codes |= {
                v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)
            }
    return codes


def test_every_error_code_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    headings = re.findall(r"^## ([a-z0-9-]+)$", text, re.MULTILINE)
    assert [h for h, n in Counter(headings).items() if n > 1] == []  # a link finds one of them
    documented = set(headings)
    codes = error_codes()
    assert codes, "the search found no code at all"
    assert codes - documented == set()


def test_every_number_the_readme_states_has_a_claim() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    prose = re.sub(r"```.*?```|`[^`]*`|\([^)]*\)", " ", readme, flags=re.DOTALL)
    numbers = re.findall(r"(?<![\w.-])\d[\d.,]*\d?\s?(?:%|ms|s|x|MB|GB|h)(?![\w])", prose)
    claims = (ROOT / "docs" / "claims.md").read_text("utf-8")
    missing = [n for n in numbers if n.replace(" ", "") not in claims.replace(" ", "")]
    assert missing == []


def test_claims_name_tests_that_exist() -> None:
    claims = (ROOT / "docs" / "claims.md").read_text("utf-8")
    rows = [r for r in claims.splitlines() if r.startswith("|") and "`tests/" in r]
    paths = {p for r in rows for p in re.findall(r"`(tests/[\w./-]+?)(?:::\w+)?`", r)}
    assert [p for p in sorted(paths) if not (ROOT / p).exists()] == []


def test_the_repository_speaks_of_the_project_alone() -> None:
    # Paths of somebody's machine, and numbers that only a tracker knows.
    words = re.compile(r"(?<![\w.<{}-])/(root|Users|work|mnt)/\w|\b(issue|session) #?\d+\b")
    found = [
        f"{path.relative_to(ROOT)}:{n}"
        for folder in ("src", "docs", "examples", "benchmarks", "tests")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml") and path != Path(__file__)
        for n, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []


def test_the_extra_all_has_every_extra() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("interlock[").removesuffix("]").split(","))
    # Ray takes 200 MB; `tests/integration/gateway/test_sweeps.py` runs where it is installed.
    assert named == set(extras) - {"all", "dev", "ray"}
