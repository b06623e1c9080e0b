"""The log of a directory, checked segment by segment.

Source: FORMATS.md, "Recovery".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvbus.ports.disk import Folder, ReadFile
from kvbus.ports.engine_tools import Damage, FileReport
from kvbus_storage.format_error import FormatError, VersionError
from kvbus_storage.log.format import HEADER_BYTES, SegmentHeader, decode_header, segment_name, segment_number
from kvbus_storage.log.reader import is_zero
from kvbus_storage.tools.reports import Findings, checked, counted, in_order, leftover, missing
from kvbus_storage.tools.segment_scan import SegmentScan

_KIND = "log"


class LogVerification:
    """Checks the segments among ``names`` from ``base`` on; None stands for the oldest one that is there."""

    def __init__(self, folder: Folder, names: Sequence[str], base: int | None) -> None:
        self._folder = folder
        numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
        self._base = base if base is not None else numbers[0] if numbers else 1
        self._below = [number for number in numbers if number < self._base]
        self._there = [number for number in numbers if number >= self._base]
        # Where the segment before ends and its newest LSN; None after damage, or where nothing is known of it.
        self._before: tuple[int, int] | None = (0, 0) if self._base == 1 else None

    def reports(self) -> Iterator[FileReport]:
        """Yield a report a segment, in order, the missing ones included."""
        for number in self._below:
            yield leftover(self._folder, segment_name(number), _KIND, f"the log counts from segment {self._base} on")
        if not self._there:
            if self._base > 1:
                yield missing(segment_name(self._base), _KIND, "the log begins there")
            return
        last = self._there[-1]
        # A log that begins behind segment 1 was given its first segment, header and all, before anything named it.
        may_be_unborn = last > self._base or self._base == 1
        unborn = last if may_be_unborn and self._is_unborn(last) else None
        if unborn is not None:
            last -= 1
        expected = self._base
        for number in (each for each in self._there if each <= last):
            if expected < number:
                self._before = None
                yield _gap(expected, number - 1)
            yield self._segment(number, is_last=number == last)
            expected = number + 1
        if unborn is not None:
            yield leftover(self._folder, segment_name(unborn), _KIND, "it was being created: no header, no records")

    def _segment(self, number: int, *, is_last: bool) -> FileReport:
        before, self._before = self._before, None

        def check(file: ReadFile) -> Findings:
            following = None if is_last else self._header(number + 1)
            scan = SegmentScan(file, segment_name(number), None if following is None else following.previous_end)
            self._check_header(scan, before)
            for _ in scan.records():
                pass
            if not scan.damage and scan.last_lsn is not None:
                self._before = scan.end, scan.last_lsn
            return Findings(_told(scan), in_order(scan.damage), scan.notes)

        return checked(self._folder, segment_name(number), _KIND, check)

    def _check_header(self, scan: SegmentScan, before: tuple[int, int] | None) -> None:
        header = scan.header
        if header is None or before is None or (header.previous_end, header.last_lsn) == before:
            return
        said = f"byte {header.previous_end} and LSN {header.last_lsn}"
        what = f"the header continues {said}, the log before it ends at byte {before[0]} and LSN {before[1]}"
        scan.damage.append(Damage(0, what))

    def _header(self, number: int) -> SegmentHeader | None:
        try:
            return decode_header(self._folder.read(segment_name(number), 0, HEADER_BYTES))
        except (FormatError, VersionError, OSError):
            # That file's own report says so.
            return None

    def _is_unborn(self, number: int) -> bool:
        try:
            file = self._folder.open(segment_name(number))
        except OSError:
            return False
        try:
            decode_header(file.read(0, HEADER_BYTES))
            return False
        except FormatError:
            return is_zero(file, HEADER_BYTES)
        except (VersionError, OSError):
            return False
        finally:
            file.close()


def _gap(first: int, last: int) -> FileReport:
    names = segment_name(first) if first == last else f"{segment_name(first)} to {segment_name(last)}"
    return missing(names, _KIND, "the log goes on behind it")


def _told(scan: SegmentScan) -> str:
    lsns = "" if scan.first_lsn is None else f", LSN {scan.first_lsn} to {scan.last_lsn}"
    ending = "" if scan.damage else ", sealed" if scan.is_sealed else ", not sealed"
    return f"{counted(scan.count, 'record')}{lsns}{ending}"
