"""The gateway: HTTP API, admission webhook and live page (not built yet)."""
