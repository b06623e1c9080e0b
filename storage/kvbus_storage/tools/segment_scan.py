"""One segment of the log, read by the rules of a recovery, which go on behind what is damaged and change nothing.

Source: FORMATS.md, "Recovery".
"""

from __future__ import annotations

from collections.abc import Iterator

from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Damage
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Kind,
    LogRecord,
    SegmentHeader,
    decode_header,
    read_record,
    record_bytes,
    segment_number,
)
from kvbus_storage.log.reader import is_zero, read_records
from kvbus_storage.tools.record_contents import Contents, contents_of

_WINDOW_BYTES = 1 << 16
_RECORD_MAGIC = b"KVLR"
_NUMBER = slice(16, 24)


class SegmentScan:
    """Reads a segment.

    ``known_end`` is where the next segment's header says that this one's records end; None for the last segment.
    ``damage`` and all other findings are whole once :meth:`records` has ended.

    Raises:
        VersionError: a newer kvbus wrote it.
    """

    def __init__(self, file: ReadFile, name: str, known_end: int | None = None) -> None:
        self._file = file
        self._known_end = known_end
        self._limit = file.size if known_end is None else known_end
        self.damage: list[Damage] = []
        self.notes: list[str] = []
        self.header = self._read_header(name)
        self.end = HEADER_BYTES
        self.first_lsn: int | None = None
        self.last_lsn: int | None = None if self.header is None else self.header.last_lsn
        self.count = 0
        self.is_sealed = False
        self.ending = ""

    @property
    def is_unborn(self) -> bool:
        """Whether it was being created: it has no valid header and no records."""
        return self.header is None and is_zero(self._file, HEADER_BYTES)

    def records(self) -> Iterator[tuple[LogRecord, Contents | None]]:
        """Yield the records that follow each other from the header on, with what they say where that can be told."""
        for record in read_records(self._file, self.number, self._limit):
            self.count += 1
            self._check_lsn(record)
            self.is_sealed = record.kind == Kind.SEAL
            self.end = record.end
            yield record, self.contents(record)
        self._find_ending()

    def contents(self, record: LogRecord) -> Contents | None:
        """Return what a record says; None, and a damage more, where it does not say what its kind must."""
        try:
            return contents_of(record)
        except FormatError as error:
            self.damage.append(Damage(record.offset, str(error)))
            return None

    def strays(self) -> Iterator[LogRecord]:
        """Yield the valid records behind the end, wherever they begin."""
        offset = self.end + 1
        while True:
            record = self._record_at(offset)
            if record is None:
                found = _find_magic(self._file, offset, self._limit)
                if found is None:
                    return
                record = self._record_at(found)
                if record is None:
                    offset = found + 1
                    continue
            yield record
            offset = record.end

    def _read_header(self, name: str) -> SegmentHeader | None:
        data = self._file.read(0, HEADER_BYTES)
        named = segment_number(name)
        self.number = int.from_bytes(data[_NUMBER], "little") if named is None else named
        try:
            header = decode_header(data)
        except FormatError as error:
            self.damage.append(Damage(0, f"the segment's header {_verb(str(error))}"))
            return None
        if header.segment != self.number:
            self.damage.append(Damage(0, f"the header belongs to segment {header.segment}"))
        self.number = header.segment
        return header

    def _check_lsn(self, record: LogRecord) -> None:
        if record.kind == Kind.SEAL:
            return
        if self.last_lsn is not None and record.lsn != self.last_lsn + 1:
            self.damage.append(Damage(record.offset, f"LSN {record.lsn} follows {self.last_lsn}"))
        self.last_lsn = record.lsn
        if self.first_lsn is None:
            self.first_lsn = record.lsn

    def _find_ending(self) -> None:
        seal = "with a seal" if self.is_sealed else "without a seal"
        if self._known_end is not None:
            self.ending = f"at byte {self.end}, {seal}"
            if self.end != self._known_end:
                self._damage_at_end("the record fails its check in a finished segment")
        elif self.end >= self._file.size:
            self.ending = f"at byte {self.end}, {seal}, with the file"
        elif is_zero(self._file, self.end):
            self.ending = f"at byte {self.end}, {seal}; {self._file.size - self.end} bytes of zeros follow"
        else:
            self._judge_tail(seal)

    def _judge_tail(self, seal: str) -> None:
        proof = next((record for record in self.strays() if record.synced > self.end), None)
        if proof is not None:
            self._damage_at_end(f"the record fails its check, and the one at byte {proof.offset} says it was durable")
            return
        tail_bytes = self._file.size - self.end
        self.ending = f"at byte {self.end}, {seal}, in a torn tail of {tail_bytes} bytes"
        self.notes.append(
            f"a torn tail of {tail_bytes} bytes at byte {self.end}: as far as the log can tell it was never durable, "
            "and a start drops it"
        )

    def _damage_at_end(self, what: str) -> None:
        self.ending = f"at byte {self.end}, in damage"
        self.damage.append(Damage(self.end, what))
        end: int | None = None
        for record in self.strays():
            if end is not None and record.offset != end:
                self.damage.append(Damage(end, f"no valid record up to byte {record.offset}"))
            end = record.end
        if end is not None and end < self._limit and not is_zero(self._file, end):
            self.damage.append(Damage(end, f"no valid record up to the end at byte {self._limit}"))

    def _record_at(self, offset: int) -> LogRecord | None:
        size = record_bytes(self._file.read(offset, RECORD_HEAD_BYTES), 0)
        if size is None or offset + size > self._limit:
            return None
        return read_record(self._file.read(offset, size), self.number, offset, offset)


def _find_magic(file: ReadFile, offset: int, limit: int) -> int | None:
    while offset < limit:
        window = file.read(offset, min(_WINDOW_BYTES, limit - offset))
        at = window.find(_RECORD_MAGIC)
        if at >= 0:
            return offset + at
        if len(window) < len(_RECORD_MAGIC):
            return None
        offset += len(window) - len(_RECORD_MAGIC) + 1
    return None


def _verb(what: str) -> str:
    return f"is {what}" if what == "cut short" else what
