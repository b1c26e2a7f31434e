"""All I/O of the shared core: one folder per outside system."""
