"""Kubernetes: typed access to the API server."""
