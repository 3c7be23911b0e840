"""Telemetry in: files, OTLP, Prometheus remote write; every source known and accounted for."""
