"""Scanning: secrets, quantum and ML code, model files."""
