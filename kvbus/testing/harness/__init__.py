"""Clusters under test: one type for real processes and for the simulated world."""
