"""Scaling policies compared in simulated time: arrivals, a fleet that takes time to start, and the outcome."""
