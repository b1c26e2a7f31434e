"""Redis: the hot window of the queue and the providers' limits."""
