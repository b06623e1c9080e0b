"""How fast a simulated world runs: ``python -m benchmarks.simulation``.

Five AP nodes, a client beside each that does 20 operations a second (gets, puts of what was read and one's own, blind
puts), no faults, one processor core. Prints virtual seconds a real second, best and median of the rounds.
"""

from __future__ import annotations

from random import Random
from statistics import median
from time import perf_counter

from kvbus.sim.world import World
from kvbus.testing.recorder import Recorder
from kvbus.torture.campaign import prepare
from kvbus.torture.ledger import Ledger
from kvbus.torture.script import Runner
from kvbus.torture.workload import Habits, Shopper

ROUNDS = 7
NODES, SECONDS = 5, 20.0
RATE = 20.0


def virtual_seconds_a_second(seed: int) -> tuple[float, float]:
    """Run one world; return its speed and the operations a node and virtual second."""
    world, recorder = World(NODES, seed=seed, partitions=4), Recorder()
    world.settle()
    ledger, habits = Ledger(), Habits(keys=8, quorum=2)
    for number, name in enumerate(world.names):
        rng = Random(seed * NODES + number)
        shopper = Shopper(number, name, rng, world.timeline, recorder, ledger, habits)
        Runner(world.timeline, world.open_shell(name, beside=name), shopper.shop(SECONDS, RATE))
    begun = perf_counter()
    world.timeline.run(SECONDS)
    return SECONDS / (perf_counter() - begun), len(recorder.history().operations) / SECONDS / NODES


def main() -> None:
    """Measure and print."""
    prepare()
    speeds: list[float] = []
    for seed in range(ROUNDS):
        speed, rate = virtual_seconds_a_second(seed)
        speeds.append(speed)
        print(f"seed {seed}: {speed:5.1f} virtual seconds a second, {rate:.1f} operations a node and second")
    print(f"median {median(speeds):.1f}, best {max(speeds):.1f}")


if __name__ == "__main__":
    main()
