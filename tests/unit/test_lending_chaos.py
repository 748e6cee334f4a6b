"""Links are cut, servers killed, workers lost, trust taken and given again, by seed; in the end every job has succeeded once."""

from __future__ import annotations

import os
import random

import pytest

from cpc.core.errors import CopernicusError
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import Hand, House, World

__all__ = ["make"]

SEEDS = range(int(os.environ.get("CPC_TEST_EXAMPLES", "3")))
FAR = Agreement(lend_on=16)
SHAPES: dict[str, tuple[str, ...]] = {
    "chain": ("ab", "bc", "cd"), "ring": ("ab", "bc", "cd", "da"), "star": ("ab", "ac", "ad"),
    "mesh": ("ab", "ac", "ad", "bc", "bd", "cd"),
}  # fmt: skip


class Story:
    """One run. `down`: servers that do not run; `broken`: links that carry nothing."""

    def __init__(self, world: World, shape: str, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.links = SHAPES[shape]
        self.down: set[str] = set()
        self.broken: set[str] = set()
        self.parted: set[str] = set()  # links whose servers do not trust each other now
        self.told: list[str] = []
        for one, other in self.links:
            world.net.trust(one, other, FAR, FAR)
        self.workers = [world[name].worker(cores=2, ahead=20) for name in "aab"]
        self.jobs: dict[str, int] = {}

    def tell(self, what: str) -> None:
        self.told.append(f"{self.world.reactor.seconds():.1f} {what}")

    def submit(self, size: int) -> None:
        for name in "acd":
            self.jobs[name] = self.world[name].submit("sleep", array=size, max_losses=1000)

    def step(self) -> None:
        """Something happens, and time goes on."""
        roll = self.chance.random()
        if roll < 0.06:
            self.kill(self.chance.choice("abcd"))
        elif roll < 0.14 and self.down:
            self.start(self.chance.choice(sorted(self.down)))
        elif roll < 0.22:
            self.cut(self.chance.choice(self.links))
        elif roll < 0.34 and self.broken:
            self.heal(self.chance.choice(sorted(self.broken)))
        elif roll < 0.37:
            self.lose(self.chance.choice(self.workers))
        elif roll < 0.40:
            self.revoke(self.chance.choice(self.links))
        elif roll < 0.46 and self.parted:
            self.trust(self.chance.choice(sorted(self.parted)))
        for worker in self.workers:
            self.live(worker)
        self.world.run(self.chance.choice([0.05, 0.5, 5.0, 20.0]))

    def live(self, worker: Hand) -> None:
        """The worker comes back if it is away, ends some of its jobs, and says how it is."""
        if worker.house.name in self.down:
            return
        if worker.connection is None or worker.connection.closed:
            worker.busy = False
            try:
                worker.join()
            except CopernicusError as error:
                self.tell(f"{worker.name} cannot join: {error}")
                return
            self.tell(f"{worker.name} has joined with {worker.jobs}")
        done = [lease for lease in list(worker.tasks)[:2] if self.chance.random() < 0.5]
        if done:
            worker.finish(*done, wall_seconds=0.05)
        else:
            worker.beat()

    def kill(self, name: str) -> None:
        if name not in self.down:
            self.tell(f"{name} is killed")
            self.world[name].kill()
            self.down.add(name)

    def start(self, name: str) -> None:
        self.tell(f"{name} starts")
        self.down.discard(name)
        self.world[name].start()
        for link in self.links:
            if link in self.broken and name in link and not self.down & set(link):
                self.world.net.cut(*link)

    def cut(self, link: str) -> None:
        if link not in self.broken and not self.down & set(link):
            silent = self.chance.random() < 0.5
            self.tell(f"{link} is {'silent' if silent else 'cut'}")
            (self.world.net.silence if silent else self.world.net.cut)(*link)
            self.broken.add(link)

    def heal(self, link: str) -> None:
        if not self.down & set(link):
            self.tell(f"{link} heals")
            self.broken.discard(link)
            self.world.net.heal(*link)

    def revoke(self, link: str) -> None:
        if link not in self.parted and not self.down & set(link):
            self.tell(f"the trust of {link} ends")
            self.parted.add(link)
            self.world.net.revoke(*link)

    def trust(self, link: str) -> None:
        if not self.down & set(link):
            self.tell(f"{link} trust each other again")
            self.parted.discard(link)
            self.world.net.agree(link[0], link[1], FAR)
            self.world.net.agree(link[1], link[0], FAR)
            self.broken.add(link)
            self.heal(link)

    def lose(self, worker: Hand) -> None:
        if worker.connection is not None and not worker.connection.closed:
            self.tell(f"{worker.name} is lost")
            worker.kill()
            worker.boot += "+"

    def end(self) -> None:
        """Everything is mended, and comes to its end."""
        self.tell("peace")
        for name in sorted(self.down):
            self.start(name)
        for link in sorted(self.parted):
            self.trust(link)
        for link in sorted(self.broken):
            self.heal(link)
        for _ in range(150):
            for worker in self.workers:
                self.live(worker)
            self.world.run(5.0)


def succeeded_once(house: House, array: int, size: int) -> None:
    for index in range(size):
        assert house.outcomes(array + index).count(Outcome.OK.value) == 1


def room_is_right(house: House) -> None:
    """The index knows what each worker has, and the loans are those of the index."""
    for session in house.queue.index.sessions.values():
        if session.home:
            continue
        used = sum(lent.granted.cores for lent in session.lent.values() if not lent.ahead)
        used += sum(run.granted.cores for run in house.queue.index.held(session.worker) if not run.ahead)
        assert session.free.cores == session.total.cores - used


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_happens_every_job_succeeds_once(make: Make, shape: str, seed: int) -> None:
    world = make(*"abcd")
    story = Story(world, shape, seed)
    story.submit(12)
    for _ in range(60):
        story.step()
    story.end()
    try:
        for name, array in story.jobs.items():
            assert world[name].states(array, 12) == {"succeeded": 12}
            succeeded_once(world[name], array, 12)
            room_is_right(world[name])
            assert not world[name].queue.index.running
    except AssertionError:
        print("\n".join(story.told))
        raise
