"""Write a corpus of planted secrets and decoys, with the truth beside it.

Shares no code and no seed with the rules' own tests. Values are drawn at run time; none is real.
Each planted value sits in the kind of text people leave it in: source, settings, shell, CI logs,
and notebooks (source, output, repr). Decoys are what scanners trip over: digests, commit ids,
UUIDs, job ids, bit strings, amplitudes, placeholders, references, base 64 images, lock files.
"""

# ruff: noqa: E501 - one kind of text a line reads better than a wrapped one

from __future__ import annotations

import base64
import json
import random
import string
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
B32 = string.ascii_uppercase + "234567"
URL = ALNUM + "-_"


@dataclass(frozen=True)
class Planted:
    path: str
    kind: str
    value: str
    place: str


class Maker:
    def __init__(self, seed: str) -> None:
        self.rng = random.Random(f"corpus:{seed}")

    def s(self, alphabet: str, n: int) -> str:
        text = "".join(self.rng.choice(alphabet) for _ in range(n))
        if alphabet == URL and not (text[0].isalnum() and text[-1].isalnum()):
            text = "k" + text[1:-1] + "7"
        return text

    def jwt(self) -> str:
        def part(raw: bytes) -> str:
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

        head = json.dumps({"alg": self.rng.choice(["RS256", "ES256", "HS256"]), "typ": "JWT"})
        body = json.dumps({"sub": self.s(HEX, 12), "iss": "https://id.test", "iat": 1760000000})
        return ".".join([part(head.encode()), part(body.encode()), part(self.rng.randbytes(48))])

    def crc(self, prefix: str) -> str:
        body = self.s(ALNUM, 30)
        n, digits = zlib.crc32(body.encode()), ""
        alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
        while n:
            digits = alphabet[n % 62] + digits
            n //= 62
        return prefix + body + digits.rjust(6, "0")

    def secret(self, kind: str) -> tuple[str, str, str]:
        """Return (variable, value, constructor call with {} for the value)."""
        s = self.s
        return {
            "ibm-legacy": ("QISKIT_IBM_TOKEN", s(HEX, 128), "QiskitRuntimeService(channel='ibm_quantum', token={})"),
            "ibm-new": ("IBM_QUANTUM_API_KEY", s(URL, 44), "QiskitRuntimeService(token={}, instance='ibm-q/open/main')"),
            "aws-id": ("AWS_ACCESS_KEY_ID", "AKIA" + s(B32, 16), "AwsSession(aws_access_key_id={})"),
            "aws-secret": ("AWS_SECRET_ACCESS_KEY", s(ALNUM + "+/", 40), "boto3.Session(aws_secret_access_key={})"),
            "azure-conn": ("AZURE_QUANTUM_CONNECTION_STRING", s(ALNUM, 52), "Workspace.from_connection_string({})"),
            "ionq": ("IONQ_API_KEY", s(ALNUM, 32), "IonQProvider({})"),
            "quantinuum": ("QUANTINUUM_AUTH_TOKEN", s(URL, 64), "QuantinuumAPI(token={})"),
            "dwave": ("DWAVE_API_TOKEN", "DEV-" + s(HEX, 40), "DWaveSampler(token={})"),
            "dwave-project": ("DWAVE_API_TOKEN", s(string.ascii_letters, 4) + "-" + s(HEX, 40), "DWaveSampler(token={})"),
            "iqm": ("IQM_TOKEN", s(ALNUM, 48), "IQMProvider('https://resonance.iqm.test', token={})"),
            "rigetti": ("RIGETTI_QCS_REFRESH_TOKEN", s(URL, 43), "QCSClient(refresh_token={})  # rigetti qcs_"),
            "pasqal": ("PASQAL_API_TOKEN", s(URL, 50), "PasqalCloud(token={})"),
            "quandela": ("QUANDELA_TOKEN", "_T_" + self.jwt(), "RemoteProcessor('qpu:ascella', {})"),
            "xanadu": ("XANADU_CLOUD_REFRESH_TOKEN", self.jwt(), "xcc.Settings(REFRESH_TOKEN={})"),
            "oqc": ("OQC_AUTH_TOKEN", s(ALNUM, 40), "OQCClient(url='https://qcaas.test', authentication_token={})"),
            "quera": ("QUERA_API_KEY", s(ALNUM, 40), "bloqade_cloud(api_key={})"),
            "bluequbit": ("BLUEQUBIT_API_TOKEN", s(ALNUM, 32), "bluequbit.init(api_token={})"),
            "qbraid": ("QBRAID_API_KEY", s(HEX, 48), "QbraidProvider(api_key={})"),
            "github": ("GITHUB_TOKEN", self.crc("ghp_"), "Github({})"),
            "npm": ("NPM_TOKEN", self.crc("npm_"), "npm_login({})"),
            "huggingface": ("HF_TOKEN", "hf_" + s(string.ascii_letters, 34), "login(token={})"),
            "openai": ("OPENAI_API_KEY", "sk-proj-" + s(URL, 74) + "T3BlbkFJ" + s(URL, 74), "OpenAI(api_key={})"),
            "anthropic": ("ANTHROPIC_API_KEY", "sk-ant-api03-" + s(URL, 93) + "AA", "Anthropic(api_key={})"),
            "slack": ("SLACK_TOKEN", f"xoxb-{s(string.digits, 12)}-{s(string.digits, 12)}-{s(ALNUM, 24)}", "WebClient(token={})"),
            "google": ("GOOGLE_API_KEY", "AIza" + s(URL, 35), "build('x', developerKey={})"),
            "gitlab": ("GITLAB_TOKEN", "glpat-" + s(URL, 20), "Gitlab(private_token={})"),
            "wandb": ("WANDB_API_KEY", s(HEX, 40), "wandb.login(key={})"),
            "db-password": ("DB_PASSWORD", s(ALNUM, 12) + "9zQ!", "connect(password={})"),
            "generic-key": ("SERVICE_API_KEY", s(ALNUM, 36), "Client(api_key={})"),
            "generic-secret": ("CLIENT_SECRET", s(URL, 40), "OAuth(client_secret={})"),
        }[kind]  # fmt: skip


KINDS = (
    "ibm-legacy", "ibm-new", "aws-id", "aws-secret", "azure-conn", "ionq", "quantinuum",
    "dwave", "dwave-project", "iqm", "rigetti", "pasqal", "quandela", "xanadu", "oqc",
    "quera", "bluequbit", "qbraid", "github", "npm", "huggingface", "openai", "anthropic",
    "slack", "google", "gitlab", "wandb", "db-password", "generic-key", "generic-secret",
)  # fmt: skip
PLACES = (
    "py",
    "env",
    "yaml",
    "json",
    "sh",
    "log",
    "nb-source",
    "nb-output",
    "nb-repr",
    "nb-source",
)


def whole(kind: str, value: str) -> str:
    """What stands in the text: the value itself, or a longer string that holds it."""
    if kind == "azure-conn":
        return (
            "SubscriptionId=00000000-aaaa-bbbb-cccc-000000000000;ResourceGroupName=rg;"
            f"WorkspaceName=ws;ApiKey={value};QuantumEndpoint=https://eastus.quantum.azure.com/;"
        )
    return value


def notebook(cells: list[dict[str, object]]) -> str:
    data = {
        "cells": cells,
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(data, indent=1)


def code(source: str, outputs: list[dict[str, object]] | None = None) -> dict[str, object]:
    return {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": outputs or [],
            "source": source.splitlines(keepends=True)}  # fmt: skip


def clean_cell(maker: Maker) -> dict[str, object]:
    counts = {maker.s("01", 5): maker.rng.randrange(1000) for _ in range(8)}
    png = base64.b64encode(maker.rng.randbytes(1500)).decode()
    return code(
        "qc = QuantumCircuit(5)\nqc.h(0)\nqc.measure_all()\ncounts = sampler.run([qc]).result()\n"
        "service = QiskitRuntimeService()\nprint(counts)",
        [
            {"output_type": "stream", "name": "stdout", "text": [f"{counts}\n", f"job {uuid.UUID(int=maker.rng.getrandbits(128))}\n"]},
            {"output_type": "display_data", "data": {"image/png": png, "text/plain": ["<Figure size 640x480>"]}, "metadata": {}},
        ],
    )  # fmt: skip


def planted_text(maker: Maker, kind: str, place: str) -> tuple[str, str, str]:
    """Return (file suffix, text, value)."""
    name, value, call = maker.secret(kind)
    text = whole(kind, value)
    call = call.format(json.dumps(text))
    noise = f"# run {maker.s(HEX, 8)}\nimport numpy as np\nshots = {maker.rng.randrange(4096)}\n"
    if place == "py":
        line = maker.rng.choice(
            [f"client = {call}", f'{name} = "{text}"', f'os.environ["{name}"] = "{text}"']
        )
        return ".py", f"{noise}{line}\nresult = run(shots)\n", value
    if place == "env":
        return ".env", f"DEBUG=1\n{name}={text}\nREGION=eu-west-2\n", value
    if place == "yaml":
        return ".yaml", f"job:\n  env:\n    {name}: {text}\n    SHOTS: 1024\n", value
    if place == "json":
        return (
            ".json",
            json.dumps({"service": {name.lower(): text, "shots": 1024}}, indent=2),
            value,
        )
    if place == "sh":
        return ".sh", f"#!/bin/sh\nset -e\nexport {name}='{text}'\npython train.py\n", value
    if place == "log":
        stamp = f"2026-11-0{maker.rng.randrange(1, 9)}T10:00:0{maker.rng.randrange(9)}Z"
        return (
            ".log",
            f"{stamp} \x1b[32mINFO\x1b[0m start\n{stamp} env {name}={text}\n{stamp} done\n",
            value,
        )
    cells = [clean_cell(maker)]
    if place == "nb-source":
        line = maker.rng.choice([f"client = {call}", f'{name} = "{text}"', f"%env {name}={text}"])
        cells.append(code(f"import os\n{line}\nprint('ok')"))
    elif place == "nb-output":
        out = {
            "output_type": "stream",
            "name": "stdout",
            "text": ["connecting\n", f"{name}={text}\n"],
        }
        cells.append(code("!env", [out]))
    else:
        shown = {name: text, "HOME": "/home/jovyan"}
        out = {"output_type": "execute_result", "execution_count": 2, "metadata": {},
               "data": {"text/plain": [repr(shown)]}}  # fmt: skip
        cells.append(code("dict(os.environ)", [out]))
    return ".ipynb", notebook([*cells, clean_cell(maker)]), value


def decoy_text(maker: Maker) -> tuple[str, str]:
    """Return (file suffix, text) that holds no secret."""
    s, rng = maker.s, maker.rng
    uid = uuid.UUID(int=rng.getrandbits(128))
    choices = [
        (".py", f'sha256 = "{s(HEX, 64)}"\ntoken_hash = "{s(HEX, 64)}"\n'),
        (".py", f'commit = "{s(HEX, 40)}"  # token handling fixed\n'),
        (".txt", f"requests==2.32.0 --hash=sha256:{s(HEX, 64)} --hash=sha512:{s(HEX, 128)}\n"),
        (".log", f"ionq job id: {uid} status completed shots=1000\n"),
        (".log", f"ibm job {s(string.ascii_lowercase + string.digits, 20)} queued on ibm_kyiv\n"),
        (".py", 'service = QiskitRuntimeService(token="<your 44 character token>")\n'),
        (".py", 'token = os.environ["QISKIT_IBM_TOKEN"]\nprovider = IonQProvider(token)\n'),
        (".yaml", "env:\n  IONQ_API_KEY: ${{ secrets.IONQ_API_KEY }}\n"),
        (".env", f"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7{'EXAMPLE'}\n"),
        (".env", "AWS_SECRET_ACCESS_KEY=wJalrXUt" + "nFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"),
        (".env", "DWAVE_API_TOKEN=DEV-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"),
        (".md", f"Set `IBM_CLOUD_API_KEY` to your key. Build {s(HEX, 12)}.\n"),
        (".json", json.dumps({"counts": {s("01", 32): rng.randrange(99) for _ in range(4)}})),
        (".json", json.dumps({"amplitudes": [rng.gauss(0, 1) for _ in range(6)], "tokenizer": "gpt2"})),
        (".json", json.dumps({"integrity": f"sha512-{base64.b64encode(rng.randbytes(64)).decode()}"})),
        (".html", f'<img src="data:image/png;base64,{base64.b64encode(rng.randbytes(400)).decode()}">\n'),
        (".py", f'password = getpass("Password: ")\npassword_hash = "{s(HEX, 60)}"\n'),
        (".py", "max_tokens = 4096\npad_token_id = 50256\neos_token = '</s>'\nsecret_sharing = True\n"),
        (".py", f'circuit_key = "{s(HEX, 64)}"  # canonical form\n'),
        (".yaml", f"image: registry.test/app@sha256:{s(HEX, 64)}\n"),
        (".pem", f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(rng.randbytes(90)).decode()}\n-----END PUBLIC KEY-----\n"),
        (".txt", f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{s(ALNUM, 43)} user@host\n"),
        (".py", f'request_id = "{uid}"\ntoken_uuid = "{uid}"\n'),
        (".py", 'db = "postgresql://user:password@localhost:5432/jobs"\n'),
        (".sh", 'curl -H "Authorization: Bearer $TOKEN" https://api.ionq.test/v0.3/jobs\n'),
        (".qasm", f"OPENQASM 3.0;\n// run {s(HEX, 32)}\nqubit[2] q;\nbit[2] c;\nh q[0];\nc = measure q;\n"),
        (".py", f"seed = 0x{s(HEX, 32)}\nkey = jax.random.PRNGKey({rng.randrange(10**9)})\n"),
        (".lock", f'name = "x"\nversion = "1.{rng.randrange(9)}"\nchecksum = "{s(HEX, 64)}"\n'),
        (".ipynb", notebook([clean_cell(maker), code(f"h = hashlib.sha256(b'{s(ALNUM, 20)}').hexdigest()\nh", [
            {"output_type": "execute_result", "execution_count": 3, "metadata": {}, "data": {"text/plain": [f"'{s(HEX, 64)}'"]}}])])),
        (".py", f'api_key_id = "{uid}"\napi_key_name = "laptop key of the second floor"\n'),
    ]  # fmt: skip
    return rng.choice(choices)


def write(folder: Path, seed: str, planted: int = 200, decoys: int = 2000) -> list[Planted]:
    """Write the corpus and return what was planted."""
    maker = Maker(seed)
    truth = []
    for number in range(planted):
        kind = KINDS[number % len(KINDS)]
        place = PLACES[(number // len(KINDS) + number) % len(PLACES)]
        suffix, text, value = planted_text(maker, kind, place)
        path = f"planted/p{number:04d}{suffix}"
        (folder / "planted").mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        truth.append(Planted(path, kind, value, place))
    (folder / "decoys").mkdir(parents=True, exist_ok=True)
    for number in range(decoys):
        suffix, text = decoy_text(maker)
        (folder / f"decoys/d{number:04d}{suffix}").write_text(text)
    return truth
