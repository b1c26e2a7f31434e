"""The live page: what runs now, for people."""
