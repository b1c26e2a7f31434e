"""The gateway without Kubernetes: callers from a file, imports as rows."""
