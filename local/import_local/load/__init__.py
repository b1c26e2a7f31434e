"""A whole installation under load: the load test (`make load-test`), and what the soak test shares with it."""
