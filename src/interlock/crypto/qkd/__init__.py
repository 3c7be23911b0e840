"""Quantum key distribution as a second, optional layer: never instead of post-quantum signatures.

NSA, NCSC, ANSSI and BSI put post-quantum cryptography first: QKD does not authenticate itself and
is a niche. Here its keys add a one-time MAC beside a signature, or join a key encapsulation; their
loss never lowers a policy silently. The link simulator's output is called bits, never a key.
"""
