import base64
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from interlock.cli import main
from interlock.crypto.dsse import ArtefactSigner, parse_keys
from interlock.crypto.keys import KeyStore
from interlock.crypto.weights import SIGNATURE_FILE, check_chain, sign_folder, verify_folder
from interlock.crypto.weights.formats import check_bytes
from interlock.crypto.weights.loaders import WeightLoader
from interlock.errors import InputError, IntegrityError, InterlockError


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_model() -> bytes:
    """y = x + x, written without the onnx package."""

    def value(name: str) -> bytes:
        dims = field(1, varint(1 << 3) + varint(2))
        tensor = varint(1 << 3) + b"\x01" + field(2, dims)
        return field(1, name.encode()) + field(2, field(1, tensor))

    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"Add")
    graph = field(1, node) + field(2, b"g") + field(11, value("x")) + field(12, value("y"))
    opset = field(8, field(1, b"") + varint(2 << 3) + varint(13))
    return varint(1 << 3) + varint(8) + field(7, graph) + opset


@pytest.fixture
def signer(tmp_path: Path) -> ArtefactSigner:
    return ArtefactSigner(KeyStore(tmp_path / "keys"))


@pytest.fixture
def model(tmp_path: Path, signer: ArtefactSigner) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3, np.float32)}
    (folder / "model.safetensors").write_bytes(save(tensors))
    (folder / "part").mkdir()
    (folder / "part" / "two.safetensors").write_bytes(save({"c": np.ones(2, np.float64)}))
    (folder / "net.onnx").write_bytes(onnx_model())
    (folder / "config.json").write_text('{"layers": 1}')
    sign_folder(folder, signer, name="demo", version=3)
    return folder


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


ATTACKS: dict[str, Callable[[Path], object]] = {
    "bit flip in a tensor": lambda f: rewrite(
        f / "model.safetensors", lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]
    ),
    "bit flip in the last byte": lambda f: rewrite(
        f / "net.onnx", lambda d: d[:-1] + bytes([d[-1] ^ 1])
    ),
    "changed sidecar": lambda f: (f / "config.json").write_text('{"layers": 2}'),
    "truncated file": lambda f: rewrite(f / "model.safetensors", lambda d: d[:-8]),
    "emptied file": lambda f: (f / "config.json").write_text(""),
    "missing file": lambda f: (f / "part" / "two.safetensors").unlink(),
    "missing signature": lambda f: (f / SIGNATURE_FILE).unlink(),
    "extra weights": lambda f: shutil.copy(f / "net.onnx", f / "more.onnx"),
    "extra sidecar": lambda f: (f / "notes.txt").write_text("x"),
    "extra pickle": lambda f: (f / "model.pkl").write_bytes(pickle.dumps(1)),
    "extra hidden code": lambda f: (f / ".hook.py").write_text("print(1)"),
    "file made a link": lambda f: [
        shutil.move(f / "config.json", f.parent / "c"),
        (f / "config.json").symlink_to(f.parent / "c"),
    ],
    "folder made a link": lambda f: [
        shutil.move(f / "part", f.parent / "part"),
        (f / "part").symlink_to(f.parent / "part"),
    ],
    "file made a pipe": lambda f: [(f / "config.json").unlink(), os.mkfifo(f / "config.json")],
    "files swapped": lambda f: [
        shutil.move(f / "model.safetensors", f / "x"),
        shutil.move(f / "part" / "two.safetensors", f / "model.safetensors"),
        shutil.move(f / "x", f / "part" / "two.safetensors"),
    ],
    "one signature dropped": lambda f: rewrite(
        f / SIGNATURE_FILE,
        lambda d: json.dumps(
            json.loads(d) | {"signatures": json.loads(d)["signatures"][:1]}
        ).encode(),
    ),
    "other signature dropped": lambda f: rewrite(
        f / SIGNATURE_FILE,
        lambda d: json.dumps(
            json.loads(d) | {"signatures": json.loads(d)["signatures"][1:]}
        ).encode(),
    ),
    "payload type changed": lambda f: rewrite(
        f / SIGNATURE_FILE, lambda d: d.replace(b"vnd.in-toto", b"vnd.out-oto")
    ),
    "signature file endless": lambda f: os.truncate(f / SIGNATURE_FILE, 1 << 42),
    "signature file not JSON": lambda f: (f / SIGNATURE_FILE).write_text("{"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_change_is_refused_and_nothing_is_loaded(
    model: Path, tmp_path: Path, signer: ArtefactSigner, attack: str
) -> None:
    verify_folder(model, signer.public)
    ATTACKS[attack](model)
    with pytest.raises((InputError, IntegrityError)):
        verify_folder(model, signer.public)
    loader = WeightLoader(signer.public, name="demo", state=tmp_path / "state")
    for load in (loader.safetensors, loader.onnx):
        with pytest.raises((InputError, IntegrityError)):
            load(model)


def test_other_keys_names_and_versions_are_refused(
    model: Path, tmp_path: Path, signer: ArtefactSigner
) -> None:
    other = ArtefactSigner(KeyStore(tmp_path / "other"))
    mixed = signer.public | {"ml-dsa-65": other.public["ml-dsa-65"]}
    for keys in (other.public, mixed, {"ed25519": signer.public["ed25519"]}, {}):
        with pytest.raises((InputError, IntegrityError)):
            verify_folder(model, keys)
    with pytest.raises(IntegrityError):
        verify_folder(model, signer.public, name="another")
    with pytest.raises(IntegrityError) as caught:
        verify_folder(model, signer.public, min_version=4)
    assert caught.value.code == "weights-rollback"
    assert verify_folder(model, parse_keys(signer.public_text()), name="demo").version == 3


def test_loaders_give_the_tensors_and_remember_the_version(
    model: Path, tmp_path: Path, signer: ArtefactSigner
) -> None:
    def loader() -> WeightLoader:
        return WeightLoader(signer.public, name="demo", state=tmp_path / "state")

    tensors = loader().safetensors(model)
    assert sorted(tensors) == ["b", "c", "w"]
    assert tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    session = loader().onnx(model)
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [2, 4]
    old = tmp_path / "old"
    shutil.copytree(model, old)
    sign_folder(model, signer, name="demo", version=4)
    loader().safetensors(model)
    with pytest.raises(IntegrityError) as caught:
        loader().safetensors(old)
    assert caught.value.code == "weights-rollback"


def test_other_weights_under_a_version_in_use_are_refused(
    model: Path, tmp_path: Path, signer: ArtefactSigner
) -> None:
    loader = WeightLoader(signer.public, name="demo", state=tmp_path / "state")
    loader.safetensors(model)
    loader.safetensors(model)
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "model.safetensors").write_bytes(save({"w": np.ones(6, np.float32)}))
    sign_folder(other, signer, name="demo", version=3)
    for load in (loader.safetensors, loader.onnx):
        with pytest.raises(IntegrityError) as caught:
            load(other)
        assert caught.value.code == "weights-swapped"
    sign_folder(other, signer, name="demo", version=4)
    assert loader.safetensors(other)["w"].shape == (6,)


@pytest.mark.parametrize("text", ["{", "[]", '{"demo": "x"}', '{"demo": [3]}', '{"demo": true}'])
def test_a_damaged_record_of_versions_loads_nothing(
    model: Path, tmp_path: Path, signer: ArtefactSigner, text: str
) -> None:
    state = tmp_path / "state"
    loader = WeightLoader(signer.public, name="demo", state=state)
    (state / "versions.json").touch(mode=0o600)
    (state / "versions.json").write_text(text)
    with pytest.raises(IntegrityError) as caught:
        loader.safetensors(model)
    assert caught.value.code == "weights-state"
    (state / "versions.json").write_text('{"demo": 3}')  # as earlier versions wrote it
    loader.safetensors(model)
    assert "[3, " in (state / "versions.json").read_text()


def test_signed_weights_that_no_library_reads_are_refused_by_name(
    model: Path, tmp_path: Path, signer: ArtefactSigner
) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1},"__metadata__":5}'
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    (model / "part" / "two.safetensors").write_bytes(data)
    (model / "net.onnx").write_bytes(b"\x08\x08\x3a\x02\x0a\x00\x42\x02\x10\x0d")
    sign_folder(model, signer, name="demo", version=3)
    loader = WeightLoader(signer.public, name="demo", state=tmp_path / "state")
    for load in (loader.safetensors, loader.onnx):
        with pytest.raises(InputError) as caught:
            load(model)
        assert caught.value.code == "weights-format"
    assert not (tmp_path / "state" / "versions.json").exists()


def test_sign_overwrites_nothing_and_wants_whole_facts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (model / SIGNATURE_FILE).read_bytes()
    home = tmp_path / "home"
    sign = ["weights", "sign", str(model), "--name", "m", "--version", "1", "--home", str(home)]
    assert main(sign) == 2
    assert "weights-signed" in capsys.readouterr().err
    for facts in (["loss"], ["=1"], ["a=1", "a=2"]):
        options = [word for fact in facts for word in ("--fact", fact)]
        assert main([*sign, "--replace", *options]) == 2
        assert "weights-fact" in capsys.readouterr().err
    assert (model / SIGNATURE_FILE).read_bytes() == before
    assert not home.exists()
    assert main([*sign, "--replace", "--fact", "loss=a=b"]) == 0
    assert (model / SIGNATURE_FILE).read_bytes() != before
    assert main(["bom", "model", str(model), "--home", str(home), "--quantum", "qubits"]) == 2


@pytest.mark.slow
def test_the_torch_loader(model: Path, tmp_path: Path, signer: ArtefactSigner) -> None:
    tensors = WeightLoader(signer.public, name="demo", state=tmp_path / "s").torch(model)
    assert tensors["w"].sum().item() == 15


class Exploit:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (_fired, ("x",))


def _fired(_word: str) -> None:
    raise AssertionError("code of a pickle ran")


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps(Exploit()))
    return out.getvalue()


@pytest.mark.parametrize(
    "name",
    ["m.pt", "m.pth", "m.bin", "m.ckpt", "m.pkl", "m.npy", "m.h5", "m.keras", "m.joblib", "m.gguf",
     "m", "m.safetensors.pkl", "m.SAFETENSORS.py", "m.so"],
)  # fmt: skip
def test_other_formats_are_refused_by_name(
    tmp_path: Path, signer: ArtefactSigner, name: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(InputError) as caught:
        sign_folder(tmp_path / "m", signer, name="m", version=0)
    assert caught.value.code == "weights-format"


@pytest.mark.parametrize("name", ["m.safetensors", "m.onnx", "m.json"])
@pytest.mark.parametrize("data", [pickle.dumps(Exploit()), archive(), b"", b"\0" * 64, b"\xff" * 9])
def test_other_formats_are_refused_by_their_bytes(name: str, data: bytes) -> None:
    if name == "m.json" and data in (b"", b"\0" * 64):
        check_bytes(name, data)
        return
    with pytest.raises(InputError):
        check_bytes(name, data)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"w": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {
            "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "v": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        },
        {"w": {"dtype": "F32", "shape": [1]}},
        {"w": 5},
        [],
    ],
)
def test_safetensors_that_lie_about_their_layout_are_refused(header: object) -> None:
    raw = json.dumps(header).encode()
    with pytest.raises(InputError):
        check_bytes("m.safetensors", len(raw).to_bytes(8, "little") + raw + bytes(8))


def test_onnx_with_weights_elsewhere_is_refused() -> None:
    check_bytes("m.onnx", onnx_model())
    graph = onnx_model() + field(14, b"\x0a\x08location\x12\x0b/etc/passwd")
    with pytest.raises(InputError):
        check_bytes("m.onnx", graph)


def test_model_signing_reads_our_statement(model: Path) -> None:
    from model_signing._signing.signing import dsse_payload_to_manifest

    envelope = json.loads((model / SIGNATURE_FILE).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    manifest = dsse_payload_to_manifest(statement)
    names = {item.identifier for item in manifest.resource_descriptors()}
    assert names == {"config.json", "model.safetensors", "net.onnx", "part/two.safetensors"}


def test_securesystemslib_verifies_our_envelope(model: Path, signer: ArtefactSigner) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    envelope = Envelope.from_dict(json.loads((model / SIGNATURE_FILE).read_text()))
    public = signer.public["ed25519"]
    keyid = hashlib.sha256(public).hexdigest()
    key = SSlibKey(keyid, "ed25519", "ed25519", {"public": public.hex()})
    assert list(envelope.verify([key], 1)) == [keyid]


@pytest.fixture
def chain(tmp_path: Path, signer: ArtefactSigner) -> list[Path]:
    folders, parent = [], None
    for version in range(5):
        folder = tmp_path / f"step{version}"
        folder.mkdir()
        weights = save({"w": np.full(3, version, np.float32)})
        (folder / "model.safetensors").write_bytes(weights)
        facts = {"data_sha256": f"{version:064x}", "update": {"log_norm": -1.25}}
        signed = sign_folder(
            folder, signer, name="demo", version=version, parent=parent, facts=facts
        )
        parent = signed.id
        folders.append(folder)
    return folders


def test_a_chain_is_one_history(chain: list[Path], signer: ArtefactSigner) -> None:
    report = check_chain(chain, signer.public)
    assert report.ok
    assert report.last_good == chain[-1]
    assert report.checkpoints[2].facts["update"] == {"log_norm": -1.25}


def test_rollback_fork_swap_and_gap_are_named(
    chain: list[Path], tmp_path: Path, signer: ArtefactSigner
) -> None:
    def kinds(folders: list[Path]) -> list[str]:
        return [fault.kind for fault in check_chain(folders, signer.public).faults]

    assert kinds([*chain[:3], chain[1]]) == ["fork"]
    assert kinds(chain[1:]) == ["gap"]
    assert kinds([chain[0], chain[2], chain[3]])[0] == "swapped"
    fork = tmp_path / "fork"
    shutil.copytree(chain[3], fork)
    parent = verify_folder(chain[2], signer.public).id
    sign_folder(fork, signer, name="demo", version=3, parent=parent, facts={"x": 1})
    assert kinds([*chain[:4], fork])[0] == "fork"
    low = tmp_path / "low"
    shutil.copytree(chain[3], low)
    last = verify_folder(chain[4], signer.public).id
    sign_folder(low, signer, name="demo", version=2, parent=last)
    assert kinds([*chain, low]) == ["rollback"]
    rewrite(chain[3] / "model.safetensors", lambda d: d[:-1] + b"x")
    report = check_chain(chain, signer.public)
    assert report.faults[0].kind == "unsigned-or-changed"
    assert report.last_good == chain[2]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "home")
    folders = []
    for version in range(2):
        folder = tmp_path / f"m{version}"
        folder.mkdir()
        (folder / "m.safetensors").write_bytes(save({"w": np.full(2, version, np.float32)}))
        options = ["--name", "m", "--version", str(version), "--home", home]
        if version:
            options += ["--parent", str(folders[0])]
        assert main(["weights", "sign", str(folder), *options]) == 0
        folders.append(folder)
    first, second = map(str, folders)
    assert main(["weights", "verify", second, "--home", home, "--min-version", "1"]) == 0
    assert main(["weights", "verify", first, "--home", home, "--min-version", "1"]) == 7
    assert main(["weights", "chain", first, second, "--home", home]) == 0
    assert main(["weights", "chain", second, first, "--home", home]) == 7
    assert main(["weights", "verify", str(tmp_path), "--home", home]) == 4
    with pytest.raises(InterlockError):
        parse_keys("ed25519:AAAA\ned25519:AAAA")
    capsys.readouterr()
