"""ssh to machines that are directories: `python fake_ssh.py [-f] [-N] [-t] [-L PORT:HOST:PORT] NAME [COMMAND]`.

The command runs in `~/machines/NAME` with a Copernicus home of its own. `-L` forwards a port to one of this machine until
the process is ended. Options come before the name.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    """See above."""
    forwards = []
    while arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option == "-L":
            forwards.append([int(part) for part in arguments.pop(0).split(":")[::2]])
    place = Path.home() / "machines" / arguments.pop(0)
    place.mkdir(parents=True, exist_ok=True)
    if forwards:
        return _forward(forwards)
    os.chdir(place)
    environment = {**os.environ, "CPC_HOME": str(place / ".copernicus")}
    os.execvpe("bash", ["bash", "-c", " ".join(arguments)], environment)


def _forward(ports: list[list[int]]) -> int:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.helpers.tunnel import Tunnel

    if os.fork():
        return 0
    os.setsid()
    kept = [Tunnel(target, port) for port, target in ports]
    while kept:
        time.sleep(3600)  # until somebody ends it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
