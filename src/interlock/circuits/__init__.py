"""Circuits: canonical form, safe ingest, SDK adapters."""
