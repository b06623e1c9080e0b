"""What a fault's text cuts."""

from __future__ import annotations

import pytest

from kvbus.core.sides import directed_ways, parted_ways
from kvbus.errors import ConfigError

NAMES = ("n1", "n2", "n3")


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("n1 | n2,n3", ["n1n2", "n1n3", "n2n1", "n3n1"]),
        ("n1", ["n1n2", "n1n3", "n2n1", "n3n1"]),
        ("n2 | n3", ["n2n3", "n3n2"]),
        ("n1|n2|n3", ["n1n2", "n1n3", "n2n1", "n2n3", "n3n1", "n3n2"]),
        ("n1, n2 | n2 ,n3", ["n1n3", "n3n1"]),
        ("n1 -> n2,n3", ["n1n2", "n1n3"]),
    ],
)
def test_a_text_cuts_these_ways_and_no_others(text: str, ways: list[str]) -> None:
    assert ["".join(way) for way in parted_ways(text, NAMES)] == ways


def test_a_star_means_all_nodes() -> None:
    assert directed_ways("* -> n1", NAMES) == [("n2", "n1"), ("n3", "n1")]
    assert len(directed_ways("* -> *", NAMES)) == 6


@pytest.mark.parametrize(
    "text", ["", "n1 | ", "n9 | n1", "n1,n2,n3", "n1 -> n1", "n1 -> n2 -> n3", "n1,,n2", "n1,n2,n3 | n1"]
)
def test_a_text_that_cuts_nothing_is_refused_and_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match="write sides as"):
        parted_ways(text, NAMES)
