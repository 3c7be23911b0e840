"""Run it, isolated."""
