"""Vector indexes: where products' embeddings are kept and searched."""
