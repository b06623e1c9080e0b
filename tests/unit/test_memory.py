"""What a burst has freed goes back when the burst is over, and only then."""

from __future__ import annotations

from kvbus.runtime.memory import Reclaimer

MIB = 1 << 20


class Process:
    """A process that holds ``used`` MiB and has ``freed`` ones that it could give back."""

    def __init__(self) -> None:
        self.used, self.freed, self.given_back = 50, 0, 0
        self.reclaimer = Reclaimer(lambda: (self.used + self.freed) * MIB, self._give_back)
        self._now = 100.0
        self._turns = 0

    def look(self, turns: int = 5) -> int:
        """Let a second with some turns pass; return how often memory was given back so far."""
        self._now += 1.0
        self._turns += turns
        self.reclaimer.look(self._now, self._turns)
        return self.given_back

    def _give_back(self) -> None:
        self.freed = 0
        self.given_back += 1


def test_freed_memory_is_given_back_once_the_burst_is_over() -> None:
    process = Process()
    assert process.look() == 0
    process.freed = 280
    assert process.look(turns=5000) == 0
    assert process.look() == 1
    assert process.look() == 1


def test_a_second_burst_is_given_back_too() -> None:
    process = Process()
    process.look()
    for count in (1, 2, 3):
        process.freed = 100
        assert process.look() == count


def test_memory_in_use_is_looked_for_eagerly_at_first_then_once_a_minute() -> None:
    process = Process()
    process.look()
    process.used = 500
    counts = [process.look() for _ in range(300)]
    assert counts[29] == 30
    assert counts[299] == 34


def test_what_is_freed_after_a_try_in_the_middle_of_a_burst_is_given_back_too() -> None:
    """A starved node has few turns in a second and passes for idle."""
    process = Process()
    process.look()
    process.used = 400
    assert process.look() == 1
    process.used, process.freed = 50, 350
    for _ in range(4):
        process.look()
    assert process.freed == 0


def test_a_busy_second_makes_it_eager_again() -> None:
    process = Process()
    process.look()
    process.used = 400
    for _ in range(100):
        process.look()
    process.look(turns=5000)
    process.used, process.freed = 50, 350
    process.look()
    assert process.freed == 0


def test_growth_that_is_freed_a_while_later_is_given_back() -> None:
    process = Process()
    process.look()
    process.used = 100
    for _ in range(200):
        process.look()
    process.used = 300
    for _ in range(10):
        process.look()
    process.used, process.freed = 100, 200
    process.look()
    assert process.freed == 0


def test_another_burst_is_not_waited_for() -> None:
    process = Process()
    process.look()
    process.used = 500
    for _ in range(100):
        process.look()
    process.freed = 100
    process.look()
    assert process.freed == 0


def test_a_smaller_process_is_measured_by_its_new_size() -> None:
    process = Process()
    process.used = 500
    process.look()
    process.used = 100
    process.look()
    process.freed = 20
    assert process.look() == 1


def test_it_looks_once_a_second() -> None:
    process = Process()
    process.look()
    process.freed = 100
    process.reclaimer.look(101.5, 0)
    assert process.given_back == 0
