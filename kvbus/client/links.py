"""Which nodes can be reached, and which of several to ask next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto


class LinkState(Enum):
    """A connection: not tried out yet, usable, or lost (ZeroMQ keeps trying)."""

    CONNECTING = auto()
    UP = auto()
    DOWN = auto()


class Links:
    """The state of each node's connection, by address, in the order in which the addresses were given.

    ``changed`` tells the shell that addresses came or went and that its connections must follow.
    """

    def __init__(self, seeds: Sequence[str]) -> None:
        self._seeds = tuple(seeds)
        self._states = dict.fromkeys(seeds, LinkState.CONNECTING)
        self._shunned: dict[str, float] = {}
        self._any_up = False
        self.changed = True

    @property
    def addresses(self) -> list[str]:
        """Return the addresses that there should be a connection to."""
        return list(self._states)

    @property
    def any_up(self) -> bool:
        """Tell whether a node can be reached at all."""
        return self._any_up

    def set(self, address: str, state: LinkState) -> None:
        """Note what became of a connection; an address that is no longer wanted is ignored."""
        if address in self._states:
            self._states[address] = state
            self._any_up = LinkState.UP in self._states.values()

    def follow(self, members: Iterable[str]) -> list[str]:
        """Want connections to the seeds and to ``members``, and to nobody else; return who was dropped."""
        wanted = dict.fromkeys((*self._seeds, *members))
        dropped = [address for address in self._states if address not in wanted]
        self.changed = self.changed or bool(dropped) or any(address not in self._states for address in wanted)
        self._states = {address: self._states.get(address, LinkState.CONNECTING) for address in wanted}
        self._any_up = LinkState.UP in self._states.values()
        return dropped

    def shun(self, address: str, until: float) -> None:
        """Ask others first until then."""
        self._shunned[address] = until

    def choose(self, replicas: Sequence[str], place: int, now: float) -> str | None:
        """Return the node to ask: the live replica at ``place``, counted round, else a live node; None without any.

        A node that is shunned is asked only when nobody else is there.
        """
        everybody = self._states
        for candidates in (replicas, everybody) if replicas else (everybody,):
            live = [address for address in candidates if everybody.get(address) is LinkState.UP]
            welcome = [address for address in live if self._shunned.get(address, 0.0) <= now] if self._shunned else live
            if welcome:
                return welcome[place % len(welcome)]
        live = [address for address, state in everybody.items() if state is LinkState.UP]
        return live[place % len(live)] if live else None

    def first(self, now: float) -> str | None:
        """Return the first address that can be reached; None while an earlier one is still being tried."""
        second_choice: str | None = None
        for address, state in self._states.items():
            if state is LinkState.CONNECTING:
                return second_choice
            if state is LinkState.UP:
                if self._shunned.get(address, 0.0) <= now:
                    return address
                second_choice = second_choice or address
        return second_choice
