"""The demo: a tour of a local installation that shows each promise, and checks it."""
