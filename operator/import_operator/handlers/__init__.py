"""Handlers: translate Kubernetes events into decisions."""
