"""The notes that hold the logs of Raft groups: a state and one note an entry, as the groups in memory are.

::

    group u64 | 0                   RAFT_STATE's payload | applied index u64
    group u64 | index u64, from 1   term u64 | entry

Keys are big-endian, so that a group's notes follow each other. Source: FORMATS.md, "RocksDB".
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from struct import error as struct_error

from kvbus.ports.raft_log import HardState
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import Kind
from kvbus_storage.log.payload import RaftState, decode_entries, decode_state, encode_state
from kvbus_storage.raft_log import Group, RecoveredRaft

KEY_BYTES = 16
_KEY = Struct(">QQ")
_NUMBER = Struct("<Q")


class RaftStore:
    """Notes what became of groups since the last write.

    Raises:
        FormatError: the ``notes`` are not those of groups.
    """

    def __init__(self, notes: Iterable[tuple[bytes, bytes]]) -> None:
        self.recovered = RecoveredRaft({})
        # The lowest index that was appended to each group which changed; None where nothing was.
        self._touched: dict[int, int | None] = {}
        self._load(notes)
        # The first and the last index of each group that the database has.
        self._stored = {number: (group.offset + 1, group.last) for number, group in self.recovered.groups.items()}

    def touch(self, kind: Kind, payload: bytes) -> None:
        """Take note of a change that a group's log record would say."""
        group = _NUMBER.unpack_from(payload)[0]
        lowest = self._touched.get(group)
        if kind == Kind.RAFT_ENTRY:
            first = decode_entries(payload).first
            lowest = first if lowest is None else min(lowest, first)
        self._touched[group] = lowest

    def changes(self) -> dict[bytes, bytes | None]:
        """Return the notes that bring the database to what is in memory."""
        found: dict[bytes, bytes | None] = {}
        for number, lowest in self._touched.items():
            group = self.recovered.groups.get(number, Group())
            first, last = self._stored.get(number, (1, 0))
            gone = (*range(first, min(group.offset, last) + 1), *range(max(group.last + 1, first), last + 1))
            found |= dict.fromkeys(_KEY.pack(number, index) for index in gone)
            if number not in self.recovered.groups:
                found[_KEY.pack(number, 0)] = None
                continue
            state = RaftState(number, *group.state, group.offset, group.offset_term, False)
            found[_KEY.pack(number, 0)] = encode_state(state) + _NUMBER.pack(group.applied)
            if lowest is not None:
                for index in range(max(lowest, group.offset + 1), group.last + 1):
                    place = index - group.offset - 1
                    found[_KEY.pack(number, index)] = _NUMBER.pack(group.terms[place]) + group.entries[place]
        return found

    def written(self) -> None:
        """Note that the database has what :meth:`changes` returned."""
        for number in self._touched:
            group = self.recovered.groups.get(number, Group())
            self._stored[number] = (group.offset + 1, group.last)
        self._touched.clear()

    def taken_back(self) -> None:
        """Note that the groups are again as the database has them."""
        self._touched.clear()

    def _load(self, notes: Iterable[tuple[bytes, bytes]]) -> None:
        groups = self.recovered.groups
        try:
            for key, note in notes:
                number, index = _KEY.unpack(key)
                if index == 0:
                    state = decode_state(note[: -_NUMBER.size])
                    groups[number] = group = Group()
                    group.state = HardState(state.term, state.vote)
                    group.offset, group.offset_term = state.offset, state.offset_term
                    group.applied = _NUMBER.unpack(note[-_NUMBER.size :])[0]
                    continue
                group = groups[number]
                if index != group.last + 1:
                    raise FormatError(f"group {number} lacks entry {group.last + 1}")
                group.terms.append(_NUMBER.unpack_from(note)[0])
                group.entries.append(note[_NUMBER.size :])
        except (struct_error, KeyError) as error:
            raise FormatError("a note is not one of a Raft group") from error
