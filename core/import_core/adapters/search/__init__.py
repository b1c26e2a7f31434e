"""Full-text search indexes."""
