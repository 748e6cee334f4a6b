"""A server's pools as they would be carried out, a simple queue, and model batch systems, on one virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable

from msgspec.structs import replace

from cpc.core.resources import Amounts
from cpc.pools import learning, nodes
from cpc.pools.allocation import Allocation, Effect, Event, Reason, State, apply
from cpc.pools.facts import PER_NODE, Ask, Decision, Demand, Learned, NodeRecord, Pool, Worker
from cpc.pools.scale import decide
from cpc.queue.match import Exact
from cpc.queue.requirement import Requirement
from tests.simulation.pools.batch import Batch, Entry
from tests.simulation.pools.tasks import Hand, Task
from tests.simulation.pools.trace import Job

POLL = 30.0
#: The server decides at most so often.
PACE = 2.0
#: What a poll does not know was submitted too lately to be in it, or is not there.
SURE = 60.0
#: The program that pools' workers have.
PROGRAMS = (("mdrun", "2024.1"),)


class World:
    """Everything. `check` is called after every event with the world."""

    def __init__(
        self, pools: list[Pool], jobs: list[Job], seed: int, check: Callable[[World], None] = lambda _: None
    ) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.check = check
        self.pools = {pool.number: pool for pool in pools}
        self.batches: dict[int, Batch] = {}
        self.learned: dict[int, Learned] = {pool.number: Learned() for pool in pools}
        self.records: dict[tuple[int, str], NodeRecord] = {}
        self.allocations: dict[str, Allocation] = {}
        self.tasks = [Task(job, number, job.seconds) for number, job in enumerate(jobs)]
        self.waiting: dict[int, Task] = {}
        self.hands: dict[int, Hand] = {}
        self.intervals: list[tuple[float, float, int, int]] = []  # (begin, end, cores, pool) of what ran to some use
        self.asked: list[tuple[float, Ask]] = []
        self.decisions = 0
        self.last: Decision = Decision()
        self.before: list[Task] = []  # what waited at the last decision
        self.story: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count(1)
        self._numbers = itertools.count(1)
        self._due = 0.0
        self.seconds: dict[tuple[int, Requirement], float] = {}  # by class, how long jobs of it took
        self.began: dict[tuple[int, Requirement], dict[int, float]] = defaultdict(
            dict
        )  # by class, when what runs began
        for task in self.tasks:
            self.after(task.job.at, lambda task=task: self._arrive(task))
        self.after(POLL, self._poll)

    def add(self, number: int, batch: Batch) -> None:
        """Put a batch system behind a pool."""
        self.batches[number] = batch
        batch.on_start = lambda entry: self._started(number, entry)
        batch.on_end = self._ended

    # -- time

    def after(self, delay: float, call: Callable[[], None]) -> None:
        """Call it so many seconds from now."""
        heapq.heappush(self._heap, (self.now + max(0.0, delay), next(self._count), call))

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def run(self, until: float, quiet: bool = True) -> None:
        """Until then, or with `quiet` until all is done and gone."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, call = heapq.heappop(self._heap)
            call()
            self.check(self)
            if quiet and self.done and not self.alive:
                return

    @property
    def done(self) -> bool:
        """Whether every job has ended that ever can."""
        return all(task.ended or task.job.hopeless for task in self.tasks)

    @property
    def alive(self) -> bool:
        """Whether an allocation, a worker or a job of a batch system is left."""
        live = any(one.state.live for one in self.allocations.values())
        return live or bool(self.hands) or any(batch.entries for batch in self.batches.values())

    def say(self, text: str) -> None:
        """One line of the story."""
        self.story.append(f"{self.now:10.0f}  {text}")

    # -- jobs

    def _arrive(self, task: Task) -> None:
        self.waiting[task.number] = task
        self.place()

    def place(self) -> None:
        """Jobs to workers, in order; each to the worker that it fills best. Workers for one job first take one of its size."""
        hands = [hand for hand in self.hands.values() if not hand.draining and hand.free > 0]
        for hand in [hand for hand in hands if hand.asked_for is not None and not hand.used]:
            alike = (task for task in self.waiting.values() if task.kind[1].size == hand.asked_for)
            task = next((task for task in alike if self._takes(hand, task.job)), None)
            if task is not None:
                self._begin(task, hand)
        stuck: set[tuple[int, int, float, bool, str]] = set()
        for task in list(self.waiting.values()):
            job = task.job
            kind = (job.project, job.cores, job.walltime, job.checkpoints, job.program)
            if kind in stuck:
                continue
            fitting = [hand for hand in hands if self._takes(hand, job)]
            if not fitting:
                stuck.add(kind)
                continue
            self._begin(task, min(fitting, key=lambda hand: (hand.free, hand.number)))
        self.changed()

    def _takes(self, hand: Hand, job: Job) -> bool:
        return (
            hand.free >= job.cores
            and hand.gpus >= job.gpus
            and hand.project in (0, job.project)
            and not (hand.one_job and hand.used)
            and (job.walltime <= hand.deadline - self.now or (job.checkpoints and hand.deadline > self.now))
        )

    def _begin(self, task: Task, hand: Hand) -> None:
        del self.waiting[task.number]
        task.tries += 1
        task.began = task.began or self.now
        hand.free -= task.job.cores
        hand.gpus -= task.job.gpus
        hand.runs[task.number] = self.began[task.kind][task.number] = self.now
        hand.idle_since = 0.0
        hand.used = True
        one = self.allocations.get(hand.token)
        if one is not None and not one.used and one.state.live:
            self.allocations[hand.token] = replace(one, used=True)
        if hand.bad:
            self.after(20.0, lambda: self._fail(hand))
            return
        self.after(task.left, lambda began=self.now: self._finish(task, hand, began))

    def _finish(self, task: Task, hand: Hand, began: float) -> None:
        if hand.gone or hand.runs.get(task.number) != began:
            return
        self._off(task, hand)
        task.ended = self.now
        self.intervals.append((began, self.now, task.job.cores, self._pool(hand)))
        before = self.seconds.get(task.kind, task.job.seconds)
        self.seconds[task.kind] = before + 0.25 * (task.job.seconds - before)
        record = self.records.get((self._pool(hand), hand.node))
        if record is not None:
            self.records[record.pool, record.node] = nodes.worked(record)
        if not hand.runs:
            hand.idle_since = self.now
            if hand.draining or hand.one_job:
                self._leave(hand)
        self.place()

    def _off(self, task: Task, hand: Hand) -> None:
        del hand.runs[task.number], self.began[task.kind][task.number]
        hand.free += task.job.cores
        hand.gpus += task.job.gpus

    def _pool(self, hand: Hand) -> int:
        return next(number for number, batch in self.batches.items() if batch.name == hand.node.rstrip("0123456789"))

    def _requeue(self, hand: Hand, kept: bool) -> None:
        """Its jobs wait again: from where they were if they have checkpoints, from the start otherwise."""
        for number, began in list(hand.runs.items()):
            task = self.tasks[number]
            self._off(task, hand)
            if kept and task.job.checkpoints:
                self.intervals.append((began, self.now, task.job.cores, self._pool(hand)))
                task.left = max(1.0, task.left - (self.now - began))
            self.waiting[number] = task

    # -- workers

    def _started(self, number: int, entry: Entry) -> None:
        """The nodes of an allocation begin their scripts."""
        pool = self.pools[number]
        count = entry.ask.nodes if pool.platform in PER_NODE else 1
        life = entry.life
        for index in range(count):
            self.after(
                self.chance.uniform(10, 40), lambda index=index: self._join(number, entry, life, entry.nodes[index])
            )

    def _join(self, number: int, entry: Entry, life: int, node: str) -> None:
        if entry.life != life or entry.state != "running":
            return
        pool, batch = self.pools[number], self.batches[number]
        one = self.allocations.get(entry.token)
        if one is None or one.state in (State.ENDED, State.ORPHANED, State.LEAVING) or entry.copy:
            # Its token has ended, or is in use: the server turns the worker away, and its script ends.
            batch.left(entry, Reason.LEFT)
            return
        nodes_of_it = 1 if pool.platform in PER_NODE else entry.ask.nodes
        each = entry.ask.each
        total = Amounts(cores=each.cores * nodes_of_it, gpus=each.gpus * nodes_of_it, memory=1 << 36)
        hand = Hand(
            next(self._numbers), entry.token, entry, node, total, total.cores, total.gpus,
            entry.started + entry.ask.walltime - pool.margin, entry.ask.project, entry.ask.direct,
            entry.ask.asked_for, self.now, bad=node in batch.bad,
        )  # fmt: skip
        self.hands[hand.number] = hand
        self._happens(entry.token, Event.JOINED, at=entry.started)
        one = self.allocations[entry.token]
        self.learned[number] = learning.joined(self.learned[number], one, self.now, total, PROGRAMS)
        self.after(hand.deadline - self.now, lambda: self._leave(hand))
        self.place()

    def _fail(self, hand: Hand) -> None:
        """A worker on a bad node is lost."""
        if hand.gone:
            return
        key = (self._pool(hand), hand.node)
        record = self.records.get(key, NodeRecord(pool=key[0], node=hand.node))
        self.records[key] = nodes.failed(record, self.now, "the worker was lost")
        self._requeue(hand, False)
        self._remove(hand)
        self.batches[key[0]].left(hand.entry, Reason.FAILED)
        self.place()

    def _leave(self, hand: Hand) -> None:
        """A worker hands back what it runs, and goes; the script ends with the last one."""
        if hand.gone:
            return
        self._requeue(hand, True)
        self._remove(hand)
        if not any(other.entry is hand.entry for other in self.hands.values()):
            self.batches[self._pool(hand)].left(hand.entry, Reason.LEFT)
        self.place()

    def _remove(self, hand: Hand) -> None:
        hand.gone = True
        del self.hands[hand.number]
        one = self.allocations.get(hand.token)
        if one is not None and not any(other.token == hand.token for other in self.hands.values()):
            self.allocations[hand.token] = replace(one, alone_at=self.now)

    def _ended(self, entry: Entry) -> None:
        """The batch system has ended an allocation under its workers."""
        for hand in [hand for hand in self.hands.values() if hand.entry is entry]:
            self._requeue(hand, True)
            self._remove(hand)
        self.place()

    # -- the server

    def changed(self) -> None:
        """Something has: decide soon."""
        self._decide_at(self.now + PACE)

    def _decide_at(self, when: float) -> None:
        if self._due <= self.now or when < self._due:
            self._due = when
            self.after(when - self.now, lambda: self._decide_if(when))

    def _decide_if(self, when: float) -> None:
        if self._due == when:
            self._due = 0.0
            self.decide()

    def demand(self) -> list[Demand]:
        """What waits, by class."""
        classes: dict[tuple[int, Requirement], list[Task]] = defaultdict(list)
        for task in self.waiting.values():
            classes[task.kind].append(task)
        return [
            Demand(
                project=project,
                requirement=requirement,
                exact=Exact(
                    Amounts(cores=tasks[0].job.cores, gpus=tasks[0].job.gpus),
                    tasks[0].job.cores,
                    tasks[0].job.walltime,
                    tasks[0].job.checkpoints,
                ),
                count=len(tasks),
                waited=self.now - min(task.job.at for task in tasks),
                seconds=self.seconds.get((project, requirement), 0.0),
                running=len(began),
                longest=self.now - began[0] if began else 0.0,
                half=self.now - began[len(began) // 2] if began else 0.0,
            )
            for (project, requirement), tasks in classes.items()
            for began in ([*self.began[project, requirement].values()],)
        ]

    def workers(self) -> list[Worker]:
        """All that are joined."""
        found = []
        for hand in self.hands.values():
            labels = self.pools[self._pool(hand)].labels
            found.append(
                Worker(
                    number=hand.number, token=hand.token, total=hand.total, programs=PROGRAMS, labels=labels,
                    free=Amounts(cores=hand.free, gpus=hand.gpus, memory=hand.total.memory), project=hand.project,
                    idle_since=hand.idle_since, used=hand.used, draining=hand.draining or (hand.one_job and hand.used),
                    deadline=hand.deadline, node=hand.node,
                )
            )  # fmt: skip
        return found

    def decide(self) -> None:
        """One decision, carried out."""
        self.decisions += 1
        self.before = list(self.waiting.values())
        live = [one for one in self.allocations.values() if one.state.live]
        decision = decide(
            self.now,
            list(self.pools.values()),
            self.demand(),
            live,
            self.workers(),
            self.records.values(),
            self.learned,
        )
        self.last = decision
        for ask in decision.asks:
            self.asked.append((self.now, ask))
            token = f"cpc-{next(self._numbers)}"
            self.allocations[token] = Allocation(
                token=token, pool=ask.pool, state=State.ASKED, asked_at=self.now, nodes=ask.nodes, each=ask.each,
                walltime=ask.walltime, project=ask.project, direct=ask.direct, asked_for=ask.asked_for,
            )  # fmt: skip
            self.say(f"asks {self.pools[ask.pool].name} for {token}")
            self.after(self.chance.uniform(0.2, 3.0), lambda token=token, ask=ask: self._submit(token, ask))
        for token in decision.needed:
            self.allocations[token] = replace(self.allocations[token], needed_at=self.now)
        for event, stops in (
            (Event.CANCELLED, decision.cancels), (Event.DISMISSED, decision.leaves), (Event.OVERDUE, decision.overdue),
        ):  # fmt: skip
            for stop in stops:
                self._happens(stop.token, event, reason=stop.reason, words=stop.why)
        if decision.again_at:
            self._decide_at(max(decision.again_at, self.now + PACE))

    def _submit(self, token: str, ask: Ask) -> None:
        answer = self.batches[ask.pool].submit(token, ask)
        known = self.learned[ask.pool]
        if answer == "accepted":
            self.learned[ask.pool] = learning.accepted(known)
            self._happens(token, Event.ACCEPTED)
            return
        words = "Invalid qos" if answer == "refused" else "no answer"
        self.learned[ask.pool] = learning.refused(known, self.now, words)
        self._happens(token, Event.REFUSED if answer == "refused" else Event.SILENT, words=words)

    def _happens(
        self, token: str, event: Event, at: float = 0.0, reason: Reason = Reason.NONE, words: str = ""
    ) -> None:
        """An event of an allocation, with its effects."""
        before = self.allocations[token]
        one, effects = apply(before, event, self.now, at=at, reason=reason, words=words)
        self.allocations[token] = one
        if one.state is not before.state:
            self.say(f"{token} {before.state} -> {one.state}: {event} {reason} {words}".rstrip())
            self.changed()
        number = one.pool
        if Effect.RESTART in effects:
            self.learned[number] = learning.ran(self.learned[number], before, self.now)
        if Effect.START in effects:
            self.learned[number] = learning.started(self.learned[number], one)
        if Effect.CLOSE in effects:
            self.learned[number] = learning.ended(self.learned[number], one)
        if Effect.CANCEL in effects:
            self.batches[number].cancel(token)
        if Effect.CANCEL_OTHER in effects:
            self.batches[number].cancel(token, copies=True)
        if Effect.TELL in effects:
            for hand in [hand for hand in self.hands.values() if hand.token == token]:
                self._leave(hand)

    def _poll(self) -> None:
        """Ask every batch system about everything."""
        self.after(POLL, self._poll)
        for number, batch in self.batches.items():
            found = batch.poll()
            if found is None:
                continue
            seen: dict[str, list[Entry]] = defaultdict(list)
            for entry in found:
                seen[entry.token].append(entry)
            for token, one in list(self.allocations.items()):
                if one.pool == number and one.state.live and token not in seen and self.now - one.asked_at > SURE:
                    self._happens(token, Event.MISSING)
            for token, entries in seen.items():
                if token in self.allocations:
                    self._see(token, entries)

    def _see(self, token: str, entries: list[Entry]) -> None:
        alive = [entry for entry in entries if entry.state != "ended"]
        if len(alive) > 1:
            self._happens(token, Event.DUPLICATE)
        entry = next((entry for entry in alive if not entry.copy), alive[0] if alive else entries[-1])
        one = self.allocations[token]
        if one.state in (State.UNSURE, State.ASKED) and alive:
            self.learned[one.pool] = learning.accepted(self.learned[one.pool])
        if entry.state == "waiting":
            self._happens(token, Event.SEEN_WAITING)
        elif entry.state == "running":
            again = one.state is State.RUNNING and entry.restarts > one.restarts
            self._happens(token, Event.SEEN_AGAIN if again else Event.SEEN_RUNNING, at=entry.started)
        elif one.state is not State.ENDED:
            self._happens(token, Event.SEEN_ENDED, at=entry.ended, reason=entry.reason)
