"""Whole nodes, unchanged, in virtual time: one thread, no socket, no clock, and everything follows from the seed."""
