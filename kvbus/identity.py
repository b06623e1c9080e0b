"""The data directory's own papers: which node it belongs to, how often it was started, whom it has met.

``node.json`` is replaced in one durable step at every start, so that an incarnation is never used twice, and at a
clean stop, which hands the version hold on to the next start.

A directory's first incarnation is the quarter minutes since 2025, each later start's is one more. So a directory that
replaces a lost one begins above it, and gives no version number again that clients still hold, as long as the node was
not started more often than four times a minute over the lost one's life, and its clock is not behind that one's start.

A copy that was put in the directory's place knows nothing of what came after it. It is recognised by the disk's stamp,
takes over no hold, and begins above every incarnation that there may have been: none is used that is 256 or more ahead
of the clock, and a start that would be waits for the next quarter minute, as a copy's first one always does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast
from uuid import uuid4

from kvbus.errors import ConfigError, CorruptionError
from kvbus.ports.disk import HeldDisk
from kvbus.wire.handshake import Known

logger = logging.getLogger(__name__)

_PATH = "node.json"
_FORMAT = 1
_YEAR_2025_MS = 1_735_689_600_000
_QUARTER_MINUTE_MS = 15_000
_MOST_AHEAD = 256
_INCARNATION_BITS = 26
"""What is left of a version epoch's 64 bits above a start's own count."""


def do_not_wait(seconds: float) -> None:
    """Stand for a wait where time is not real, or where no copies are started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Papers:
    """What ``node.json`` holds. ``hold_floor`` is set only between a clean stop and the next start.

    ``stamp`` is the disk's (see its port) where they were saved last.

    ``layout`` names what places the keys and gives out the short ids; under another one this node's data would not be
    found, and its old version numbers could be given again, as another server's.
    """

    cluster: str
    name: str
    layout: str
    node_id: str
    incarnation: int
    stamp: str = ""
    hold_floor: int | None = None
    known: Mapping[str, Known] = field(default_factory=dict[str, Known])


class IdentityFile:
    """Reads and replaces ``node.json`` in one data directory; ``mint`` makes the id of a new one."""

    def __init__(self, disk: HeldDisk, path_shown: str, mint: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._disk = disk
        self._path_shown = path_shown
        self._mint = mint

    def start(
        self, cluster: str, name: str, layout: str, wall_ms: int, wait: Callable[[float], object] = do_not_wait
    ) -> Papers:
        """Mint the papers in an empty directory or check the present ones; raise the incarnation, durably.

        ``wall_ms`` is the wall clock in ms since 1970; only an empty directory and a copy depend on it. ``wait`` waits
        some seconds, at most a quarter minute, before the incarnation may be used. The result still carries the hold
        that a clean stop handed on; on the disk it is used up.

        Raises:
            ConfigError: the directory belongs to another node, cluster or layout; or it is empty or a copy, and the
                clock wrong.
            CorruptionError: ``node.json`` cannot be read.
        """
        try:
            papers = self._parse(self._disk.read(_PATH))
        except FileNotFoundError:
            if any(name != "LOCK" for name in self._disk.list()):
                raise ConfigError(
                    f"{self._path_shown} has files but no {_PATH}; put that back, "
                    "or give the node its own data directory or an empty one"
                ) from None
            papers = self._minted(cluster, name, layout, wall_ms)
        if papers.cluster != cluster:
            raise ConfigError(
                f"{self._path_shown} belongs to cluster {papers.cluster!r}, not {cluster!r}; "
                "correct [cluster] name or [node] data_dir"
            )
        if papers.name != name:
            raise ConfigError(
                f"{self._path_shown} belongs to node {papers.name!r}, not {name!r}; correct [node] name or data_dir"
            )
        if papers.layout != layout:
            raise ConfigError(
                f"{self._path_shown} was made for {papers.layout}, not for {layout}; restore [cluster] "
                "initial_members, partitions and replicas: they cannot be changed in this version"
            )
        started = replace(papers, incarnation=papers.incarnation + 1)
        if papers.stamp != self._disk.stamp():
            least = self._quarter_minutes(wall_ms) + _MOST_AHEAD
            started = replace(started, incarnation=max(started.incarnation, least), hold_floor=None)
        quarter_minutes, past_ms = divmod(wall_ms - _YEAR_2025_MS, _QUARTER_MINUTE_MS)
        if started.incarnation - quarter_minutes == _MOST_AHEAD:
            # Any further ahead the clock was set back, and to wait for it may take for ever.
            seconds = (_QUARTER_MINUTE_MS - past_ms) / 1000
            logger.warning("waiting %.0f s, so that no version number is given twice", seconds)
            wait(seconds)
        started = replace(started, stamp=self._disk.restamp())
        self.save(replace(started, hold_floor=None))
        return started

    def _minted(self, cluster: str, name: str, layout: str, wall_ms: int) -> Papers:
        """Return the papers as they were before the directory's first start."""
        return Papers(
            cluster=cluster,
            name=name,
            layout=layout,
            node_id=self._mint(),
            incarnation=self._quarter_minutes(wall_ms) - 1,
            stamp=self._disk.stamp(),
        )

    def _quarter_minutes(self, wall_ms: int) -> int:
        elapsed = (wall_ms - _YEAR_2025_MS) // _QUARTER_MINUTE_MS
        if not 0 < elapsed < 1 << _INCARNATION_BITS:
            raise ConfigError(
                f"this machine's clock is {elapsed // 4} minutes past 2025-01-01T00:00Z; set it right and start again: "
                "a data directory that is new, or was copied here, counts its version numbers from there"
            )
        return elapsed

    def save(self, papers: Papers) -> None:
        """Replace ``node.json`` durably."""
        fields = {
            "format": _FORMAT,
            "cluster": papers.cluster,
            "name": papers.name,
            "layout": papers.layout,
            "node_id": papers.node_id,
            "stamp": papers.stamp,
            "incarnation": papers.incarnation,
            "hold_floor": papers.hold_floor,
            "known": {name: list(known) for name, known in papers.known.items()},
        }
        self._disk.replace(_PATH, json.dumps(fields, indent=2).encode())

    def _parse(self, data: bytes) -> Papers:
        try:
            fields = cast("dict[str, object]", json.loads(data))
            if fields["format"] != _FORMAT:
                raise ConfigError(f"{self._path_shown}/{_PATH} has format {fields['format']}; upgrade kvbus")
            known = cast("dict[str, tuple[str, int]]", fields["known"])
            return Papers(
                cluster=str(fields["cluster"]),
                name=str(fields["name"]),
                layout=str(fields["layout"]),
                node_id=str(fields["node_id"]),
                stamp=str(fields.get("stamp", "")),
                incarnation=int(cast("int", fields["incarnation"])),
                hold_floor=cast("int | None", fields["hold_floor"]),
                known={name: Known(*each) for name, each in known.items()},
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptionError("not readable; restore it from a backup", f"{self._path_shown}/{_PATH}", 0) from error
