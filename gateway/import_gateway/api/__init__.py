"""The HTTP API: routes translate between requests and what the stores and the API server do."""
