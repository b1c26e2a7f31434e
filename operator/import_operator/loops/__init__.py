"""Loops: one file each, a pure decision plus a thin act."""
