"""Detectors: fused screening of every row, sequential alarms with a budget, Sub-PCA."""
