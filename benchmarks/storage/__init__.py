"""The storage benchmark: ``python -m benchmarks.storage`` measures the engine beside other embedded stores."""
