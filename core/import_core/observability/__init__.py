"""Metric names and structured logs."""
