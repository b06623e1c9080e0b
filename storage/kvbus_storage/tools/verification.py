"""All that the engine keeps in a directory, checked by the rules of its start, with nothing changed.

A start stops at the first damage; this goes on to the last file.

Source: FORMATS.md, "Recovery" and "Manifest".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from kvbus.core.key_text import engine_key_text
from kvbus.ports.disk import Folder, ReadFile
from kvbus.ports.engine_tools import Damage, FileReport
from kvbus_storage.format_error import FormatError
from kvbus_storage.log.format import BASE_NAME, decode_base, segment_number
from kvbus_storage.lsm.manifest_format import AddedTable, Edit, manifest_name, manifest_number
from kvbus_storage.table.format import table_name, table_number
from kvbus_storage.tools.log_verification import LogVerification
from kvbus_storage.tools.manifest_scan import ManifestScan
from kvbus_storage.tools.reports import Findings, checked, counted, in_order, leftover, missing, size_of
from kvbus_storage.tools.table_scan import TableScan

_MANIFEST, _TABLE, _BASE = "manifest", "table", "log base"
_KEY_CHARACTERS = 40


def verify(folder: Folder) -> Iterator[FileReport]:
    """Check everything in ``folder``, and yield a report a file (see the port)."""
    return _Verification(folder).reports()


class _Verification:
    """One pass over a directory. ``_whole`` is what the manifest that counts says; None where there is none."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._names = folder.list()
        self._manifests = sorted(self._numbers(manifest_number), reverse=True)
        self._scan: ManifestScan | None = None
        self._whole: Edit | None = None
        self._base: int | None = None

    def reports(self) -> Iterator[FileReport]:
        yield from self._manifest_reports()
        yield from self._table_reports()
        yield from self._base_reports()
        yield from LogVerification(self._folder, self._names, self._base).reports()
        for name in self._names:
            if name.endswith(".tmp"):
                yield leftover(self._folder, name, "temporary", "of an interrupted replace; the next one overwrites it")
            elif not _is_engines(name):
                size_bytes = size_of(self._folder, name)
                yield FileReport(name=name, kind="other", state="other", size_bytes=size_bytes, holds="")

    def _numbers(self, number_of: Callable[[str], int | None]) -> list[int]:
        return sorted(number for name in self._names if (number := number_of(name)) is not None)

    def _manifest_reports(self) -> Iterator[FileReport]:
        """Report on all manifests, newest first: the highest whole one counts."""
        damaged: list[FileReport] = []
        counting: str | None = None
        for name in map(manifest_name, self._manifests):
            if counting is not None:
                yield leftover(self._folder, name, _MANIFEST, f"{counting} counts")
                continue
            report = checked(self._folder, name, _MANIFEST, partial(self._check_manifest, name))
            if self._scan is None:
                # Nobody can tell whether it counts: it cannot be read, or a newer version wrote it.
                yield report
                continue
            if not self._scan.is_whole:
                damaged.append(report)
                continue
            counting, self._whole = name, self._scan.whole
            # The one before it is removed only when a new one is whole and synced.
            for each in damaged:
                yield leftover(self._folder, each.name, _MANIFEST, f"it was being written; {name} counts")
            yield report
        if counting is None:
            if self._is_first_start(damaged):
                name = damaged.pop().name
                yield leftover(self._folder, name, _MANIFEST, "of a first start that was cut short; no table counts")
            yield from damaged
        self._base = None if self._whole is None else self._whole.base

    def _is_first_start(self, damaged: Sequence[FileReport]) -> bool:
        """Say whether the one manifest is the very first, has no whole edit, and there is no table for it to name."""
        first = manifest_name(1)
        if [report.name for report in damaged] != [first] or self._numbers(table_number):
            return False
        return self._scan is not None and not self._scan.edits

    def _check_manifest(self, name: str, file: ReadFile) -> Findings:
        self._scan = None
        scan = self._scan = ManifestScan(file.read(0, file.size), name)
        holds = counted(len(scan.edits), "edit")
        if scan.whole is None:
            return Findings(holds, scan.damage, scan.notes)
        holds += f": {counted(len(scan.whole.added), 'table')}, log from segment {scan.whole.base}"
        return Findings(holds, [*scan.damage, *_overlaps(scan.whole.added)], scan.notes)

    def _table_reports(self) -> Iterator[FileReport]:
        named = {} if self._whole is None else {added.meta.number: added for added in self._whole.added}
        there = self._numbers(table_number)
        for number in sorted({*named, *there}):
            name, added = table_name(number), named.get(number)
            if number not in there:
                yield missing(name, _TABLE, "the manifest names it")
            elif added is None and self._whole is not None:
                yield leftover(self._folder, name, _TABLE, "no manifest names it")
            else:
                yield checked(self._folder, name, _TABLE, partial(_check_table, name, added))

    def _base_reports(self) -> Iterator[FileReport]:
        """Report on the log base, which counts where there is no manifest."""
        if BASE_NAME not in self._names:
            if not self._manifests:
                self._base = 1
        elif self._manifests:
            size_bytes = size_of(self._folder, BASE_NAME)
            yield FileReport(
                name=BASE_NAME, kind=_BASE, state="ok", size_bytes=size_bytes, holds="the manifest counts instead"
            )
        else:
            yield checked(self._folder, BASE_NAME, _BASE, self._check_base)

    def _check_base(self, file: ReadFile) -> Findings:
        try:
            self._base = decode_base(file.read(0, file.size))
        except FormatError as error:
            return Findings("", [Damage(0, f"the log base {error}")])
        return Findings(f"log from segment {self._base}")


def _check_table(name: str, added: AddedTable | None, file: ReadFile) -> Findings:
    scan = TableScan(file, name, None if added is None else added.meta)
    blocks = sum(1 for _ in scan.blocks())
    words = [] if added is None else [f"level {added.level}"]
    if scan.footer is not None:
        words.append(f"{counted(scan.footer.entries, 'entry', 'entries')} in {counted(blocks, 'block')}")
    return Findings(", ".join(words), in_order(scan.damage))


def _overlaps(added: list[AddedTable]) -> list[Damage]:
    """Return what breaks the rule that tables of one run do not overlap."""
    runs: dict[tuple[int, int], list[AddedTable]] = {}
    for each in added:
        runs.setdefault((each.level, each.run), []).append(each)
    found: list[Damage] = []
    for (level, _), tables in runs.items():
        tables.sort(key=lambda each: each.meta.first_key)
        for one, other in pairwise(tables):
            if other.meta.first_key <= one.meta.last_key:
                key = engine_key_text(other.meta.first_key, _KEY_CHARACTERS)
                what = f"tables {one.meta.number} and {other.meta.number} of level {level} overlap at {key}"
                found.append(Damage(None, what))
    return found


def _is_engines(name: str) -> bool:
    return name == BASE_NAME or any(
        number_of(name) is not None for number_of in (manifest_number, table_number, segment_number)
    )
