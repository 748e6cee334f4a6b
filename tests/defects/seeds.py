"""`python -m tests.defects.seeds 0-59 …`: worlds of the simulation until one is broken. 1 when one was, and its first words."""

from __future__ import annotations

import gc
import os
import sys

from tests.simulation import logs
from tests.simulation.server import given
from tests.simulation.world import World, run


def main(arguments: list[str]) -> int:
    """Run the worlds of these ranges."""
    done = 0
    for argument in arguments:
        first, last = argument.split("-")
        for seed in range(int(first), int(last) + 1):
            world: World = run(seed)
            if world.broken:
                print(f"seed {seed}: {world.broken[0]}", flush=True)
                return 1
            done += 1
            logs.listen()
            del world
            if not done % 20:
                gc.collect()
    print(f"nothing broke in {done} worlds", flush=True)
    return 0


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    finally:
        given().remove()
    sys.stdout.flush()
    os._exit(code)  # the coroutines of killed processes have words at their end that nobody needs
