"""The commit log's writing side: one write a commit, one sync where it is asked for.

The file of the next segment may be there before the segment is: one that a flush has made superfluous, blank. Its name
is durable and its blocks are its own, so that neither its begin nor a sync has anything to journal.

Rules: a segment's header is synced before its first record is written; a segment is synced before the next one begins;
no recovered segment is appended to. An append that failed must be cut back before anything else is written.

Source: FORMATS.md, "Segment header", "Log record".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from errno import EEXIST

from kvbus.core.types import Lsn
from kvbus.ports.disk import AppendFile, Disk
from kvbus_storage.log.format import (
    HEADER_BYTES,
    RECORD_HEAD_BYTES,
    Kind,
    SegmentHeader,
    encode_header,
    encode_record_head,
    segment_name,
)
from kvbus_storage.log.recovery import LogTail

FILL_STEP_BYTES = 256 << 10
"""Zeros written ahead of a synced segment's tail. A step costs one commit about 0.2 ms; larger steps stall longer."""


class CommitLog:
    """The log of one engine, open for appending behind what was recovered.

    ``has_spare`` says that somebody has made a blank file of the next segment's name, durably.
    """

    def __init__(self, disk: Disk, tail: LogTail, *, fill_step_bytes: int) -> None:
        self._disk = disk
        self._fill_step_bytes = fill_step_bytes
        self._segment = tail.segment
        self._tail = tail.end
        self._file: AppendFile | None = None
        self._synced = tail.end
        # Bytes of each closed segment that counts, by its number.
        self._closed = dict(tail.segment_sizes)
        self._last_lsn = tail.last_lsn
        self._synced_lsn = tail.last_lsn
        self.has_spare = False

    @property
    def last_lsn(self) -> Lsn:
        """The newest batch in the log, synced or not."""
        return self._last_lsn

    @property
    def synced_lsn(self) -> Lsn:
        """The newest batch that survives a power cut."""
        return self._synced_lsn

    @property
    def tail(self) -> LogTail:
        """Where the log ends now."""
        return LogTail(
            segment=self._segment,
            end=self._tail,
            last_lsn=self._last_lsn,
            segment_sizes=self._closed | ({self._segment: self._tail} if self.is_open else {}),
        )

    @property
    def segment(self) -> int:
        """The number of the newest segment, open or not."""
        return self._segment

    @property
    def segment_bytes(self) -> int:
        """Bytes in the open segment; 0 when none is open."""
        return self._tail if self._file is not None else 0

    @property
    def is_open(self) -> bool:
        """Say whether a segment is open; the next append opens one."""
        return self._file is not None

    def append(self, kinds: Sequence[Kind], payloads: Sequence[bytes]) -> None:
        """Write a record for each of ``payloads`` with a single write; they take the next LSNs.

        Raises:
            OSError: nothing of it counts; call :meth:`cut_back` before going on.
        """
        file = self._file or self.open_next()
        parts: list[bytes] = []
        offset = self._tail
        lsn: int = self._last_lsn
        for kind, payload in zip(kinds, payloads, strict=True):
            lsn += 1
            parts.append(self._head(offset, lsn, kind, payload))
            parts.append(payload)
            offset += RECORD_HEAD_BYTES + len(payload)
        file.append(b"".join(parts))
        self._tail = offset
        self._last_lsn = Lsn(lsn)

    def sync(self) -> None:
        """Make everything appended so far survive a power cut.

        Raises:
            OSError: fatal, the kernel may have dropped the pages.
        """
        if self._file is not None and self._synced < self._tail:
            self._file.sync()
            self._synced = self._tail
        self._synced_lsn = self._last_lsn

    def cut_back(self) -> None:
        """Drop what a failed append left behind the last good record, durably.

        Raises:
            OSError: fatal, the file's tail is unknown.
        """
        if self._file is not None:
            self._file.cut_back(self._tail)
            self._synced = self._tail
            self._synced_lsn = self._last_lsn

    def open_next(self) -> AppendFile:
        """Open the next segment; none may be open.

        Raises:
            OSError: there is none; a full disk may have room later.
        """
        number = self._segment + 1
        header = SegmentHeader(number, self._tail, self._last_lsn)
        file, is_named = self._next_file(segment_name(number))
        try:
            file.append(encode_header(header))
            file.sync()
            if not is_named:
                self._disk.sync_folder()
        except OSError:
            file.close()
            # After a full disk there is a next time; a file with half a header would be in its way.
            self._disk.remove(segment_name(number))
            raise
        self._file = file
        self._segment = number
        self._tail = self._synced = HEADER_BYTES
        return file

    def _next_file(self, name: str) -> tuple[AppendFile, bool]:
        """Return the next segment's file, and whether its name is durable."""
        is_named, self.has_spare = self.has_spare, False
        if is_named:
            with suppress(FileNotFoundError):
                return self._reuse(name), True
        with suppress(FileExistsError):
            return self._disk.create(name, fill_step_bytes=self._fill_step_bytes), False
        # It is there, and nobody has said so yet.
        return self._reuse(name), False

    def _reuse(self, name: str) -> AppendFile:
        if self._disk.read(name, 0, HEADER_BYTES).strip(b"\0"):
            raise FileExistsError(EEXIST, "It is no blank file", name)
        return self._disk.reuse(name, fill_step_bytes=self._fill_step_bytes)

    def seal(self) -> None:
        """Sync the open segment, mark its end and close it; the next append opens another one.

        Raises:
            OSError: the log is synced up to its last record and has no mark; call :meth:`cut_back` before going on.
        """
        if self._file is not None:
            self.sync()
            self.mark_end()
            self.sync()
            self.release()

    def mark_end(self) -> None:
        """Write behind the last record of the open segment that nothing follows.

        Raises:
            OSError: call :meth:`cut_back` before going on.
        """
        assert self._file is not None
        head = self._head(self._tail, self._last_lsn, Kind.SEAL, b"")
        self._file.append(head)
        self._tail += len(head)

    def forget(self, base: int) -> None:
        """Count no more than the segments from ``base`` on."""
        self._closed = {segment: size for segment, size in self._closed.items() if segment >= base}

    def release(self, *, keeps_fill: bool = False) -> None:
        """Close the open segment as it is, with or without the zeros ahead of its tail."""
        if self._file is not None:
            self._file.close(keeps_fill=keeps_fill)
            self._file = None
            self._closed[self._segment] = self._tail

    def _head(self, offset: int, lsn: int, kind: Kind, payload: bytes) -> bytes:
        return encode_record_head(
            segment=self._segment, offset=offset, lsn=lsn, synced=self._synced, kind=kind, payload=payload
        )
