"""Providers: one file per kind of store."""
