"""This node's own copy: merge what arrives, read, and answer nobody before the disk has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from kvbus.core.durably import Durably
from kvbus.core.metrics import Metrics
from kvbus.core.tick import Effects
from kvbus.core.types import Lsn
from kvbus.errors import CorruptionError
from kvbus.ports.engine import Engine
from kvbus_modes.ap.acceptance import accept, check_all
from kvbus_modes.ap.frames import NO_DIGEST, judged_digest, write_payload
from kvbus_modes.ap.overwrites import MANY, takes_place
from kvbus_modes.ap.siblings import merge

_LOGICAL_BITS = 16
_MOST_TOLD = 1000


class Replica:
    """The AP mode's view of the engine, and what waits for its log."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        # What was said of damage already, up to a bound.
        self._told_damage: dict[str, None] = {}
        self._last_timestamp = 0
        self.multi_get = engine.multi_get
        self.scan = engine.scan
        durably = Durably(engine)
        self.take = durably.take
        self.unsynced = durably.unsynced
        self.when_durable = durably.when_durable
        self.when_synced = durably.when_synced

    def timestamp(self, wall_ms: int) -> int:
        """Return the next hybrid logical clock stamp: wall ms in the upper 48 bits, a counter in the lower 16."""
        self._last_timestamp = max(self._last_timestamp + 1, wall_ms << _LOGICAL_BITS)
        return self._last_timestamp

    def store(
        self,
        keys: list[bytes],
        records: list[bytes],
        payload: bytes,
        previous: list[bytes | None] | None,
        out: Effects,
    ) -> Lsn:
        """Store final records; ``payload`` is their encoding, which goes to the log as it is.

        ``previous`` is what ``multi_get(keys)`` gives now, if the caller knows it.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
        """
        out.commit = True
        return self._engine.apply(keys, records, payload, previous)

    def read_path(self, key: bytes) -> dict[str, object]:
        """Return what a read of ``key`` looks into: see :class:`~kvbus.ports.engine.ReadPath`.

        Raises:
            CorruptionError: it meets damage.
        """
        return dict(self._engine.explain(key))

    def met_damage(self, error: CorruptionError, out: Effects) -> str:
        """Count a read that met damage, and say so once for each place; return what is said."""
        self._metrics.damaged_reads_total += 1
        reason = str(error)
        if reason not in self._told_damage and len(self._told_damage) < _MOST_TOLD:
            self._told_damage[reason] = None
            out.trace("damaged", reason=reason)
        return reason

    def read(self, keys: list[bytes], out: Effects) -> tuple[list[bytes | None], str]:
        """Return the records at ``keys`` up to the first one that is damaged, and what is to be said of that one."""
        try:
            return self._engine.multi_get(keys), ""
        except CorruptionError as error:
            damage = self.met_damage(error, out)
        records: list[bytes | None] = []
        with suppress(CorruptionError):
            for key in keys:
                records.append(self._engine.get(key))
        return records, damage

    def read_each(self, keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        """Return the records at ``keys``, None for a damaged one, and the indices of the damaged ones."""
        records: list[bytes | None] = []
        damaged: list[int] = []
        for index, key in enumerate(keys):
            try:
                records.append(self._engine.get(key))
            except CorruptionError:
                records.append(None)
                damaged.append(index)
        return records, damaged

    def present(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the records at ``keys`` to be replaced; a damaged one, of which no other replica knows, is absent.

        A version that is made over it gets an epoch of its own, as over any absent record, so no dot is given twice.
        """
        try:
            return self._engine.multi_get(keys)
        except CorruptionError:
            return self.read_each(keys)[0]

    def merge_in(self, keys: list[bytes], records: list[bytes], payload: bytes, digest: bytes, out: Effects) -> Lsn:
        """Merge records that another node sent; what is new or supersedes is logged as the bytes that came.

        ``digest`` is the sender's :func:`~kvbus_modes.ap.frames.judged_digest`.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
            ValueError: a record is not canonical; nothing was stored.
            CorruptionError: a copy is damaged; nothing was stored.
        """
        return self._merge(keys, records, payload, digest, self._engine.multi_get(keys), out)

    def merge_in_rest(self, keys: list[bytes], records: list[bytes], out: Effects) -> tuple[Lsn | None, list[int]]:
        """Do the same but for those whose copy here is damaged; return their indices, too, and None if all are.

        Raises:
            ReadOnly, ValueError: as :meth:`merge_in`.
        """
        present, damaged = self.read_each(keys)
        intact = sorted(set(range(len(keys))).difference(damaged))
        if not intact:
            return None, damaged
        keys, records = [keys[index] for index in intact], [records[index] for index in intact]
        payload = write_payload(keys, records)
        return self._merge(keys, records, payload, NO_DIGEST, [present[index] for index in intact], out), damaged

    def _merge(
        self,
        keys: list[bytes],
        records: list[bytes],
        payload: bytes,
        digest: bytes,
        present: list[bytes | None],
        out: Effects,
    ) -> Lsn:
        if len(records) < MANY and all(map(takes_place, records, present)):
            return self.store(keys, records, payload, present, out)
        if digest == judged_digest(payload, present):
            check_all(records)
            return self.store(keys, records, payload, present, out)
        merged = list(map(accept, records, present))
        if merged != records:
            payload = write_payload(keys, merged)
        return self.store(keys, merged, payload, present, out)

    def repair(self, keys: list[bytes], records: list[bytes], out: Effects) -> None:
        """Store what all other replicas know of ``keys``, which were damaged here.

        Raises:
            ReadOnly: the disk is full; nothing was stored.
            ValueError: siblings cannot be merged into one record; nothing was stored.
        """
        if keys:
            present = self.present(keys)
            merged = [
                record if own is None else merge(record, own) for record, own in zip(records, present, strict=True)
            ]
            self.store(keys, merged, write_payload(keys, merged), None, out)
