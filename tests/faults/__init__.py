"""Tests that break a whole installation for real, and a checker that reads afterwards what became of it."""
