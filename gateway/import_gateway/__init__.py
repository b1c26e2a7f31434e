"""The gateway: HTTP API, admission webhook, live events and the live page."""
