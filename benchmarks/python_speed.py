"""How fast this Python is: ``PYTHON benchmarks/python_speed.py`` prints seconds and the interpreter's path.

Builds of one version differ by a third, because not all are profile-guided (pyenv's are not unless asked), and kvbus is
bound by its interpreter. The Makefile asks every Python on the path and takes the fastest. One that cannot make
environments, or that the dependencies have no wheels for, prints nothing and fails.
"""

import sys
from importlib.util import find_spec
from struct import Struct
from time import perf_counter

_OLDEST, _NEWEST = (3, 11), (3, 14)
_NEEDED = ("ensurepip", "venv")
_ROUNDS = 12
_RECORDS = 3000

_head = Struct("<IQQ")


class _Counter:
    def __init__(self) -> None:
        self.seen: dict[bytes, int] = {}

    def take(self, record: bytes) -> bool:
        _, epoch, counter = _head.unpack_from(record)
        key = record[4:12]
        if self.seen.get(key, -1) >= counter:
            return False
        self.seen[key] = counter + epoch
        return True


def seconds() -> float:
    """Return the shortest time of some rounds of what a node does all day: bytes, structs, dicts, calls."""
    times: list[float] = []
    for _ in range(_ROUNDS):
        begun = perf_counter()
        counter = _Counter()
        taken = [counter.take(_head.pack(1, number, number % 7)) for number in range(_RECORDS)]
        assert len(taken) == _RECORDS
        times.append(perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    known = sys.implementation.name == "cpython" and _OLDEST <= sys.version_info[:2] <= _NEWEST
    if not known or not all(map(find_spec, _NEEDED)):
        sys.exit(1)
    print(f"{seconds():.6f} {sys.executable}")
