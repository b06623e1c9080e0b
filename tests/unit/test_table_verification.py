"""Tables that pass all their checksums and are wrong all the same, as a fault of the writer would make them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kvbus_storage.table.block import encode_block
from kvbus_storage.table.bloom import Filter, hash_key
from kvbus_storage.table.format import Footer, encode_footer, encode_index, encode_stored
from kvbus_storage.tools.table_scan import TableScan
from tests.unit.storage_directory import BytesFile

KEYS = [b"\0\0\0\1\0\2%c" % letter for letter in b"abcdef"]


def table(
    blocks: Sequence[Sequence[bytes]],
    *,
    separators: Sequence[bytes] | None = None,
    ends: tuple[bytes, bytes] | None = None,
    filtered: Sequence[bytes] = KEYS,
    entries: int | None = None,
    removals: int = 0,
    last_size: int = 0,
) -> bytes:
    """Write a table of these blocks of keys; what is given beside them is said of them."""
    stored = [encode_stored(encode_block(keys, [b"r"] * len(keys)), "none") for keys in blocks]
    sizes = [len(block) for block in stored]
    sizes[-1] += last_size
    first, last = ends or (blocks[0][0], blocks[-1][-1])
    body = b"".join(stored)
    bloom = encode_stored(Filter.of_hashes([hash_key(key) for key in filtered]).encode(), "none")
    index = encode_stored(encode_index(first, last, separators or [keys[-1] for keys in blocks], sizes), "none")
    footer = Footer(
        number=1,
        filter_offset=len(body),
        index_offset=len(body) + len(bloom),
        index_end=len(body) + len(bloom) + len(index),
        entries=sum(map(len, blocks)) if entries is None else entries,
        removals=removals,
        lsn=1,
    )
    return body + bloom + index + encode_footer(footer)


def damage(data: bytes) -> list[str]:
    scan = TableScan(BytesFile(data), "table-00000001")
    for _ in scan.blocks():
        pass
    return [each.what for each in scan.damage]


def test_a_right_table_is_whole() -> None:
    assert damage(table([KEYS[:3], KEYS[3:]])) == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (table([KEYS[:3], KEYS[3:]], filtered=KEYS[:1]), "the filter denies"),
        (table([KEYS], entries=5), "the footer says 5 entries with 0 removals, the blocks have 6 with 0"),
        (table([KEYS], removals=1), "the footer says 6 entries with 1 removals, the blocks have 6 with 0"),
        (table([[KEYS[0], KEYS[2], KEYS[1], KEYS[3]]]), "block 0: the keys do not ascend at 00000001/2/b"),
        (table([KEYS[:3], KEYS[2:]]), "block 1: it holds keys that the index does not look for there"),
        (table([KEYS[3:], KEYS[:3]]), "the index's separators do not ascend"),
        (table([KEYS], separators=[KEYS[4]]), "block 0: it holds keys that the index does not look for there"),
        (table([KEYS], ends=(KEYS[1], KEYS[5])), "block 0: its first key is not the one in the index"),
        (table([KEYS], ends=(KEYS[0], KEYS[4])), "block 0: its last key is not the one in the index"),
        (table([KEYS], last_size=1), "the filter begins at"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, what: str) -> None:
    assert any(what in each for each in damage(data)), damage(data)


def test_offsets_that_are_out_of_order_are_named() -> None:
    data = table([KEYS])
    footer = Footer(number=1, filter_offset=9, index_offset=5, index_end=7, entries=6, removals=0, lsn=1)
    assert damage(data[:-72] + encode_footer(footer)) == ["the footer's offsets are not in order"]


def test_a_block_that_is_none_is_named() -> None:
    good = encode_stored(encode_block(KEYS, [b"r"] * len(KEYS)), "none")
    nonsense = encode_stored(b"\xff" * (len(good) - len(encode_stored(b"", "none"))), "none")
    (what,) = damage(table([KEYS]).replace(good, nonsense))
    assert what.startswith("block 0 passes its check and is no block all the same")
