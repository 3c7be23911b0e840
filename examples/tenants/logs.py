"""Job logs of the case: lines people write, with planted secrets and with decoys among them.

Nothing here is shared with the scanner's rules or their tests; values are drawn at run time and
none is real.
"""

from __future__ import annotations

import base64
import random
import string
import uuid
from dataclasses import dataclass

HEX = "0123456789abcdef"
ALNUM = string.ascii_letters + string.digits
URL = ALNUM + "-_"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's log.

    Attributes:
        text: as the job wrote it.
        secret: what was planted in it, or empty.
        decoy: what looks like a secret and is none, or empty.
    """

    text: str
    secret: str = ""
    decoy: str = ""


class Maker:
    """Draws lines."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def draw(self, alphabet: str, count: int) -> str:
        """Return random characters; the ends are letters or digits, as every issuer's are."""
        text = [self.rng.choice(alphabet) for _ in range(count)]
        text[0], text[-1] = self.rng.choice(ALNUM[:26]), self.rng.choice(ALNUM[:26])
        return "".join(text) if alphabet != HEX else "".join(self.rng.choice(HEX) for _ in text)

    def planted(self, key: str) -> Line:
        """Return a line with a secret in it; `key` is a live API key of this gateway."""
        kind, pick = self.draw, self.rng.choice
        value, forms = pick(
            (
                (key, ("retrying with {}", "401 for key {}", "client = connect(URL, '{}')")),
                (
                    kind(HEX, 128),
                    ("QiskitRuntimeService(channel='ibm_quantum', token='{}')",
                     "export QISKIT_IBM_TOKEN={}"),
                ),
                (kind(URL, 44), ("IBM_CLOUD_API_KEY={}", "QiskitRuntimeService(token=\"{}\")")),
                (f"DEV-{kind(HEX, 40)}", ("DWaveSampler(token='{}')", "leap client said no to {}")),
                (
                    "AKIA" + "".join(pick(string.ascii_uppercase + "234567") for _ in range(16)),
                    ("AWS_ACCESS_KEY_ID={}", "braket session as {}"),
                ),
                (
                    f"github_pat_{kind(ALNUM, 22)}_{kind(ALNUM, 59)}",
                    ("git clone https://x:{}@git.test/qc/lab", "GH_TOKEN={}"),
                ),
                (
                    kind(ALNUM, 24),
                    ("postgresql://svc:{}@db.north.test/jobs", "password: {}",
                     "env dump: DB_PASSWORD={}"),
                ),
                (
                    f"hf_{kind(ALNUM, 34)}",
                    ("HF_TOKEN={}", "push_to_hub(token='{}')"),
                ),
            )
        )  # fmt: skip
        stamp = f"step {self.rng.randrange(900)} "
        return Line(stamp + pick(forms).format(value), secret=value)

    def decoy(self) -> Line:
        """Return a line with something long and random that opens nothing."""
        pick = self.rng.choice
        value, forms = pick(
            (
                (self.draw(HEX, 64), ("circuit sha256 {}", "policy {} in force")),
                (self.draw(HEX, 40), ("checked out commit {}", "model@{} loaded")),
                (str(uuid.UUID(int=self.rng.getrandbits(128))), ("run id {}", "trace {}")),
                (self.draw("01", 127), ("most frequent outcome {}", "bitstring {}")),
                (
                    base64.b64encode(self.rng.randbytes(60)).decode(),
                    ("plot data:image/png;base64,{}", "checkpoint digest sha512-{}"),
                ),
                (f"{self.rng.getrandbits(40)}-{self.draw(HEX[:10] + 'klmnop', 10)}",
                 ("receipt {}", "see interlock explain {}")),
                ("<your-token-here>", ("usage: submit --token={}", "set QISKIT_IBM_TOKEN={}")),
                ("os.environ['QISKIT_IBM_TOKEN']", ("token={}", "password={}")),
                (f"{self.rng.random():.16f}", ("fidelity {}", "theta = {}")),
                (self.draw(HEX, 28), ("job {} queued", "https://qc.test/jobs/{}")),
            )
        )  # fmt: skip
        return Line(pick(forms).format(value), decoy=value)

    def plain(self) -> Line:
        """Return an ordinary line."""
        loss = self.rng.random()
        return Line(f"epoch {self.rng.randrange(99)} loss {loss:.4f} shots 1024")
