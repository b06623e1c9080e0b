"""The real world around a node: one event loop, ZeroMQ, the disk, HTTP, the scheduler."""
