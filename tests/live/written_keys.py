"""What a writer under test does to an engine, number by number, and what the engine must hold afterwards.

Each number is one small change, mostly a record, at times a removal or a dropped range; it writes itself at ``LAST``,
so that whoever reads an engine knows how far its writer had come.
"""

from __future__ import annotations

from collections.abc import Callable

from kvbus.ports.engine import Engine

LAST = b"last"
KEYS = 3000
_PURGE_EVERY, _DROP_EVERY = 7, 1009
_DROPPED_SHARE = 8
_SCRAMBLER = 2_654_435_761

Change = Callable[[Engine], object]


def key_of(number: int) -> bytes:
    """Return the key that ``number`` writes; successive ones lie far apart."""
    return b"k%08x" % (number % KEYS * _SCRAMBLER % 2**32)


def value_of(number: int) -> bytes:
    """Return the record that ``number`` writes: 60 to 220 bytes that do not compress away."""
    return b"%d " % number + (b"%x" % (number * 0x9E3779B97F4A7C15 % 2**64)) * (4 + number % 10)


def dropped_by(number: int) -> tuple[bytes, bytes]:
    """Return the range of keys that ``number`` drops."""
    width = 2**32 // _DROPPED_SHARE
    start = number // _DROP_EVERY % _DROPPED_SHARE * width
    return b"k%08x" % start, b"k%08x" % (start + width - 1)


def write(engine: Engine, number: int) -> None:
    """Do to ``engine`` what ``number`` stands for; the last step notes the number."""
    mark = number.to_bytes(8, "big")
    if number % _DROP_EVERY == 0:
        engine.drop_range(*dropped_by(number))
        engine.apply([LAST], [mark])
    elif number % _PURGE_EVERY == 0:
        engine.purge([key_of(number)])
        engine.apply([LAST], [mark])
    else:
        engine.apply([key_of(number), LAST], [value_of(number), mark])


def last_number(engine: Engine) -> int:
    """Return the newest number that ``engine`` holds."""
    return int.from_bytes(engine.get(LAST) or b"", "big")


class WrittenKeys:
    """What an engine must hold, as far as :meth:`check` has followed it."""

    def __init__(self) -> None:
        self._number = 0
        self._held: dict[bytes, bytes] = {}

    def check(self, engine: Engine, acknowledged: int) -> int:
        """See that nothing up to ``acknowledged`` is missing and nothing else is there; return the newest number.

        A number that the writer's end cut short may have done its first step and not noted itself.
        """
        stored = last_number(engine)
        assert stored >= acknowledged, f"number {acknowledged} was acknowledged, the engine ends with {stored}"
        while self._number < stored:
            self._number += 1
            self._follow(self._held, self._number)
        held = dict(engine.scan(b"", b"\xff"))
        assert held.pop(LAST, b"") == (stored.to_bytes(8, "big") if stored else b"")
        begun = dict(self._held)
        if (stored + 1) % _PURGE_EVERY == 0 or (stored + 1) % _DROP_EVERY == 0:
            self._follow(begun, stored + 1)
        if held not in (self._held, begun):
            wrong = [key for key in self._held.keys() | held.keys() if held.get(key) != self._held.get(key)]
            shown = [(key, held.get(key), self._held.get(key)) for key in sorted(wrong)[:3]]
            raise AssertionError(f"{len(wrong)} keys are wrong at number {stored}: (key, found, expected) {shown}")
        keys = sorted(self._held)[:: max(len(self._held) // 50, 1)]
        assert engine.multi_get(keys) == [held.get(key) for key in keys]
        return stored

    def _follow(self, held: dict[bytes, bytes], number: int) -> None:
        if number % _DROP_EVERY == 0:
            start, end = dropped_by(number)
            for key in [key for key in held if start <= key < end]:
                del held[key]
        elif number % _PURGE_EVERY == 0:
            held.pop(key_of(number), None)
        else:
            held[key_of(number)] = value_of(number)
