"""CPU of one TLS 1.3 handshake, both sides together, by key agreement and kind of certificate.

    python benchmarks/gateway_tls.py --rounds 200

In memory, without sockets: what is timed is cryptography and OpenSSL's own work.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from interlock.crypto.certs import Authority
from interlock.crypto.tls import Files

SUITES = {
    "X25519, ECDSA P-256": (b"X25519", "ecdsa-p256", False),
    "X25519MLKEM768, ECDSA P-256": (b"X25519MLKEM768", "ecdsa-p256", False),
    "X25519MLKEM768, ML-DSA-65": (b"X25519MLKEM768", "ml-dsa-65", False),
    "X25519MLKEM768, ML-DSA-65 mutual": (b"X25519MLKEM768", "ml-dsa-65", True),
    "SecP384r1MLKEM1024, ML-DSA-65": (b"SecP384r1MLKEM1024", "ml-dsa-65", False),
}


def context(method: int, group: bytes, ca: Path, files: Files | None, peer: bool) -> SSL.Context:
    made = SSL.Context(method)
    made.set_min_proto_version(SSL.TLS1_3_VERSION)
    assert SSL._lib.SSL_CTX_set1_curves_list(made._context, group) == 1  # pyOpenSSL has no name
    made.load_verify_locations(str(ca))
    if files is not None:
        made.use_certificate_chain_file(str(files.chain))
        made.use_privatekey_file(str(files.key))
    made.set_verify(SSL.VERIFY_PEER if peer else SSL.VERIFY_NONE, lambda *a: bool(a[-1]))
    return made


def handshake(client: SSL.Context, server: SSL.Context) -> str:
    ends = [SSL.Connection(client, None), SSL.Connection(server, None)]
    ends[0].set_connect_state()
    ends[1].set_accept_state()
    done = [False, False]
    while not all(done):
        for i, end in enumerate(ends):
            if not done[i]:
                try:
                    end.do_handshake()
                    done[i] = True
                except SSL.WantReadError:
                    pass
            try:
                while True:
                    ends[1 - i].bio_write(end.bio_read(65536))
            except SSL.WantReadError:
                pass
    return str(ends[0].get_group_name())


def measure(rounds: int) -> dict[str, Any]:
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder) / "certs")
        for name, (group, kind, mutual) in SUITES.items():
            ca = authority.ca_file(kind)
            pair = authority.issue("gw", kind=kind, hosts=["localhost"], workload="a/service/b")
            client = context(SSL.TLS_CLIENT_METHOD, group, ca, pair if mutual else None, True)
            server = context(SSL.TLS_SERVER_METHOD, group, ca, pair, mutual)
            agreed = handshake(client, server)
            times = []
            for _ in range(rounds):
                started = time.process_time()
                handshake(client, server)
                times.append(time.process_time() - started)
            middle = sorted(times)[rounds // 2]
            out[name] = {"group": agreed, "median_cpu_ms": round(middle * 1000, 2)}
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    print(json.dumps(measure(parser.parse_args().rounds), indent=1))
