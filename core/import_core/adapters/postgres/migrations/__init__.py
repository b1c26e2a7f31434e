"""Versioned, forward-only migrations of the schema `imports` and of our columns in the platform's tables."""
