"""Signing, encryption and keys."""
