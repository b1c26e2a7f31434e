"""A whole installation on one machine, for newcomers, tests and the demo."""
