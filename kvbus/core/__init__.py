"""What both modes need, pure: no clock, socket, file, thread or global randomness."""
