"""What a process that works for another one does first."""

from __future__ import annotations

import os
import signal
from multiprocessing import parent_process
from multiprocessing.connection import wait as wait_for
from threading import Thread


def serve_parent() -> None:
    """Leave stop signals from the terminal to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    Thread(target=follow, daemon=True).start()
