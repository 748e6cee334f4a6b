"""What a dead worker left is taken over, also on a disk that fails in between."""

from __future__ import annotations

import errno

import pytest

from cpc.core.outcome import Outcome
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]


@pytest.mark.parametrize("what", ["write", "spool"])
def test_a_takeover_that_the_disk_broke_off_is_tried_again_soon(what: str) -> None:
    """The owner cannot be written down after the directory was renamed; or what is in it cannot be looked at."""
    here = world(long=Program(1000.0))
    done = here.script.add(1, "true")
    here.script.add(2, "long")
    worker = here.worker()
    here.until(lambda: len(worker.processes.launched) == 2)
    here.stop_server()
    here.reactor.advance(30.0)
    worker.kill()
    left = [1]

    def broken(operation: str, path: str) -> OSError | None:
        this = operation == "write" if what == "write" else path.endswith("spool.log")
        if this and "adopted" in path and left:
            left.pop()
            return OSError(errno.EIO, "Input/output error", path)
        return None

    here.platter.broken = broken
    here.restart_server(away=5.0)
    here.worker(pid=101)
    here.until(lambda: any("cannot be taken over" in line for line in here.said))
    here.until(lambda: here.script.settled(done), within=60.0)
    assert here.script.results[done][0].outcome is Outcome.OK


def test_several_results_that_are_settled_at_once_give_the_directory_up_once() -> None:
    here = world(long=Program(1000.0))
    for number in range(6):
        here.script.add(number, "true")
    worker = here.worker(cores=6)
    here.until(lambda: len(worker.processes.launched) == 6)
    here.stop_server()
    here.reactor.advance(30.0)
    worker.kill()
    here.restart_server(away=5.0)
    again = here.worker(pid=101)
    here.until(lambda: len(here.script.results) == 6)
    here.reactor.advance(20.0)
    assert again.agent.left_behind == 0
    assert [each for each in here.platter.names if "adopted" in each] == []
