"""What one table holds, for people."""

from __future__ import annotations

from kvbus.core.key_text import engine_key_text
from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Cell, Inspection, Listing
from kvbus_storage.removed import REMOVED
from kvbus_storage.table.format import VERSION
from kvbus_storage.tools.reports import in_order
from kvbus_storage.tools.table_scan import Block, TableScan

_COLUMNS = ("offset", "stored", "as", "bytes", "entries", "removed", "up to")


def inspect_table(file: ReadFile, name: str, *, limit: int, keys: bool) -> Inspection:
    """Tell what a table holds.

    Raises:
        VersionError: a newer kvbus wrote it.
    """
    scan = TableScan(file, name)
    blocks = Listing(of="blocks", columns=_COLUMNS, keys=("up to",), limit=limit)
    entries = Listing(of="keys", columns=("block", "bytes", "key"), keys=("key",), limit=limit)
    for block in scan.blocks():
        blocks.add(*_row(scan, block))
        if keys:
            for key, record in zip(block.keys, block.records, strict=True):
                standing = "removed" if record is REMOVED else len(record)
                entries.add(block.number, standing, engine_key_text(key))
    return Inspection(
        kind="table",
        version=VERSION,
        size_bytes=file.size,
        fields=_fields(scan),
        listings=[blocks, entries] if keys else [blocks],
        damage=in_order(scan.damage),
    )


def _row(scan: TableScan, block: Block) -> tuple[Cell, ...]:
    assert scan.index is not None
    counts: tuple[Cell, ...] = (block.block_bytes, len(block.keys), block.removals)
    if not block.keys:
        counts = ("", "", "")
    limit = engine_key_text(scan.index.separators[block.number])
    return (block.offset, block.stored_bytes, block.way, *counts, limit)


def _fields(scan: TableScan) -> dict[str, Cell]:
    fields: dict[str, Cell] = {}
    footer, index = scan.footer, scan.index
    if footer is not None:
        fields |= {
            "table": footer.number,
            "entries": footer.entries,
            "removed keys": footer.removals,
            "newest LSN": footer.lsn,
            "filter at byte": footer.filter_offset,
            "index at byte": footer.index_offset,
            "index ends at byte": footer.index_end,
        }
        if scan.bloom is not None:
            a_key = scan.filter_bits / footer.entries if footer.entries else 0.0
            fields["filter"] = f"{scan.filter_bits:,} bits, {a_key:.1f} a key, {scan.probes} probes"
            fields["false positives"] = f"{scan.false_positive_rate:.2%} of absent keys, in theory"
    if index is not None:
        fields["first key"] = engine_key_text(index.first_key)
        fields["last key"] = engine_key_text(index.last_key)
    return fields
