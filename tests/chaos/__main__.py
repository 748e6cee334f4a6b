"""`python -m tests.chaos [--seed N] [--cycles N] [--fault NAME …] [sqlite|postgresql …]`: as long as you like."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run

KINDS = ("sqlite", "postgresql")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="sqlite|postgresql", help="which databases (both)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--directory", type=Path, help="where logs stay if something is wrong (a temporary one)")
    parser.add_argument("--fault", action="append", default=[], help="only this one; may be given several times")
    given = parser.parse_args()
    if wrong := set(given.kinds) - set(KINDS):
        parser.error(f"{wrong.pop()} is not one of {', '.join(KINDS)}")
    top = given.directory or Path(tempfile.mkdtemp(prefix="cpc-chaos-"))
    for kind in given.kinds or KINDS:
        directory = top / f"{kind}-{given.seed}"
        try:
            print(run(directory, kind, given.seed, given.cycles, faults=given.fault, loud=True), flush=True)
        except AssertionError as error:
            print(error, file=sys.stderr)
            return 1
        shutil.rmtree(directory)
    if given.directory is None:
        top.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
