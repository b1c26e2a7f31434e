"""PostgreSQL: the authoritative store of jobs, products and claims."""
