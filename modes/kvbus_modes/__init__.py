"""The consistency modes of kvbus, as plug-ins: pure state machines behind the Mode port."""
