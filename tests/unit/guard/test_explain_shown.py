"""What `interlock explain` prints: nothing of a finding is cut off."""

import pytest

from interlock.cli.explain import _print


def test_a_long_word_is_folded_and_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    subject = "3fe6001a" * 8
    finding = {"rule": "admit.dual-use.approval", "message": "waits", "fix": f"approve {subject}"}
    control = {"control": "dual-use", "decision": "HOLD", "findings": [finding], "evidence": {}}
    story = {
        "outcome": "HOLD", "receipt": "1-a", "job": {}, "session": None, "missing": [],
        "stages": [{"stage": "admit", "branch": "main", "controls": [control]}],
        "ledger": {"index": 1, "leaf_sha256": "0"},
    }  # fmt: skip
    _print(story)
    rows = [line.split("│")[-2].strip() for line in capsys.readouterr().out.splitlines()
            if "│" in line]  # fmt: skip
    assert subject in "".join(rows)
