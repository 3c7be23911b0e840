"""Signed weights: which formats may be loaded, manifests, checkpoint chains, refusing loaders."""

from interlock.crypto.weights.chain import ChainReport, check_chain
from interlock.crypto.weights.manifest import SIGNATURE_FILE, Signed, sign_folder, verify_folder

__all__ = ["SIGNATURE_FILE", "ChainReport", "Signed", "check_chain", "sign_folder", "verify_folder"]
