"""Benchmarks: ``python -m benchmarks`` measures kvbus beside its peers; ``python -m benchmarks.placement`` the ring."""
