"""The agent under everything at once: cuts, stalls, lost answers, kills and power losses, by seed. Nothing spooled is lost."""

from __future__ import annotations

import os
import random

import pytest

from cpc.core.outcome import Outcome
from cpc.worker import collecting
from tests.helpers.memory_disk import Node
from tests.helpers.programs import Program
from tests.helpers.worker_world import World
from tests.simulation.network import Faults

BIG = b"".join(bytes([65 + number]) * (4 << 20) for number in range(2)) + b"end"
JOBS = 12


def programs(chance: random.Random) -> dict[str, Program]:
    return {
        "quick": Program(chance.uniform(0.1, 3.0), writes=((0.05, "stdout", b"ok\n"),)),
        "slow": Program(chance.uniform(30.0, 200.0), writes=((1.0, "x.cpt", b"1"), (20.0, "x.cpt", b"2"))),
        "big": Program(chance.uniform(5.0, 20.0), writes=((0.5, "deep/big", BIG),)),
    }


@pytest.mark.parametrize("seed", range(24))
def test_every_job_ends_once_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    faults = Faults(cut=0.004, stall=0.004, stall_time=30.0)
    here = World(seed, programs(chance), faults)
    here.script.lose_answers = chance.randrange(3)
    here.script.postpone = chance.randrange(3)
    jobs = {}
    for number in range(JOBS):
        kind = chance.choice(["quick", "slow", "big"])
        jobs[here.script.add(number, kind, checkpoint_patterns=("*.cpt",))] = kind
    pid = 100
    worker = here.worker(pid=pid, cores=3)
    spooled: set[object] = set()
    for _ in range(chance.randrange(2, 6)):
        here.reactor.advance(chance.uniform(1.0, 60.0))
        event = chance.choice(["restart", "kill", "power", "partition", "freeze"])
        if event == "restart":
            here.restart_server(away=chance.uniform(1.0, 300.0))
        elif event == "partition":
            here.network.partition("n1", "s", both=chance.random() < 0.5)
            here.reactor.advance(chance.uniform(1.0, 200.0))
            here.network.heal()
        elif event == "freeze":
            worker.host.freeze()
            here.reactor.advance(chance.uniform(1.0, 100.0))
            worker.host.thaw()
        else:
            spooled |= set(worker.agent.room.spool.leases())
            worker.kill()
            if event == "power":
                here.platter.power_loss()
            pid += 1
            worker = here.worker(pid=pid, cores=3)
        # The server's part: what was leased and is not held any more is leased again.
        here.reactor.advance(70.0)
        held = {lease for turn in here.script.turns[-1:] for lease in turn.holds}
        for lease, task in list(here.script.leased.items()):
            if lease not in held and lease not in here.script.results and lease not in worker.agent.desk.holds():
                del here.script.leased[lease]
                here.script.tasks.append(task)
    here.until(lambda: all(job in here.script.results for job in jobs) or _idle(here, worker), within=5000.0)
    here.reactor.advance(400.0)
    for job, results in here.script.results.items():
        assert results[0].outcome is Outcome.OK
        if jobs[job] == "big":  # type: ignore[index]
            assert here.script.file(job, "deep/big") == BIG
    assert spooled <= set(here.script.results), "a spooled result was lost"
    assert worker.agent.desk.holds() == ()
    assert worker.leftovers == []
    assert [each for each in here.platter.names if "adopted" in each] == []
    here.check()


def _idle(here: World, worker: object) -> bool:
    """A lease that was lost with its worker is the server's to repeat; the script does that only at certain times."""
    for lease, task in list(here.script.leased.items()):
        if lease not in here.script.results and lease not in worker.agent.desk.holds():  # type: ignore[attr-defined]
            del here.script.leased[lease]
            here.script.tasks.append(task)
    return False


@pytest.mark.parametrize("less", [0, 1])
def test_a_result_that_the_disk_has_lost_before_it_was_sent_is_run_again(
    less: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are hashed when the job ends, and by the server; what changed in between is this worker's fault."""
    monkeypatch.setattr(collecting, "FRESH", 0)  # of what was read to hash it, nothing is at hand any more
    big = os.urandom(5 << 20)
    here = World(programs={"make": Program(30.0, writes=((0.5, "big.dat", big),))})
    job = here.script.add(1, "make")
    here.worker()

    def made() -> list[Node]:
        return [node for path, node in here.platter.names.items() if path.endswith("/big.dat")]

    here.until(made)
    here.stop_server()
    here.reactor.advance(60.0)
    (node,) = made()
    node.data = big[: (4 << 20) - less] + b"!" + big[(4 << 20) + 1 :]
    here.restart_server()
    here.until(lambda: here.script.settled(job))
    result = here.script.results[job][0]
    assert result.outcome is Outcome.REFUSED
    assert "lost on the worker's disk" in result.message
    assert "big.dat is not what it was" in result.message
