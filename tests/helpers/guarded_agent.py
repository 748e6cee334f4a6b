"""An agent to be killed: starts the command of its arguments under a guardian, and prints who is who.

python -m tests.helpers.guarded_agent DIRECTORY PROGRAM [ARGUMENT…] → one line "KEEPER GUARDIAN" once it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.helpers.processes import launch, until


def main() -> None:
    from twisted.internet import defer, reactor

    from cpc.worker.processes import GuardedProcesses

    directory = Path(sys.argv[1])
    processes = GuardedProcesses(reactor, directory)
    processes.start(launch(directory / "run", *sys.argv[2:]), lambda exit: print("ended", exit, flush=True))

    async def tell() -> None:
        await until(reactor, lambda: processes.guardian_pid, "the guardian is ready")
        print(processes.keeper_pid, processes.guardian_pid, flush=True)

    defer.ensureDeferred(tell())
    reactor.run()


if __name__ == "__main__":
    main()
