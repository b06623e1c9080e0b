"""What one segment of the log holds, for people."""

from __future__ import annotations

from kvbus.core.key_text import engine_key_text
from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Cell, Inspection, Listing
from kvbus_storage.log.format import VERSION, LogRecord
from kvbus_storage.tools.record_contents import Contents, kind_name
from kvbus_storage.tools.reports import in_order
from kvbus_storage.tools.segment_scan import SegmentScan

_COLUMNS = ("offset", "LSN", "kind", "keys", "bytes", "synced", "holds")


def inspect_segment(file: ReadFile, name: str, *, limit: int, keys: bool) -> Inspection:
    """Tell what a segment holds, and where and why it ends.

    Raises:
        VersionError: a newer kvbus wrote it.
    """
    scan = SegmentScan(file, name)
    records, behind = _records("records", limit), _records("records behind the end", limit)
    entries = Listing(of="keys", columns=("offset", "bytes", "key"), keys=("key",), limit=limit)
    for record, contents in scan.records():
        _add(records, record, contents)
        if keys and contents is not None:
            for key, standing in zip(contents.keys, contents.standing, strict=True):
                entries.add(record.offset, standing, engine_key_text(key))
    for record in scan.strays():
        _add(behind, record, scan.contents(record))
    fields: dict[str, Cell] = {"segment": scan.number}
    if scan.header is not None:
        fields["segment before ends at byte"] = scan.header.previous_end
        fields["newest LSN before"] = scan.header.last_lsn
    fields["records"] = scan.count
    fields["ends"] = scan.ending
    listings = [records, *([entries] if keys else []), *([behind] if behind.total else [])]
    return Inspection(
        kind="log segment",
        version=VERSION,
        size_bytes=file.size,
        fields=fields,
        listings=listings,
        damage=in_order(scan.damage),
    )


def _records(of: str, limit: int) -> Listing:
    return Listing(of=of, columns=_COLUMNS, keys=("holds",), limit=limit)


def _add(listing: Listing, record: LogRecord, contents: Contents | None) -> None:
    count = 0 if contents is None else len(contents.keys)
    words = "damaged" if contents is None else contents.words
    size_bytes = len(record.payload)
    listing.add(record.offset, record.lsn, kind_name(record.kind), count, size_bytes, record.synced, words)
