"""Reading pages that others wrote in a browser that can reach nothing but what a job may read."""
