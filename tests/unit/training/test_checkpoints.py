"""Signed checkpoints of a real torch training: judged, signed, reverted, gone on with."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.crypto.weights.chain import check_chain
from interlock.errors import InputError, IntegrityError
from interlock.training import SignedCheckpoints

torch = pytest.importorskip("torch")


class Training:
    """A small regression that converges, with its chain of checkpoints."""

    def __init__(self, folder: Path, every: int = 4, optimizer: str = "SGD") -> None:
        torch.manual_seed(1)
        self.generator = torch.Generator().manual_seed(2)
        self.truth = torch.randn(6, 1, generator=self.generator)
        self.check = torch.randn(64, 6, generator=self.generator)
        self.model: Any = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 1))
        kind = getattr(torch.optim, optimizer)
        self.optimizer = kind(self.model.parameters(), lr=0.02)
        self.signer = ArtefactSigner(KeyStore(folder / "keys"))
        self.chain = SignedCheckpoints(
            self.model,
            self.optimizer,
            folder / "run",
            self.signer,
            name="demo",
            validate=lambda: float(self.loss(self.check).detach()),
            every=every,
        )

    def loss(self, points: Any) -> Any:
        return torch.nn.functional.mse_loss(self.model(points), points @ self.truth)

    def update(self, noise: float = 0.0) -> Any:
        points = torch.randn(128, 6, generator=self.generator)
        self.optimizer.zero_grad()
        self.loss(points).backward()
        self.optimizer.step()
        if noise:
            with torch.no_grad():
                for weights in self.model.parameters():
                    weights += noise * torch.randn(weights.shape, generator=self.generator)
        return self.chain.step(points)

    def weights(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def folders(self) -> list[Path]:
        return sorted(p for p in self.chain._folder.iterdir() if p.name.isdigit())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_noise_burst_goes_back_to_the_newest_signed_checkpoint(
    tmp_path: Path, optimizer: str
) -> None:
    training = Training(tmp_path, optimizer=optimizer)
    kept = {}
    for _ in range(40):
        step = training.update()
        assert step.verdict.accept
        if step.signed:
            kept[step.signed.version] = training.weights()
    newest = training.chain.newest
    assert newest.version == 10
    before = float(training.loss(training.check).detach())
    step = training.update(noise=1.0)
    assert not step.verdict.accept
    assert step.reverted_to == newest
    assert same(training.weights(), kept[newest.version])
    assert float(training.loss(training.check).detach()) == pytest.approx(before, rel=0.5)
    assert training.update().verdict.accept  # and goes on
    report = check_chain(training.folders(), training.signer.public)
    assert report.ok
    assert len(report.checkpoints) == 11


def test_a_checkpoint_names_its_data_and_what_was_stopped(tmp_path: Path) -> None:
    training = Training(tmp_path, every=1)
    for _ in range(15):
        training.update()
    training.update(noise=1.0)
    step = training.update()
    assert step.signed is not None
    facts = step.signed.facts
    assert (facts["updates"], facts["reverted"]) == (17, 1)
    assert len(facts["data_sha256"]) == 64
    assert facts["statistics"]["finite"] is True
    hashes = [s.facts["data_sha256"] for s in check_all(training)]
    assert len(set(hashes)) == len(hashes)


def check_all(training: Training) -> Any:
    return check_chain(training.folders(), training.signer.public).checkpoints


def test_nothing_that_is_no_number_stays(tmp_path: Path) -> None:
    training = Training(tmp_path)
    with torch.no_grad():
        training.model[0].weight[0, 0] = float("nan")
    step = training.chain.step()
    assert (step.verdict.accept, step.verdict.reason) == (False, "not-finite")
    assert all(bool(torch.isfinite(w).all()) for w in training.weights().values())


def test_a_training_goes_on_where_its_chain_ends(tmp_path: Path) -> None:
    first = Training(tmp_path, optimizer="Adam")
    for _ in range(8):
        first.update()
    (tmp_path / "run" / ".00000003.part").mkdir(mode=0o700)  # a crash while the next was written
    again = Training(tmp_path, optimizer="Adam")
    assert again.chain.newest == first.chain.newest
    assert same(again.weights(), first.weights())
    old, new = first.optimizer.state_dict(), again.optimizer.state_dict()
    assert old["param_groups"] == new["param_groups"]
    for index, values in old["state"].items():
        assert same(values, new["state"][index])
    for _ in range(4):
        again.update()
    assert [p.name for p in again.folders()] == [f"{n:08d}" for n in range(4)]
    assert check_chain(again.folders(), again.signer.public).ok


def flip(folders: list[Path]) -> None:
    path = folders[-1] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def drop(folders: list[Path]) -> None:
    shutil.rmtree(folders[1])


def swap(folders: list[Path]) -> None:
    shutil.rmtree(folders[-1])
    shutil.copytree(folders[-2], folders[-1])


@pytest.mark.parametrize("attack", [flip, drop, swap])
def test_a_changed_chain_is_not_gone_on_with(tmp_path: Path, attack: Any) -> None:
    training = Training(tmp_path)
    for _ in range(12):
        training.update()
    attack(training.folders())
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.safetensors")}
    with pytest.raises(IntegrityError) as caught:
        Training(tmp_path)
    assert caught.value.code == "checkpoint-chain"
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.safetensors")} == before


@pytest.mark.parametrize("attack", [flip, swap])
def test_a_changed_checkpoint_is_not_gone_back_to(tmp_path: Path, attack: Any) -> None:
    training = Training(tmp_path)
    for _ in range(12):
        training.update()
    attack(training.folders())
    with torch.no_grad():
        training.model[0].weight.fill_(float("nan"))
    with pytest.raises(IntegrityError):
        training.chain.step()


def test_a_distance_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Training(tmp_path, every=0)
    assert caught.value.code == "checkpoint-every"
