"""``kvbus demo``: three real nodes on this machine, real data, and what happens when one of them dies."""
