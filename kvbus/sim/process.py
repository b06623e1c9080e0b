"""One node's process in a world: it starts from its disk, turns, commits, pauses, stops and dies.

==========  ===============================  ==================================================================
state       ends with                        meaning
==========  ===============================  ==================================================================
down        ``start``                        no process; the disk holds what survived
up          ``stop``, ``kill``, an error     arrivals become ticks; a commit keeps it busy, and arrivals wait
paused      ``resume``, ``kill``             as SIGSTOP: arrivals wait, its clocks go on
stopping    the last answer, or 5 s          takes no new work; then its engine is closed and its hold handed on
==========  ===============================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from random import Random

from kvbus.assembly import Assembly, assemble, layout
from kvbus.config import NodeConfig
from kvbus.core.jobs import Job
from kvbus.core.metrics import Metrics
from kvbus.core.request import Call, ClientOrigin
from kvbus.core.tick import Effects, Tick
from kvbus.core.topology import Topology
from kvbus.core.types import NodeIndex
from kvbus.errors import CorruptionError, ReadOnly, Unsupported
from kvbus.identity import IdentityFile, Papers
from kvbus.plugins import engine_plugin, mode_plugin
from kvbus.ports.engine import Engine
from kvbus.ports.mode import ModePlugin
from kvbus.sim.clock import NodeClock
from kvbus.sim.disk import MemoryDisk, PowerCut
from kvbus.sim.network import Connection
from kvbus.sim.timeline import Timeline
from kvbus.sim.trace import Trace
from kvbus.sim.worker import InlineWorker
from kvbus.wire.client_replies import encode_reply

_SYNC_SECONDS = (0.0001, 0.0006)
_UPTIME_SECONDS = (10.0, 1e6)
_DRAIN_SECONDS = 5.0
_DRAIN_STEP_SECONDS = 0.01
_SYNC_CHECK_SECONDS = 0.1
_TIMER_SECONDS = 1e-6

SendPeer = Callable[[NodeIndex, list[bytes]], object]
SendReply = Callable[[bytes, bytes], object]


class Process:
    """A member of a world. ``send_peer`` and ``send_reply`` carry what it sends; ``on_end`` hears of its end.

    ``peers`` holds its own connections to the others, ``disk`` outlives each of its processes. ``ended_at`` is when the
    last one ended.
    """

    def __init__(
        self,
        config: NodeConfig,
        topology: Topology,
        timeline: Timeline,
        rng: Random,
        trace: Trace,
        *,
        send_peer: SendPeer,
        send_reply: SendReply,
        on_end: Callable[[bool], object],
        find_mode: Callable[[str], ModePlugin] = mode_plugin,
    ) -> None:
        self.config = config
        self.index = topology.index[config.name]
        self.disk = MemoryDisk()
        self.clock = NodeClock(timeline)
        self.clock.reboot(rng.uniform(*_UPTIME_SECONDS))
        self.usual_sync_seconds = self.sync_seconds = _SYNC_SECONDS
        self.peers: dict[NodeIndex, Connection] = {}
        self._topology = topology
        self._timeline = timeline
        self._rng = rng
        self._trace = trace
        self._send_peer = send_peer
        self._send_reply = send_reply
        self._on_end = on_end
        self._find_mode = find_mode
        self._life: object | None = None
        self.is_paused = False
        self.ended_at = 0.0

    @property
    def is_up(self) -> bool:
        """Say whether there is a process, paused or not."""
        return self._life is not None

    def start(self) -> None:
        """Start from the disk.

        Raises:
            ConfigError, CorruptionError: as a real node, which then ends at once.
        """
        config, disk = self.config, self.disk
        self.metrics = Metrics()
        self._identity = IdentityFile(disk, config.name, lambda: f"{self._rng.getrandbits(128):032x}")
        self._papers: Papers = self._identity.start(config.cluster, config.name, layout(config), self.clock.wall_ms())
        life = self._life = object()
        self._worker = InlineWorker(self._timeline, self._rng, self._between_steps)
        self.engine: Engine = engine_plugin(config.engine)(
            disk, config.storage, worker=self._worker, clock=self.clock.monotonic
        )
        self.engine.when_full(partial(self._after, 0.0, partial(self._between_steps, self.engine.flush_due)))
        self.assembly: Assembly = assemble(
            config, self._topology, self._papers, self.engine, self.metrics, find_mode=self._find_mode
        )
        self.node = self.assembly.node
        self._links: list[tuple[NodeIndex, bool]] = []
        self._frames: list[tuple[NodeIndex, bytes]] = []
        self._has_requests = self._is_busy = self._commit_ended = self.is_paused = False
        self._wake_at = inf
        self._missed_wake = False
        # What waits until no commit is under way and the process runs.
        self._waiting: list[Callable[[], object]] = []
        self._falls: Callable[[], None] | None = None
        for job in self.assembly.jobs:
            self._plan_job(job, life)
        if config.storage.sync == "interval":
            self._plan_job(Job(name="sync", every_seconds=_SYNC_CHECK_SECONDS, run=self.engine.commit), life)

    def kill(self) -> None:
        """End the process as SIGKILL does: what it wrote stays, synced or not."""
        if self._life is not None:
            self._break_off()
            self.disk = self.disk.kill()
            self._end(says_goodbye=True)

    def lose_power(self) -> None:
        """End the process as a power cut does: of what it had not synced anything may be left."""
        if self._life is not None:
            self._break_off()
            self.disk = self.disk.crash(self._rng)
            self.clock.reboot(self._rng.uniform(*_UPTIME_SECONDS))
            self._end(says_goodbye=False)

    def fall_in_commit(self, *, loses_power: bool) -> None:
        """End in the middle of the next commit, as SIGKILL or a power cut may have it."""
        self._falls = self.lose_power if loses_power else self.kill

    def outlive_commits(self) -> None:
        """Take back what :meth:`fall_in_commit` ordered."""
        self._falls = None

    def stop(self) -> None:
        """Begin a clean stop: finish what is under way, then close the engine and hand the hold on."""
        if self._life is not None and not self.node.stopping:
            self.node.stopping = True
            self._after(_DRAIN_STEP_SECONDS, partial(self._drain, self._timeline.now + _DRAIN_SECONDS))

    def tidy(self, order: str) -> None:
        """Have the engine ``flush`` or ``compact`` between two steps, or end its worker's process (``kill_worker``)."""
        if self._life is None or self.node.stopping:
            return
        if order == "kill_worker":
            self._worker.kill()
            return
        self._after(0.0, partial(self._between_steps, self.engine.flush if order == "flush" else self.engine.compact))

    @property
    def is_read_only(self) -> bool:
        """Say whether there is a process that takes no writes, because its disk is or was just full."""
        return self._life is not None and self.engine.read_only

    def pause(self) -> None:
        """Stop the process where it stands, as SIGSTOP does."""
        self.is_paused = self._life is not None

    def resume(self) -> None:
        """Let a paused process go on: all that came meanwhile is one tick."""
        if self.is_paused:
            self.is_paused = False
            if self._commit_ended:
                self._end_commit()
            self._go_on()

    def run_clock_at(self, rate: float) -> None:
        """Let the monotonic clock run at another rate from now on; a wake-up comes when it shows its time."""
        self.clock.run_at(rate)
        if self._life is not None and self._wake_at < inf:
            self._plan_wake(self._wake_at)

    def take_link(self, peer: NodeIndex, is_up: bool) -> None:
        """Take the word that the own connection to ``peer`` came or was lost."""
        if self._life is not None:
            self._links.append((peer, is_up))
            self._arrived()

    def take_frames(self, peer: NodeIndex, frames: list[bytes]) -> None:
        """Take a peer's message."""
        if self._life is not None:
            self._frames += [(peer, frame) for frame in frames]
            self._arrived()

    def take_requests(self, routing_id: bytes, bodies: list[bytes]) -> None:
        """Take requests that a client sent together."""
        if self._life is not None:
            for body in bodies:
                self.assembly.intake.add(ClientOrigin(routing_id, False), body)
            self._has_requests = True
            self._arrived()

    def remember_peers(self) -> None:
        """Write down whom the handshake has met, as the real node does."""
        self._papers = replace(self._papers, known=dict(self.assembly.handshake.known))
        try:
            self._identity.save(replace(self._papers, hold_floor=None))
        except OSError as error:
            self._trace.tell(self._timeline.now, self.config.name, "peers_not_remembered", {"reason": str(error)})

    def _go_on(self) -> None:
        """Do what had to wait: jobs, then what arrived, then a wake-up that is due."""
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            if self._life is not None:
                self._between_steps(act)
        if self._life is not None:
            self._arrived()
            if self._missed_wake:
                self._woken(self._wake_at)

    def _arrived(self) -> None:
        if self._is_busy or self.is_paused:
            return
        if self._links or self._frames or self._has_requests:
            tick = self._tick()
            tick.links, self._links = self._links, []
            tick.frames, self._frames = self._frames, []
            if self._has_requests:
                self._has_requests = False
                for refused in self.assembly.intake.hand_over(tick):
                    self._answer(refused)
            self._step(tick)

    def _tick(self) -> Tick:
        return Tick(*self.clock.read())

    def _step(self, tick: Tick) -> None:
        out = Effects()
        self.node.step(tick, out)
        self._trace.step(self.index, self._timeline.now, out)
        for peer, frames in out.peer_frames.items():
            self._send_peer(peer, frames)
        for call in out.replies:
            self._answer(call)
        for request in out.fault_requests:
            request.call.fail(Unsupported("a simulated node breaks nothing itself; ask its world"))
            self._answer(request.call)
        for event, fields in out.traces:
            self._trace.tell(self._timeline.now, self.config.name, event, fields)
        if out.commit:
            self._is_busy = True
            self._after(self._rng.uniform(*self.sync_seconds), self._falls or self._end_commit)
        if out.wake_at is not None and out.wake_at < self._wake_at:
            self._wake_at = out.wake_at
            self._plan_wake(out.wake_at)

    def _plan_wake(self, due: float) -> None:
        # Timers fire a little late, never early: not even by a rounding between two clocks.
        wait = max(self.clock.instant_of(due) - self._timeline.now, 0.0) + _TIMER_SECONDS
        self._after(wait, partial(self._woken, due))

    def _woken(self, due: float) -> None:
        """Step without an arrival, unless an earlier wake-up has been here or a later turn will do it."""
        if due != self._wake_at or due == inf:
            return
        self._missed_wake = self._is_busy or self.is_paused
        if self._missed_wake:
            return
        if self.clock.monotonic() < due:
            # The clock runs slower than when this was planned.
            self._plan_wake(due)
            return
        self._wake_at = inf
        self._step(self._tick())

    def _end_commit(self) -> None:
        if self.is_paused:
            self._commit_ended = True
            return
        self._commit_ended = self._is_busy = False
        failed = False
        try:
            self.engine.commit()
        except ReadOnly:
            failed = True
        except OSError as error:
            self._fail(error)
            return
        done = self._tick()
        done.persisted, done.append_failed = self.engine.durable_lsn, failed
        self._step(done)
        self._go_on()

    def _answer(self, call: Call) -> None:
        body = encode_reply(call, self.config.limits.reply_bytes)
        self._trace.reply(body)
        origin = call.origin
        assert isinstance(origin, ClientOrigin)
        self._send_reply(origin.routing_id, body)

    def _plan_job(self, job: Job, life: object) -> None:
        def run() -> None:
            try:
                job.run()
            finally:
                self._after(job.every_seconds, again)

        def again() -> None:
            self._between_steps(run)

        self._after(job.every_seconds, again)

    def _between_steps(self, act: Callable[[], object]) -> None:
        """Act now, or as soon as no commit is under way and the process runs."""
        if self._is_busy or self.is_paused:
            self._waiting.append(act)
            return
        try:
            act()
        except ReadOnly as error:
            self._trace.tell(self._timeline.now, self.config.name, "job_failed", {"error": str(error)})
        except OSError as error:
            self._fail(error)

    def _drain(self, give_up: float) -> None:
        if self.is_paused or self._is_busy or (self.node.pending() and self._timeline.now < give_up):
            self._after(_DRAIN_STEP_SECONDS, partial(self._drain, give_up))
            return
        try:
            self.engine.close()
        except OSError as error:
            self._fail(error)
            return
        try:
            self._identity.save(replace(self._papers, hold_floor=self.assembly.hand_over()))
        except OSError as error:
            self._trace.tell(self._timeline.now, self.config.name, "hold_not_handed_on", {"reason": str(error)})
        self.disk = self.disk.kill()
        self._end(says_goodbye=True)

    def _break_off(self) -> None:
        """Let the worker and a commit under way get as far as luck has it: to nothing, or to one of some steps."""
        self._in_steps(self._rng.randint(0, 12), self._worker.finish)
        if self._is_busy:
            self._in_steps(self._rng.randint(0, 3), self.engine.commit)

    def _in_steps(self, steps: int, act: Callable[[], object]) -> None:
        """Act until the disk has changed ``steps`` times."""
        left = steps

        def count_down() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCut

        if steps:
            self.disk.on_step = count_down
            with suppress(PowerCut, OSError, ReadOnly, CorruptionError):
                act()
            self.disk.on_step = lambda: None

    def _fail(self, error: OSError) -> None:
        """End as the real process does after a failed sync: at once."""
        self._trace.tell(self._timeline.now, self.config.name, "fatal", {"error": str(error)})
        self.disk = self.disk.kill()
        self._end(says_goodbye=True)

    def _end(self, *, says_goodbye: bool) -> None:
        self._life = None
        self._worker.close()
        self.is_paused = False
        self.ended_at = self._timeline.now
        self._on_end(says_goodbye)

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        """Plan ``act`` for this process; it does not outlive it."""
        life = self._life
        self._timeline.at(self._timeline.now + seconds, lambda: act() if self._life is life else None)
