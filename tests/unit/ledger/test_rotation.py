from pathlib import Path

import pytest

from interlock.errors import InputError, IntegrityError
from interlock.ledger import Ledger, audit
from interlock.ledger.rotation import ROTATED, KeyHistory, endorse
from tests.unit.ledger.test_note import signer


def test_heads_are_signed_by_the_keys_in_force(home: Path) -> None:
    with Ledger.open(home) as ledger, Ledger.open(home) as other:
        for generation in range(3):
            ledger.append("a", {"g": generation}, {}).wait()
            other.append("a", {"g": generation}, {}).wait()
            other.checkpoint()
            if generation < 2:
                assert ledger.rotate() == generation + 1
        other.append("a", {}, {}).wait()
        note = other.checkpoint()
        assert other.check_note(note).size == 9
    assert audit(home).ok
    with Ledger.open(home) as ledger:
        assert ledger.history().generation == 2
        assert ledger.verify().ok


def test_an_entry_of_a_user_cannot_pose_as_a_rotation(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="own"):
        ledger.append(ROTATED, {}, {})


def test_only_the_old_keys_can_endorse_new_ones() -> None:
    old = [signer(1, seed=1), signer(6, seed=1)]
    new = [signer(1, seed=2), signer(6, seed=2)]
    public = [s.key for s in new]
    good = endorse(1, public, old)
    history = KeyHistory([s.key for s in old])
    for bad in (
        endorse(1, public, new),
        endorse(1, public, [old[0], new[1]]),
        endorse(2, public, old),
        endorse(1, [signer(1, "other", 2).key, public[1]], old),
        {k: v for k, v in good.items() if k != "endorsed.ml-dsa-44"},
        good | {"key.ed25519": str(old[0].key)},
        {},
    ):
        with pytest.raises(IntegrityError) as caught:
            history.add(5, bad)
        assert caught.value.code == "rotation-invalid"
    history.add(5, good)
    assert history.at(5) == [s.key for s in old]
    assert history.at(6) == public
