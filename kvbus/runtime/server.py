"""A node process: from a configuration to a served socket, and back to a clean stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep, time

import structlog

from kvbus.assembly import FLUSH_JOB, Assembly, assemble, layout
from kvbus.config import NodeConfig
from kvbus.core.metrics import Metrics
from kvbus.core.node import Node
from kvbus.core.topology import Topology
from kvbus.errors import ConfigError
from kvbus.identity import IdentityFile
from kvbus.plugins import engine_plugin
from kvbus.ports.engine import Engine
from kvbus.runtime.driver import Driver
from kvbus.runtime.http import HttpServer, http_app, listen_http
from kvbus.runtime.logs import configure_logs
from kvbus.runtime.metrics import NodeCollector, registry_for
from kvbus.runtime.open_files import raise_open_files_limit
from kvbus.runtime.os_disk import OsDisk
from kvbus.runtime.process_worker import ProcessWorker
from kvbus.runtime.scheduler import Scheduler
from kvbus.runtime.sockets import check_addresses
from kvbus.runtime.zmq_transport import Addresses, ZmqTransport
from kvbus.wire.handshake import Handshake

_TROUBLES = ("damaged", "job_failed", "read_only")
_DRAIN_SECONDS = 5.0
_DRAIN_STEP_SECONDS = 0.01
_LAST_REQUESTS_SECONDS = 0.1
# A tick makes and frees some thousand objects without a cycle among them; the usual 700 would search each tick in vain.
_YOUNG_OBJECTS = 50_000

logger = structlog.get_logger(__name__)


def run_node(config: NodeConfig) -> int:
    """Run one node in the foreground until SIGTERM or SIGINT; return the process's exit code.

    Raises:
        ConfigError: the data directory, an address or a setting is wrong.
        CorruptionError: stored data are damaged.
    """
    configure_logs(config.name)
    raise_open_files_limit()
    if Path(config.data_dir).exists() and not Path(config.data_dir).is_dir():
        raise ConfigError(f"[node] data_dir {config.data_dir!r} is no directory; name another one")
    if not Path(config.data_dir).is_dir():
        raise ConfigError(f"[node] data_dir {config.data_dir!r} does not exist; create it: mkdir -p {config.data_dir}")
    try:
        server = Server(config)
        try:
            import uvloop
        except ImportError:
            return asyncio.run(server.run())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(server.run())
    except OSError as error:
        # A write that fails does not say where.
        error.filename = error.filename or config.data_dir
        raise


class Server:
    """Everything of one node that is not the machine: files, sockets, jobs, signals."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._disk = OsDisk(config.data_dir)
        self._identity = IdentityFile(self._disk, config.data_dir)
        self._papers = self._identity.start(config.cluster, config.name, layout(config), int(time() * 1000), sleep)
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        config = self._config
        listen = Addresses(client=config.listen.client, peer=config.listen.peer, gossip=config.listen.gossip)
        # Nobody is to wait for a long log's recovery only to hear that a port is taken.
        check_addresses({"client": listen.client, "peer": listen.peer, "gossip": listen.gossip})
        listener = listen_http(config.listen.http)
        worker = ProcessWorker()
        engine = engine_plugin(config.engine)(
            self._disk,
            config.storage,
            worker=worker,
            clock=monotonic,
            on_sync=self._metrics.fsync_seconds.observe,
        )
        topology = Topology.first(members=config.members, partitions=config.partitions, replicas=config.replicas)
        assembly = assemble(config, topology, self._papers, engine, self._metrics)
        node, handshake = assembly.node, assembly.handshake
        transport = ZmqTransport(
            listen=listen,
            topology=topology,
            me=node.identity.me,
            handshake=handshake,
            intake=assembly.intake,
            request_bytes=config.limits.request_bytes,
            reply_bytes=config.limits.reply_bytes,
            metrics=self._metrics,
            log=self._event,
            on_known=lambda: self._remember(handshake),
            faults_enabled=config.faults_enabled,
        )
        driver = Driver(node, transport, engine, trace=self._event, fatal=self._fatal)
        scheduler = Scheduler(assembly.jobs, self._event)
        engine.when_full(lambda: scheduler.pull(FLUSH_JOB))

        def world() -> dict[str, float]:
            counters: dict[str, float] = dict(transport.counters())
            counters["loop_lag_seconds"] = driver.lag_seconds
            counters["job_errors_total"] = scheduler.errors_total
            counters["jobs_missed_total"] = scheduler.missed_total
            return counters

        registry = registry_for(NodeCollector(node, world, monotonic))
        http = HttpServer(http_app(registry, lambda: _readiness(node)))
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        self._watch_signals()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        driver.start()
        scheduler.start()
        self._event("serving", {"client": listen.client, "incarnation": self._papers.incarnation})
        await self._stop.wait()
        await self._drain(node, transport)
        scheduler.stop()
        driver.stop()
        http.should_exit = True
        await serving
        transport.close()
        worker.close()
        self._close(assembly, engine)
        return 0

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _drain(self, node: Node, transport: ZmqTransport) -> None:
        """Take no new work and finish what is in flight, within a bound; whoever asks is sent to another node."""
        self._event("stopping", {"pending": node.pending()})
        node.stopping = True
        give_up = monotonic() + _DRAIN_SECONDS
        # What was sent just before the stop is still on its way in; it gets an answer, too.
        await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        while (node.pending() or transport.more_waits) and monotonic() < give_up:
            await asyncio.sleep(_DRAIN_STEP_SECONDS)

    def _close(self, assembly: Assembly, engine: Engine) -> None:
        """Sync, and hand the version hold on to the next start: only a clean stop may."""
        engine.close()
        try:
            self._identity.save(replace(self._papers, hold_floor=assembly.hand_over()))
        except OSError as error:
            # On a full disk the next start takes the stop for an unclean one: it begins a new hold.
            self._event("hold_not_handed_on", {"reason": str(error)})
        self._disk.close()
        self._event("stopped", {})

    def _remember(self, handshake: Handshake) -> None:
        self._papers = replace(self._papers, known=dict(handshake.known))
        try:
            self._identity.save(replace(self._papers, hold_floor=None))
        except OSError as error:
            # A full disk must not stop the reads; what was met is remembered with the next save.
            self._event("peers_not_remembered", {"reason": str(error)})

    def _event(self, event: str, fields: dict[str, object]) -> None:
        if event in _TROUBLES:
            logger.warning(event, **fields)
        else:
            logger.info(event, **fields)

    def _fatal(self, error: BaseException) -> None:
        """Exit at once: after a failed sync or a bug nothing that this process says can be trusted."""
        logger.critical("fatal", error=repr(error), exc_info=error)
        sys.stderr.flush()
        os._exit(1)


def _readiness(node: Node) -> tuple[bool, dict[str, object]]:
    states = node.links.states(monotonic())
    names = {node.topology.members[index].name: state for index, state in states.items()}
    return not node.stopping, {"members": names}
