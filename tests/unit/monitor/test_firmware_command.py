"""`interlock firmware`: what is released boots, everything else quarantines the device."""

import base64
import datetime as dt
import json
import shutil

import pytest

from interlock.cli import main
from interlock.monitor.firmware.tpm import software_tpm

pytest.importorskip("tuf")

NEEDS_TPM = pytest.mark.skipif(
    not (shutil.which("swtpm") and shutil.which("tpm2_quote")), reason="swtpm is not installed"
)


class Bench:
    """An owner with keys and one release, and the arguments of the commands."""

    def __init__(self, folder):
        self.folder, self.keys, self.repo = folder, folder / "keys", folder / "repo"
        self.device, self.image = folder / "qpu-0", folder / "fw.bin"
        self.image.write_bytes(b"one" * 100)
        assert main(["firmware", "keys", str(self.keys)]) == 0
        assert self.publish() == 0
        self.root = folder / "root.json"
        shutil.copy(self.repo / "metadata" / "1.root.json", self.root)

    def publish(self, keys=None):
        return main(
            ["firmware", "publish", str(self.repo), str(self.image), "--keys",
             str(keys or self.keys)]
        )  # fmt: skip

    def boot(self, source=None, image=None, name="fw.bin"):
        return main(
            ["firmware", "boot", str(self.device), str(image or self.image), "--root",
             str(self.root), "--source", str(source or self.repo), "--name", name]
        )  # fmt: skip

    def status(self):
        return main(["firmware", "status", str(self.device)])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_what_is_released_boots_and_nothing_else(bench, tmp_path, capsys):
    assert bench.boot() == 0
    assert bench.status() == 0
    old, changed = tmp_path / "old.bin", tmp_path / "changed.bin"
    shutil.copy(bench.image, old)
    changed.write_bytes(b"One" + b"one" * 99)
    assert bench.boot(image=changed) == 7
    assert bench.status() == 9
    assert "differ from the current release" in capsys.readouterr().out
    assert bench.boot() == 10  # quarantined: not even the released image
    assert main(["firmware", "lift", str(bench.device)]) == 0
    assert bench.boot() == 0
    shutil.copytree(bench.repo, tmp_path / "before")
    bench.image.write_bytes(b"two" * 100)
    assert bench.publish() == 0
    assert bench.boot() == 0
    assert bench.boot(source=tmp_path / "before", image=old) == 7  # replayed metadata
    assert main(["firmware", "lift", str(bench.device)]) == 0
    assert bench.boot(name="other") == 7


def test_a_repository_by_other_keys_is_believed_by_nobody(bench, tmp_path, capsys):
    thief = tmp_path / "thief"
    assert main(["firmware", "keys", str(thief)]) == 0
    assert bench.publish(thief) == 4
    assert "does not know these keys" in capsys.readouterr().err
    assert bench.boot() == 0  # and nothing of the repository changed
    forged = tmp_path / "forged"
    arguments = ["firmware", "publish", str(forged), str(bench.image), "--keys", str(thief)]
    assert main(arguments) == 0
    assert bench.boot(source=forged) == 7
    assert bench.status() == 9


def test_the_root_key_may_be_away_and_a_missing_key_is_named(bench, capsys):
    (bench.keys / "root.json").rename(bench.folder / "safe.json")
    assert bench.publish() == 0
    assert main(["firmware", "refresh", str(bench.repo), "--keys", str(bench.keys)]) == 0
    assert bench.boot() == 0
    (bench.keys / "targets.json").unlink()
    assert bench.publish() == 4
    assert "targets.json" in capsys.readouterr().err
    assert main(["firmware", "refresh", str(bench.repo), "--keys", str(bench.keys)]) == 0
    assert main(["firmware", "keys", str(bench.keys)]) == 2  # never written over


def test_what_cannot_be_read_is_named_and_boots_nothing(bench, tmp_path, capsys):
    assert bench.boot(image=tmp_path / "none.bin") == 4
    assert "none.bin" in capsys.readouterr().err
    assert bench.boot(name="../fw.bin") == 2
    assert bench.boot(source=tmp_path / "mistyped") == 2
    assert main(["firmware", "status", str(tmp_path / "mistyped")]) == 2
    assert main(["firmware", "refresh", str(tmp_path / "no"), "--keys", str(bench.keys)]) == 2
    assert bench.boot() == 0
    (bench.device / "state.json").write_text("{}")
    assert bench.boot() == 7
    assert bench.status() == 7
    for path in bench.repo.glob("metadata/*.snapshot.json"):
        path.write_text("{}")
    assert bench.publish() == 7
    bench.root.write_text("{}")
    shutil.rmtree(bench.device)
    assert bench.boot() == 7


def test_an_owner_stops_a_device_with_a_reason(bench, capsys):
    device = str(bench.device)
    # A device of that name that never was: a mistyped one must not look stopped.
    assert main(["firmware", "quarantine", device, "covert channel"]) == 2
    assert not bench.device.exists()
    assert bench.boot() == 0
    assert main(["firmware", "quarantine", device, " "]) == 2
    assert main(["firmware", "quarantine", device, "covert channel"]) == 0
    capsys.readouterr()
    assert bench.status() == 9
    assert capsys.readouterr().out == "quarantined: covert channel\n"
    assert bench.boot() == 10
    assert main(["firmware", "lift", device]) == 0
    assert main(["firmware", "lift", device]) == 2


def signed_days_ago(bench, days):
    from interlock.cli.detector import private_key
    from interlock.monitor.firmware.image import Image
    from interlock.monitor.firmware.repository import ROLES, FirmwareRepository

    keys = {role: private_key(bench.keys / f"{role}.json") for role in ROLES}
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    shutil.rmtree(bench.repo)
    image = Image(name="fw.bin", data=bench.image.read_bytes())
    FirmwareRepository(bench.repo, keys, now=past).publish(image)
    shutil.copy(bench.repo / "metadata" / "1.root.json", bench.root)


@pytest.mark.parametrize(
    ("days", "away", "boots", "said"),
    [
        (6, (), 0, ""),
        (8, (), 0, ""),
        (8, ("targets", "root"), 0, ""),  # as the how-to has it: those are not online
        (8, ("snapshot",), 7, "the snapshot statement runs out already"),
        (80, ("targets", "root"), 0, "the targets statement runs out in 10.0 days"),
        (91, (), 0, ""),
        (360, (), 0, ""),
        (400, (), 0, ""),
    ],
)
def test_a_daily_refresh_signs_what_runs_out_or_says_so(bench, capsys, days, away, boots, said):
    signed_days_ago(bench, days)
    for role in away:
        (bench.keys / f"{role}.json").unlink()
    capsys.readouterr()
    assert main(["firmware", "refresh", str(bench.repo), "--keys", str(bench.keys)]) == 0
    told = capsys.readouterr().err
    assert said in told
    assert bool(told) == bool(said)
    assert bench.boot() == boots


def test_a_half_made_repository_and_strange_files_are_no_traceback(bench, capsys):
    metadata = bench.repo / "metadata"
    for name in ("old.root.json", "old.targets.json", ".targets.json"):
        shutil.copy(metadata / "1.root.json", metadata / name)
    assert bench.publish() == 0
    (metadata / "1.root.json").unlink()  # it is written last: without it, nothing is made yet
    assert bench.publish() == 0
    shutil.copy(metadata / "1.root.json", bench.root)
    assert bench.boot() == 0
    for path in metadata.glob("*.targets.json"):
        path.unlink()
    capsys.readouterr()
    assert bench.publish() == 7
    assert "targets.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "state",
    [
        '{"floor": 0, "quarantine": 0}',
        '{"floor": 0, "quarantine": []}',
        '{"floor": -1, "quarantine": null}',
        '{"floor": 1e999, "quarantine": null}',
        '{"floor": null, "quarantine": null}',
        '{"floor": 0}',
        "[]",
        "",
    ],
)
def test_a_damaged_state_boots_nothing(bench, state):
    assert bench.boot() == 0
    (bench.device / "state.json").write_text(state)
    assert bench.boot() == 7
    assert bench.status() == 7


def test_a_quarantine_without_a_word_holds_too(bench):
    assert bench.boot() == 0
    (bench.device / "state.json").write_text('{"floor": 0, "quarantine": ""}')
    assert bench.boot() == 10
    assert bench.status() == 9


def test_a_key_of_an_unknown_kind_quarantines(bench, tmp_path):
    assert bench.boot() == 0
    # SubjectPublicKeyInfo of the algorithm 1.2.3.4, which nobody has
    body = bytes.fromhex("300506032a030403020001")
    pem = base64.b64encode(bytes([0x30, len(body)]) + body).decode()
    key = tmp_path / "key.pem"
    key.write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n")
    blank = tmp_path / "blank"
    blank.write_bytes(b"x")
    assert (
        main(
            ["firmware", "attest", str(bench.device), str(bench.image), "--quote", str(blank),
             "--signature", str(blank), "--key", str(key), "--nonce", "00" * 8]
        )
        == 7
    )  # fmt: skip
    assert bench.status() == 9


@NEEDS_TPM
def test_a_measured_boot_of_something_else_quarantines(bench, tmp_path):
    loader, nonce = tmp_path / "loader.bin", bytes(range(16))
    loader.write_bytes(b"loader")
    with software_tpm(tmp_path / "tpm") as tpm:
        from interlock.monitor.firmware import EventLog

        (tmp_path / "ak.pem").write_bytes(tpm.attestation_key())
        log = EventLog()
        for path in (loader, bench.image):
            log.measure(path.name, path.read_bytes())
        tpm.measure(log, pcr=10)
        quote = tpm.quote(nonce, pcr=10)
    (tmp_path / "q.msg").write_bytes(quote.attest)
    (tmp_path / "q.sig").write_bytes(quote.signature)

    def attest(*measured, asked):
        return main(
            ["firmware", "attest", str(bench.device), *map(str, measured),
             "--quote", str(tmp_path / "q.msg"), "--signature", str(tmp_path / "q.sig"),
             "--key", str(tmp_path / "ak.pem"), "--nonce", asked]
        )  # fmt: skip

    assert attest(loader, bench.image, asked=nonce.hex()) == 2  # no such device yet
    assert bench.boot() == 0
    assert attest(loader, bench.image, asked=nonce.hex()) == 0
    assert main(["firmware", "quarantine", str(bench.device), "covert channel"]) == 0
    assert attest(loader, bench.image, asked=nonce.hex()) == 9  # good, and still quarantined
    assert main(["firmware", "lift", str(bench.device)]) == 0
    assert attest(loader, bench.image, asked="00") == 2
    assert bench.status() == 0
    assert attest(loader, bench.image, asked="00" * 16) == 7
    assert bench.status() == 9
    assert main(["firmware", "lift", str(bench.device)]) == 0
    assert attest(bench.image, loader, asked=nonce.hex()) == 7
    reason = json.loads((bench.device / "state.json").read_text())["quarantine"]
    assert reason == "measured boot: a register the log does not lead to"
