"""``kvbus pause`` and ``kvbus resume``: stop a local node's process in its tracks, and let it go on."""

from __future__ import annotations

from kvbus.cli.cluster import FolderOption, NameArgument, after
from kvbus.cli.options import OutputOption
from kvbus.cli.output import Output, failures_shown
from kvbus.errors import ConfigError
from kvbus.local.folder import ClusterFolder, LocalNode


def pause(name: NameArgument, folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Stop a node of a local cluster in its tracks (SIGSTOP), as when its machine hangs."""
    with failures_shown(output):
        place = ClusterFolder(folder)
        node = _running(place, name)
        told = f"{name} is paused already" if node.is_paused() else f"paused {name}; kvbus resume {name} ends that"
        node.pause()
        after(place, name, told, output)


def resume(name: NameArgument, folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Let a paused node go on (SIGCONT)."""
    with failures_shown(output):
        place = ClusterFolder(folder)
        node = _running(place, name)
        told = f"resumed {name}" if node.is_paused() else f"{name} was not paused"
        node.resume()
        after(place, name, told, output)


def _running(place: ClusterFolder, name: str) -> LocalNode:
    node = place.node(name)
    if not node.is_running():
        raise ConfigError(f"{name} is not running; start it with: kvbus cluster start {name} --dir {place.folder}")
    return node
