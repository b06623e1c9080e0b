"""The AP mode: quorums as targets or demands, explicit dots, siblings. ``MODE`` is what the registry loads."""

from kvbus_modes.ap.mode import ApPlugin

MODE = ApPlugin()
