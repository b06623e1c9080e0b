"""What one manifest says, for people: each edit in words, then what counts in the end."""

from __future__ import annotations

from collections.abc import Iterator

from kvbus.core.key_text import engine_key_text
from kvbus.ports.disk import ReadFile
from kvbus.ports.engine_tools import Cell, Inspection, Listing
from kvbus_storage.lsm.manifest_format import VERSION, AddedTable, Edit
from kvbus_storage.tools.manifest_scan import ManifestScan, PlacedEdit
from kvbus_storage.tools.record_contents import range_text
from kvbus_storage.tools.reports import counted, in_order

_KEY_CHARACTERS = 40
_TABLE_COLUMNS = ("level", "run", "table", "entries", "removed", "bytes", "LSN", "keys")


def inspect_manifest(file: ReadFile, name: str, *, limit: int) -> Inspection:
    """Tell what a manifest says.

    Raises:
        VersionError: a newer kvbus wrote it.
    """
    scan = ManifestScan(file.read(0, file.size), name)
    fields: dict[str, Cell] = {"manifest": scan.number, "edits": len(scan.edits), "ends": _ending(scan, file.size)}
    listings = [_changes("changes", scan.edits, limit)]
    if scan.strays:
        listings.append(_changes("changes behind the damage", scan.strays, limit))
    whole = scan.whole
    if whole is not None:
        fields |= {
            "tables that count": len(whole.added),
            "the log counts from segment": whole.base or 0,
            "in tables up to LSN": whole.flushed_lsn or 0,
            "guards": len(whole.guards or ()),
        }
        fields |= {f"group {group} is applied up to": index for group, index in sorted(whole.applied.items())}
        listings += [_tables(whole, limit), *([_hidden(whole, limit)] if whole.hidden else [])]
    return Inspection(
        kind="manifest",
        version=VERSION,
        size_bytes=file.size,
        fields=fields,
        listings=listings,
        damage=in_order(scan.damage),
    )


def _ending(scan: ManifestScan, size_bytes: int) -> str:
    if scan.end == size_bytes:
        return f"at byte {scan.end}, with the file"
    if scan.notes:
        return f"at byte {scan.end}, in a torn edit of {size_bytes - scan.end} bytes, which a start drops"
    return f"at byte {scan.end}, in damage"


def _changes(of: str, edits: list[PlacedEdit], limit: int) -> Listing:
    listing = Listing(of=of, columns=("edit at", "change"), prose=("change",), limit=limit)
    for placed in edits:
        for words in _words(placed.edit):
            listing.add(placed.offset, words)
    return listing


def _words(edit: Edit) -> Iterator[str]:
    for added in edit.added:
        meta = added.meta
        entries = counted(meta.entries, "entry", "entries")
        yield f"{_place(added)}: {entries} in {meta.size_bytes:,} bytes, {_span(added)}"
    for number in edit.removed:
        yield f"table {number} goes"
    for number, start, end in edit.hidden:
        yield f"table {number} hides {range_text(start, end)}"
    if edit.guards is not None:
        cuts = ", ".join(engine_key_text(guard, _KEY_CHARACTERS) for guard in edit.guards)
        yield f"tables are cut before {cuts}" if cuts else "tables are cut nowhere"
    if edit.base is not None:
        yield f"the log counts from segment {edit.base}; up to LSN {edit.flushed_lsn} all is in tables"
    for group, index in edit.applied.items():
        yield f"group {group} is applied up to {index}"


def _place(added: AddedTable) -> str:
    run = f", run {added.run}" if added.level == 0 else ""
    return f"table {added.meta.number} stands in level {added.level}{run}"


def _span(added: AddedTable) -> str:
    first, last = added.meta.first_key, added.meta.last_key
    return f"{engine_key_text(first, _KEY_CHARACTERS)} to {engine_key_text(last, _KEY_CHARACTERS)}"


def _tables(whole: Edit, limit: int) -> Listing:
    listing = Listing(of="tables that count", columns=_TABLE_COLUMNS, keys=("keys",), limit=limit)
    for added in sorted(whole.added, key=lambda each: (each.level, -each.run, each.meta.first_key)):
        meta = added.meta
        listing.add(
            added.level, added.run, meta.number, meta.entries, meta.removals, meta.size_bytes, meta.lsn, _span(added)
        )
    return listing


def _hidden(whole: Edit, limit: int) -> Listing:
    listing = Listing(of="hidden ranges", columns=("table", "keys"), prose=("keys",), limit=limit)
    for number, start, end in whole.hidden:
        listing.add(number, range_text(start, end))
    return listing
