"""``kvbus cluster``: a cluster of node processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from kvbus.cli.options import OutputOption
from kvbus.cli.output import Output, complain, failures_shown, print_json, say, table, waiting
from kvbus.errors import ConfigError
from kvbus.local.folder import STOP_SECONDS, ClusterFolder, LocalNode, check_ports, planned_node

app = typer.Typer(help="Run a cluster of nodes on this machine.", no_args_is_help=True)

DEFAULT_NODES = 3
DEFAULT_BASE_PORT = 7400

FolderOption = Annotated[
    Path, typer.Option("--dir", envvar="KVBUS_DIR", help="The cluster's folder.", show_default=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A node's name, such as n2.", show_default=False)]


@app.command()
def up(
    folder: FolderOption,
    nodes: Annotated[
        int | None, typer.Option(min=1, max=99, help=f"How many nodes.  [default: {DEFAULT_NODES}]", show_default=False)
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="The default keyspace's mode: ap (cp is not in this version).  [default: ap]")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65_532,
            help=f"The first node's first port; each has ten.  [default: {DEFAULT_BASE_PORT}]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings for all nodes.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a cluster and wait until it is ready.

    A folder that holds a stopped cluster starts that one again, with its data and, where no option says otherwise,
    its settings.
    """
    with failures_shown(output):
        if mode == "cp":
            raise ConfigError("mode cp is not available yet; use ap")
        if mode not in (None, "ap"):
            raise typer.BadParameter(f"there is no mode {mode!r}; choose ap", param_hint="--mode")
        place = ClusterFolder(folder)
        is_new = not place.exists()
        kept = {} if is_new else _configs(place.nodes())
        chosen = _prepared(place, nodes, mode, base_port, config)
        try:
            _launch(place, chosen)
        except BaseException:
            for node in place.nodes() if place.exists() else []:
                node.kill()
            if is_new:
                place.path.unlink(missing_ok=True)
            else:
                place.write(chosen)
            # Settings that no node starts with are not to be the cluster's from now on.
            for path, text in kept.items():
                path.write_text(text, encoding="utf-8")
            raise
        if output is Output.JSON:
            _print_nodes(place.nodes(), output)
            return
        names = f"{len(chosen)} nodes are" if len(chosen) > 1 else "1 node is"
        say(f"{names} ready in {folder}; the first serves clients at {chosen[0].client}")
        say(f"  kvbus put greeting hello --dir {folder}")
        say(f"  kvbus get greeting --dir {folder}")


def _configs(nodes: list[LocalNode]) -> dict[Path, str]:
    paths = [path for node in nodes if (path := Path(node.config)).is_file()]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def _launch(place: ClusterFolder, nodes: list[LocalNode]) -> None:
    """Start stopped nodes, noting each process as soon as there is one, and wait until they are ready."""
    from kvbus.local.launch import Started, start, wait_until_ready

    launched: list[Started] = []
    for node in nodes:
        launched.append(start(node))
        known = [replace(each.node, pid=each.process.pid) for each in launched]
        place.write(known + nodes[len(known) :])
    with waiting("starting") as progress:
        wait_until_ready(launched, [], progress)


def _prepared(
    place: ClusterFolder, nodes: int | None, mode: str | None, base_port: int | None, config: Path | None
) -> list[LocalNode]:
    """Return the stopped nodes to start, their ports free, their folders and configuration files in place."""
    from kvbus.local.setup import write_configs

    before = place.nodes() if place.exists() else []
    alive = [node.name for node in before if node.is_running()]
    if alive:
        raise ConfigError(
            f"the cluster in {place.folder} is running already ({', '.join(alive)}); stop it with: "
            f"kvbus cluster down --dir {place.folder}, or start one node of it with kvbus cluster start NAME"
        )
    if before and nodes not in (None, len(before)):
        raise ConfigError(
            f"{place.folder} holds the data of {len(before)} nodes, not {nodes}; "
            "leave out --nodes or choose another --dir"
        )
    stopped = [replace(node, pid=None) for node in before]
    if stopped and mode is None and base_port is None and config is None:
        check_ports(stopped)
        return stopped
    count = len(before) or nodes or DEFAULT_NODES
    first = base_port or (_base_port(before[0]) if before else DEFAULT_BASE_PORT)
    planned = [planned_node(place.folder, number, first) for number in range(count)]
    check_ports(planned)
    write_configs(planned, mode=mode or "ap", extra=config, environ=os.environ)
    return planned


def _base_port(first: LocalNode) -> int:
    return int(first.client.rpartition(":")[2])


@app.command()
def down(folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Stop all nodes cleanly; their data stay."""
    with failures_shown(output):
        place = ClusterFolder(folder)
        running = [node for node in place.nodes() if node.is_running()]
        for node in running:
            node.request_stop()
        with waiting("stopping") as progress:
            for number, node in enumerate(running):
                progress(number, len(running))
                if not node.wait_for_end():
                    node.kill()
                    complain(f"{node.name} did not stop within {STOP_SECONDS:.0f} s and was killed")
        place.write([replace(node, pid=None) for node in place.nodes()])
        if output is Output.JSON:
            _print_nodes(place.nodes(), output)
        else:
            say(f"stopped {', '.join(node.name for node in running)}" if running else "no node was running")


@app.command()
def status(folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Show the nodes' processes."""
    with failures_shown(output):
        _print_nodes(ClusterFolder(folder).nodes(), output)


@app.command()
def start(name: NameArgument, folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Start one stopped node and wait until it is ready."""
    from kvbus.local.launch import start as launch
    from kvbus.local.launch import wait_until_ready

    with failures_shown(output):
        place = ClusterFolder(folder)
        node = place.node(name)
        if node.is_running():
            mend = f", but paused; let it go on with: kvbus resume {name}" if node.is_paused() else ""
            after(place, name, f"{name} is running already{mend}", output)
            return
        check_ports([node])
        others = [each for each in place.nodes() if each.name != name and each.is_running() and not each.is_paused()]
        faults = _faults_at(others)
        launched = launch(node)
        place.set_pid(name, launched.process.pid)
        try:
            with waiting("starting") as progress:
                # Links that are cut on purpose will not come up, however long one waits.
                wait_until_ready([launched], [] if faults else others, progress)
        except BaseException:
            launched.process.kill()
            launched.process.wait()
            place.set_pid(name, None)
            raise
        more = f", its links not waited for ({'; '.join(faults)})" if faults else ""
        after(place, name, f"{name} is ready at {node.client}{more}", output)


@app.command()
def stop(name: NameArgument, folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """Stop one node cleanly (SIGTERM)."""
    with failures_shown(output):
        place = ClusterFolder(folder)
        node = place.node(name)
        told = f"{name} was not running"
        if node.is_running():
            told = f"stopped {name}" if node.stop() else f"{name} did not stop in time and was killed"
        place.set_pid(name, None)
        after(place, name, told, output)


@app.command()
def kill(name: NameArgument, folder: FolderOption, output: OutputOption = Output.TABLE) -> None:
    """End one node at once, as a crash would (SIGKILL)."""
    with failures_shown(output):
        place = ClusterFolder(folder)
        node = place.node(name)
        told = f"{name} was not running"
        if node.is_running():
            node.kill()
            told = f"killed {name}"
        place.set_pid(name, None)
        after(place, name, told, output)


def _faults_at(nodes: Sequence[LocalNode]) -> list[str]:
    from kvbus.cli.fault_orders import described, tell

    answers = tell({node.name: node.client for node in nodes}, "faults", {})
    return described([rule for answer in answers for rule in answer.rules])


def after(place: ClusterFolder, name: str, told: str, output: Output) -> None:
    """Print the outcome of a command on one node: ``told`` for people, the node's entry for programs."""
    if output is Output.JSON:
        _print_nodes([place.node(name)], output)
    else:
        say(told)


def _print_nodes(nodes: list[LocalNode], output: Output) -> None:
    if output is Output.JSON:
        print_json({"nodes": [{**asdict(node), "state": _state(node)} for node in nodes]})
        return
    table(
        ["node", "state", "pid", "client", "http"],
        [[n.name, _state(n), str(n.pid or ""), n.client, f"http://{n.http}"] for n in nodes],
    )
    say("")
    for node in nodes:
        say(f"{node.name} keeps its data in {node.data_dir}")


def _state(node: LocalNode) -> str:
    if node.is_running():
        return "paused" if node.is_paused() else "running"
    return "stopped" if node.pid is None else "ended"
