"""The operator where there is no Kubernetes: the loops that need PostgreSQL and Redis alone."""
