"""The log-structured engine: levels of tables under memtables, and what keeps them in order."""
