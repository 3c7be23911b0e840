"""The tree against the recursive definitions of RFC 6962, section 2.1."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import IntegrityError
from interlock.ledger.tree import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    leaf_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(data: list[bytes]) -> bytes:
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\0" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\1" + mth(data[:k]) + mth(data[k:])).digest()


def path(m: int, data: list[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = split(len(data))
    if m < k:
        return [*path(m, data[:k]), mth(data[k:])]
    return [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [mth(data)]
    k = split(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


def data_of(n: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(n)]


def test_all_proofs_of_all_trees_up_to_40_entries() -> None:
    for n in range(41):
        data = data_of(n)
        tree = Tree(map(leaf_hash, data))
        frontier = Frontier()
        for item in data:
            frontier.append(leaf_hash(item))
        root = mth(data)
        assert tree.root() == frontier.root() == root
        assert Frontier.from_bytes(n, frontier.to_bytes()).root() == root
        for m in range(n):
            proof = tree.inclusion(m)
            assert proof == path(m, data)
            verify_inclusion(leaf_hash(data[m]), m, n, proof, root)
        for m in range(n + 1):
            proof = tree.consistency(m)
            assert proof == (subproof(m, data, True) if m else [])
            verify_consistency(m, n, mth(data[:m]), root, proof)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.data())
def test_a_changed_inclusion_proof_never_verifies(n: int, draw: st.DataObject) -> None:
    data = data_of(n)
    tree = Tree(map(leaf_hash, data))
    m = draw.draw(st.integers(0, n - 1))
    proof = tree.inclusion(m)
    root = tree.root()
    leaf = leaf_hash(data[m])
    wrong: list[tuple[bytes, int, int, list[bytes]]] = [
        (leaf_hash(b"other"), m, n, proof),
        (leaf, m, n, [*proof, bytes(32)]),
    ]
    if n > 1:
        other = draw.draw(st.integers(0, n - 1).filter(lambda i: i != m))
        wrong.append((leaf, other, n, proof))
        at = draw.draw(st.integers(0, len(proof) - 1))
        wrong.append((leaf, m, n, [*proof[:at], bytes(32), *proof[at + 1 :]]))
        wrong.append((leaf, m, n, proof[:-1]))
    for case in wrong:
        with pytest.raises(IntegrityError):
            verify_inclusion(*case, root)
    assert root_from_inclusion(leaf, -1, n, proof) is None
    assert root_from_inclusion(leaf, n, n, proof) is None


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 300), st.data())
def test_a_rewritten_history_has_no_consistency_proof(n: int, draw: st.DataObject) -> None:
    old = draw.draw(st.integers(1, n - 1))
    at = draw.draw(st.integers(0, old - 1))
    data = data_of(n)
    honest = Tree(map(leaf_hash, data))
    data[at] = b"rewritten"
    forged = Tree(map(leaf_hash, data))
    for proof in (honest.consistency(old), forged.consistency(old)):
        with pytest.raises(IntegrityError):
            verify_consistency(old, n, honest.root(old), forged.root(), proof)
    with pytest.raises(IntegrityError):
        verify_consistency(n, old, honest.root(), honest.root(old), [])
    with pytest.raises(IntegrityError):
        verify_consistency(0, n, honest.root(1), honest.root(), [])


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert Tree().root() == Frontier().root() == EMPTY_ROOT
