"""Work that a thread cannot do well: it takes a whole core, may never end, or may crash its interpreter.

Each body has a process of its own, which stays warm: what a module has loaded is there for the next run. Past
its timeout it is killed, with all that it began. The line at the end matters: a process imports this file.
"""

import os
from functools import cache

from onebeat import Onebeat, interval, process, seconds

beat = Onebeat(zone="UTC")


@cache
def primes(below: int) -> list[int]:
    """Return the primes below a number: what is made once in each process, and kept there."""
    print(f"looking for the primes below {below:,}")  # printed lines are lines of the run
    sieve = bytearray([1]) * below
    for n in range(2, int(below**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, below, n)))
    return [n for n in range(2, below) if sieve[n]]


def count(below: int) -> dict[str, int]:
    """Count primes, with a core of its own."""
    return {"primes": len(primes(below)), "process": os.getpid()}


def never_ends() -> None:
    """Do what no thread could be stopped from."""
    while True:
        sum(range(1000))


beat.declare("count-primes", interval(seconds=1), process(count, 100_000), timeout=seconds(60))
beat.declare("runaway", interval(seconds=5), process(never_ends), timeout=seconds(1))

if __name__ == "__main__":
    beat.serve(processes=2)
