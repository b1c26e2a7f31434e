"""What every process of the import operator shares: decisions, adapters and observability."""
