"""The mode suite over every mode, and over the example that a third one can start from."""

from __future__ import annotations

from kvbus.plugins import mode_plugin
from kvbus.ports.mode import ModePlugin
from tests.conformance.example_mode import PrimaryPlugin
from tests.conformance.mode_suite import ModeSuite


class TestApMode(ModeSuite):
    def plugin(self) -> ModePlugin:
        return mode_plugin("ap")


class TestExampleMode(ModeSuite):
    def plugin(self) -> ModePlugin:
        return PrimaryPlugin()
