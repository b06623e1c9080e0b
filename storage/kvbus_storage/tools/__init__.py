"""What looks at the engine's files from outside: it reads, and never writes."""
