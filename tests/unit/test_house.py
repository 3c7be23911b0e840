"""Rules every part of the repository keeps that no other tool checks."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir() and any(p.glob("*.py")))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_every_example_has_a_page_and_a_command(example: Path) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "Makefile"]
    text = "\n".join(p.read_text() for p in pages)
    assert f"examples/{example.name}" in text


def test_lazy_names_of_the_training_package_exist() -> None:
    pytest.importorskip("torch")
    from interlock import training

    assert training.__all__ == sorted(training.__all__, key=lambda n: (n[0].islower(), n))
    assert all(callable(getattr(training, name)) for name in training.__all__)
