"""The ``kvbus`` command: one file a noun. Heavy imports wait inside the commands, so that each starts quickly."""
