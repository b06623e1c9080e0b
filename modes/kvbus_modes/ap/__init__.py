"""The AP mode: sloppy quorums, explicit dots, siblings. ``MODE`` is what the registry loads."""

from kvbus_modes.ap.mode import ApPlugin

MODE = ApPlugin()
