import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.crypto.signing import load_private
from interlock.errors import InputError, IntegrityError
from interlock.ledger.note import (
    COSIGN_ED25519,
    ED25519,
    ML_DSA_44,
    Checkpoint,
    NoteKey,
    NoteSigner,
    parse_note,
    sign_checkpoint,
    verify_checkpoint,
)

HEAD = Checkpoint("example.com/log", 7, bytes(32))


def signer(kind: int, name: str = "example.com/log", seed: int = 1) -> NoteSigner:
    algorithm = "ml-dsa-44" if kind == ML_DSA_44 else "ed25519"
    private = load_private(algorithm, bytes([seed]) * 32)
    return NoteSigner(NoteKey(name, kind, private.public_key().public_bytes_raw()), private)


def note(*signers: NoteSigner, head: Checkpoint = HEAD) -> str:
    lines = [s.line() for s in sign_checkpoint(head, signers, 1_700_000_000)]
    return head.text() + "\n" + "".join(lines)


@pytest.mark.parametrize("kind", [ED25519, COSIGN_ED25519, ML_DSA_44])
def test_each_kind_of_signature_verifies_and_breaks(kind: int) -> None:
    one = signer(kind)
    text = note(one)
    head, times = verify_checkpoint(text, [one.key])
    assert head == HEAD
    assert times == {str(one.key): None if kind == ED25519 else 1_700_000_000}
    with pytest.raises(IntegrityError):
        verify_checkpoint(text.replace("\n7\n", "\n8\n"), [one.key])
    with pytest.raises(IntegrityError):
        verify_checkpoint(text, [signer(kind, seed=2).key])


def test_the_first_published_note_of_the_format_verifies() -> None:
    """The example of golang.org/x/mod/sumdb/note, from which signed notes come."""
    key = NoteKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = (
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
        "dngotpRZb6KE6RyyBwJnAM=\n"
    )
    body, (signature,) = parse_note(text + "\n" + line)
    assert body == text
    assert signature.key_id == key.id
    Ed25519PrivateKey.generate()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    Ed25519PublicKey.from_public_bytes(key.public).verify(signature.data, body.encode())


def test_every_key_must_have_signed() -> None:
    one, two = signer(ED25519), signer(ML_DSA_44)
    verify_checkpoint(note(one, two), [one.key, two.key])
    with pytest.raises(IntegrityError, match="not signed"):
        verify_checkpoint(note(one), [one.key, two.key])
    with pytest.raises(IntegrityError):
        verify_checkpoint(note(one), [])


def test_a_foreign_origin_is_refused() -> None:
    one = signer(ED25519)
    with pytest.raises(IntegrityError) as caught:
        verify_checkpoint(note(one), [one.key], origin="example.com/other")
    assert caught.value.code == "checkpoint-origin"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "a\n1\n",
        "example.com/log\n07\nAAAA\n\n— a AAAAAAAA\n",
        HEAD.text() + "\n— a AAAAAAAA",
        HEAD.text() + "\n- a AAAAAAAA\n",
        HEAD.text() + "\n— a b AAAAAAAA\n",
        HEAD.text() + "\n— a ????\n",
        HEAD.text() + "\x07\n— a AAAAAAAA\n",
        "x\n7\n" + "A" * 44 + "\n\n— a AAAAAAAA\n",
        HEAD.text() + "\n" + "— a AAAAAAAA\n" * 65,
        "x" * (1 << 21),
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        verify_checkpoint(text, [signer(ED25519).key])


@pytest.mark.parametrize("text", ["", "a+b", "a b+00000000+AQ==", "a+00000000+", "a+00+AQ=="])
def test_what_is_not_a_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        NoteKey.parse(text)


def test_a_verifier_key_survives_its_text() -> None:
    for kind in (ED25519, COSIGN_ED25519, ML_DSA_44):
        key = signer(kind).key
        assert NoteKey.parse(str(key)) == key
        changed = str(key).replace("+", "+0", 1)[: len(str(key))]
        with pytest.raises(InputError):
            NoteKey.parse(changed)
