"""Live events: one connection to PostgreSQL listens for all."""
