"""Kubernetes: access to the API server."""
