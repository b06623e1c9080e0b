"""The event loop around a node: drain the sockets, step, perform the effects, commit, step again.

Edge-triggered descriptors: after a wake-up the driver goes round until a tick finds nothing. Everything that arrived
in one turn is one tick, and its writes share one write and one sync of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time

from kvbus.core.node import Node
from kvbus.core.tick import Effects, Tick
from kvbus.errors import ReadOnly
from kvbus.ports.engine import Engine
from kvbus.runtime.memory import process_reclaimer
from kvbus.runtime.zmq_transport import ZmqTransport

_WATCH_SECONDS = 0.1
_TURN_SECONDS = 0.01

Trace = Callable[[str, dict[str, object]], None]


class Driver:
    """Runs one node on one asyncio loop.

    ``fatal`` is called once with an error after which nothing may go on (a failed sync, a bug): the process must exit.
    """

    def __init__(
        self,
        node: Node,
        transport: ZmqTransport,
        engine: Engine,
        *,
        trace: Trace,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._node = node
        self._transport = transport
        self._engine = engine
        self._trace = trace
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._watcher: asyncio.TimerHandle | None = None
        self._gossip: list[bytes] = []
        self._stopped = False
        # A turn is planned that will take up whatever has come until then.
        self._goes_on = False
        # Seconds to wait before the next turn: the engine's worker has fallen behind.
        self._rest = 0.0
        self.lag_seconds = 0.0
        self._reclaimer = process_reclaimer()
        self._turns = 0

    def start(self) -> None:
        """Begin to serve."""
        for descriptor in self._transport.hot_descriptors():
            self._loop.add_reader(descriptor, self._turn)
        for descriptor in self._transport.rare_descriptors():
            self._loop.add_reader(descriptor, self._watch)
        self._transport.wake_by(self._arm)
        self._tend()

    def stop(self) -> None:
        """Stop serving; nothing is sent any more."""
        self._stopped = True
        for descriptor in (*self._transport.hot_descriptors(), *self._transport.rare_descriptors()):
            self._loop.remove_reader(descriptor)
        for handle in (self._timer, self._watcher):
            if handle is not None:
                handle.cancel()

    def _turn(self) -> None:
        """Go round until nothing is left, or let HTTP, links and signals have their turn after a bounded time."""
        if self._stopped or self._goes_on:
            return
        now = monotonic()
        turn_ends = now + _TURN_SECONDS
        try:
            while now < turn_ends:
                tick = Tick(now, int(time() * 1000))
                self._transport.receive(tick)
                if tick:
                    self._step(tick)
                elif not self._transport.more_waits:
                    return
                now = monotonic()
                if self._rest:
                    break
        except Exception as error:
            self._fatal(error)
            return
        self._goes_on = True
        if self._rest:
            self._loop.call_later(self._rest, self._go_on)
            self._rest = 0.0
        else:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._turn()

    def _step(self, tick: Tick) -> None:
        self._turns += 1
        out = Effects()
        self._node.step(tick, out)
        self._perform(out)
        while out.commit:
            done = self._commit()
            out = Effects()
            self._node.step(done, out)
            self._perform(out)

    def _commit(self) -> Tick:
        failed = False
        try:
            self._engine.commit()
        except ReadOnly as error:
            failed = True
            self._trace("read_only", {"reason": str(error)})
        done = Tick(monotonic(), int(time() * 1000))
        done.persisted = self._engine.durable_lsn
        done.append_failed = failed
        self._rest = self._engine.rest_seconds
        return done

    def _perform(self, out: Effects) -> None:
        transport = self._transport
        for peer, frames in out.peer_frames.items():
            transport.send_peer(peer, frames)
        for call in out.replies:
            transport.reply(call)
        for request in out.fault_requests:
            transport.obey(request)
        for topic, frame in out.published:
            transport.publish(topic, frame)
        for event, fields in out.traces:
            self._trace(event, fields)
        if out.wake_at is not None:
            self._arm(out.wake_at)

    def _arm(self, at: float) -> None:
        if self._timer is None or at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._stopped:
            return
        try:
            tick = Tick(monotonic(), int(time() * 1000))
            self._transport.receive(tick)
            self._step(tick)
        except Exception as error:
            self._fatal(error)
            return
        self._turn()

    def _watch(self) -> None:
        """Follow links, handshakes and gossip; a change becomes a tick at once."""
        if self._stopped:
            return
        if self._transport.watch(monotonic(), self._gossip):
            self._gossip.clear()
            self._turn()

    def _tend(self) -> None:
        """Look at the rare sockets ten times a second as well: a send may have swallowed their edge."""
        if self._stopped:
            return
        planned = monotonic() + _WATCH_SECONDS
        self._sync_when_due()
        self._watch()
        self._turn()
        self._reclaimer.look(planned - _WATCH_SECONDS, self._turns)
        self._watcher = self._loop.call_later(_WATCH_SECONDS, self._tended, planned)

    def _sync_when_due(self) -> None:
        """Let the engine sync what it wrote earlier: with ``sync = "interval"`` no later write may come to do it."""
        try:
            self._engine.commit()
        except Exception as error:
            self._fatal(error)

    def _tended(self, planned: float) -> None:
        self.lag_seconds = max(0.0, monotonic() - planned)
        self._tend()
