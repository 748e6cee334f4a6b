"""`python -m tests.defects [NAME…]`: have each deliberate defect in turn and see that its tests catch it.

Prints a line for each: the defect, the promise that it breaks, what has caught it, seconds. Exits 1 unless all were caught
and the same tests pass without any of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.defects import runs
from tests.defects.catalogue import ALL
from tests.defects.defect import Defect
from tests.defects.patching import Rotten, check


def main() -> int:
    """Run; 0 when all were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.defects", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="only show what there is, and that it applies")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at the same time (default: processors)")
    parser.add_argument("--patience", type=float, default=3.0, help="times the bound of each defect (default: 3)")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the same tests without a defect")
    parser.add_argument("--output", action="store_true", help="show what the tests printed where nothing was caught")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in ALL]
    if unknown:
        parser.error(f"there is no defect {unknown[0]}; --list shows what there is")
    defects = [ALL[name] for name in chosen.names] or list(ALL.values())
    rotten = _rotten(defects)
    if rotten or chosen.list:
        for each in defects if not rotten else ():
            print(f"{each.name:34} {each.promise}")
        return 1 if rotten else 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    return _run(defects, chosen)


def _stop(number: int, frame: object) -> None:
    runs.end_all()
    os._exit(128 + number)


def _rotten(defects: Sequence[Defect]) -> int:
    """Print what does not apply any more; how many."""
    count = 0
    for each in defects:
        try:
            check(each)
        except Rotten as why:
            count += 1
            print(why, file=sys.stderr)
    return count


def _run(defects: Sequence[Defect], chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    missed: list[tuple[Defect, runs.Outcome]] = []
    with ThreadPoolExecutor(max(1, chosen.jobs)) as pool:
        # The longest first, so that the last ones are short and no processor waits for one of them alone.
        clean = [] if chosen.no_baseline else [
            pool.submit(runs.without, command, 600.0 * chosen.patience) for command in _baseline(defects)
        ]  # fmt: skip
        waiting = {
            each.name: pool.submit(runs.with_defect, each, chosen.patience)
            for each in sorted(defects, key=lambda each: -each.seconds)
        }
        print(f"{'defect':34} {'promise':62} {'caught by':70} seconds")
        for each in defects:
            outcome = waiting[each.name].result()
            print(f"{each.name:34} {each.promise[:62]:62} {outcome.by[:70]:70} {outcome.seconds:7.1f}", flush=True)
            if not outcome.caught:
                missed.append((each, outcome))
        bad = [outcome for outcome in (each.result() for each in clean) if outcome.caught]
    for each, outcome in missed:
        print(f"{each.name}: {outcome.by}; {each.promise}")
        if chosen.output:
            print(outcome.output)
    for outcome in bad:
        print(f"without any defect: {outcome.by}\n{outcome.output}")
    caught = len(defects) - len(missed)
    print(f"{caught} of {len(defects)} defects caught in {time.monotonic() - began:.0f} s"
          + ("" if clean else ", not compared with the code as it is")
          + (", and the same tests pass without them" if clean and not bad else ""))  # fmt: skip
    return 1 if missed or bad else 0


def _baseline(defects: Sequence[Defect]) -> list[tuple[str, ...]]:
    """All tests and all seeds of these defects, each once."""
    tests = dict.fromkeys(test for each in defects for test in each.tests)
    seeds: set[int] = {seed for each in defects for part in each.seeds for seed in part}
    ranges = [range(seed, seed + 1) for seed in sorted(seeds)]
    merged: list[range] = []
    for each in ranges:
        if merged and merged[-1].stop == each.start:
            merged[-1] = range(merged[-1].start, each.stop)
        else:
            merged.append(each)
    return [command for part in ((tuple(tests), ()), ((), merged)) for command in runs.commands(*part)]


if __name__ == "__main__":
    sys.exit(main())
