"""The commit log: its bytes, its writing side, its recovery."""
