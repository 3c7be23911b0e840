"""What the offline verifier refuses before it looks at hashes."""

from pathlib import Path
from typing import Any

import pytest

from interlock.ledger.offline import verify


@pytest.mark.parametrize(
    "line",
    [
        {"header": "{}", "stored": "QQ==", "payload": {"forged": 1}},
        {"leaf": "00" * 32, "payload": {"forged": 1}},
        {"header": "{}", "payload_sha256": "00" * 32, "payload": {"forged": 1}},
    ],
)
def test_a_payload_that_no_leaf_covers_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises(verify.MismatchError, match="does not cover"):
        verify.check_entry(line, 0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("left", ["bundle.keys", "summary.json"])
def test_a_bundle_without_its_signed_list_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("x")
    with pytest.raises(verify.MismatchError, match="is gone"):
        verify.check_files(tmp_path, None)


def test_with_trusted_keys_there_must_be_a_signed_list(tmp_path: Path) -> None:
    assert verify.check_files(tmp_path, None) == "no signed list of files"
    with pytest.raises(verify.MismatchError, match="is gone"):
        verify.check_files(tmp_path, ["ed25519:AAAA"])


def test_a_proof_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("c2sp.org/tlog-proof@v9\nextra \nindex 0\n\nnote")
    with pytest.raises(verify.MismatchError, match="no known format"):
        verify.check_proof(tmp_path / "p", None)  # type: ignore[arg-type]
