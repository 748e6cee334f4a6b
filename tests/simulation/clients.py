"""People in the test tube: they submit, cancel, retry and look, over a network that loses questions and answers.

A call is repeated under the same key until it is answered; whatever was done unanswered must not be done twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core import ids
from cpc.core.digest import of_chunks
from cpc.core.errors import CopernicusError, OverQuota, Unavailable
from cpc.core.resources import GIB, MIB, Amounts
from cpc.core.spec import Dependency, Input, JobSpec
from cpc.server.principal import SERVER, Call
from cpc.worker.waiting import sleep
from tests.simulation.databases import Killed
from tests.simulation.programs import INPUT

if TYPE_CHECKING:
    from tests.simulation.realm import Realm
    from tests.simulation.server import Server

T = TypeVar("T")
Work = Callable[["Server", Call], Awaitable[T]]
TIMEOUT = 20.0


class Client:
    """One person at a machine of their own. `actions` of them, then they watch."""

    def __init__(self, world: Realm, name: str, actions: int) -> None:
        self.world = world
        self.name = name
        self.host = world.network.host(name)
        self.chance = random.Random(world.seed * 31 + len(name) + sum(map(ord, name)))
        self.done = False
        self._left = actions
        self._keys = 0
        self._mine: list[int] = []
        self._own = ""  # a project of mine

    @property
    def mine(self) -> list[int]:
        """My submissions, as far as the server knows them still."""
        return [array for array in self._mine if array in self.world.oracle.known]

    def start(self) -> None:
        """Begin."""
        ensureDeferred(self._live()).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        self.world.oracle.wrong(f"client {self.name}: {failure.getErrorMessage()}\n{failure.getTraceback()}")

    async def _live(self) -> None:
        while self._left:
            self._left -= 1
            await sleep(self.host.reactor, self.chance.uniform(0.1, self.world.plan.span / 20))
            await self._act()
        self.done = True

    async def _act(self) -> None:
        acts = [self._submit] * 6 + [self._cancel, self._retry, self._prioritise, self._fail_attempt, self._drain]
        if self.world.plan.forgetful:
            acts += [self._forget, self._forget, self._make_project, self._delete_project]
        act = self.chance.choice(acts) if self.mine else self._submit
        try:
            await act()
        except CopernicusError as refusal:
            self.world.story.tell(self.name, f"is refused: {refusal.message}")

    # --- calls ----------------------------------------------------------------------------------------------------------

    async def insist(self, what: str, work: Work[T]) -> T:
        """Call until there is an answer; refusals that will not change are raised."""
        self._keys += 1
        call = Call(SERVER, f"{self.name}-{self._keys}", what.encode())
        pause = 1.0
        while True:
            try:
                answer = await self._once(work, call)
                self.world.story.tell(self.name, f"{what}: done")
                return answer
            except (Unavailable, OverQuota):
                await sleep(self.host.reactor, self.chance.uniform(pause / 2, pause))
                pause = min(30.0, pause * 2)

    def _once(self, work: Work[T], call: Call) -> Deferred[T]:
        """One question and its answer, each of which may be lost."""
        world, network = self.world, self.world.network
        answer: Deferred[T] = Deferred()
        timer = self.host.reactor.callLater(TIMEOUT, lambda: answer.errback(Unavailable("no answer")))

        def deliver(value: Any) -> None:
            if timer.active():
                timer.cancel()
                answer.callback(value) if not isinstance(value, Failure) else answer.errback(value)

        def reply(value: Any) -> None:
            if isinstance(value, Failure) and value.check(Killed):
                return  # in the middle of it the server's process has gone
            lost = world.chance.random() < world.plan.lost_replies
            if lost:
                world.fault("answer lost")
            if not lost and not network.blocked(world.name, self.name):
                network.reactor.callLater(network.latency(), deliver, value)

        def arrive() -> None:
            server = world.server
            if network.blocked(self.name, world.name):
                return
            if world.chance.random() < world.plan.lost_replies:
                world.fault("question lost")
                return
            if server is None or not server.ready:
                network.reactor.callLater(network.latency(), deliver, Failure(Unavailable("nothing listens there")))
            else:
                server.host.reactor.callLater(0, begin, server)

        def begin(server: Server) -> None:
            ensureDeferred(_as_coroutine(work, server, call)).addBoth(reply)

        network.reactor.callLater(network.latency(), arrive)
        return answer

    # --- acts -----------------------------------------------------------------------------------------------------------

    async def _submit(self) -> None:
        chance = self.chance
        kind = chance.choice(["ok"] * 5 + ["bad", "flaky", "steps", "steps", "copy", *self.world.plan.also])
        seconds = chance.choice([0.0, 1.0, chance.uniform(2.0, 60.0), chance.uniform(20.0, 200.0)])
        seconds = min(seconds, 80.0) if kind == "grow" else seconds
        seconds *= self.world.plan.scale
        size = chance.choice([0, 10, 1000, 70_000, 300_000]) if kind == "ok" else 0
        size = chance.choice([4 << 20, (4 << 20) + 1, 9_000_000]) if kind == "big" else size
        alone = kind in ("poison", "big", "grow")
        fields: dict[str, Any] = {
            "argv": ("run", kind, f"{seconds:.3f}", str(size)),
            "array": chance.choice([0, 0, 0, 1, 3, 8]) if not alone else 0,
            "need": Amounts(
                cores=chance.choice([1, 1, 1, 2, 4]),
                memory=chance.choice([0, 0, 512 * MIB, GIB + 3, 3 * GIB + chance.randrange(200) * MIB]),
            ),
            "priority": chance.choice([0, 0, 0, 3, -2]),
            "max_failures": chance.choice([1, 2, 3]),
            "max_losses": 3 if kind == "poison" else 50,
            "checkpoint": ("p.cpt",) if kind in ("steps", "grow") else (),
            "labels": chance.choice([(), (), (), (), ("fast",), ("nowhere",)]),
            "walltime": chance.choice([0.0, 0.0, 90.0, 400.0]) if kind not in ("steps", "grow") else 0.0,
            "max_cores": chance.choice([0, 0, 4]),
        }
        if chance.random() < 0.2:
            fields |= self._many_brief_ones()
        if chance.random() < 0.2:
            fields |= {"executable": "sim", "versions": chance.choice(["", ">=2"])}
        project = chance.choice(["p", "p", "q", self._own or "q"])
        fields["after"] = self._after(fields, project)
        if kind == "copy":
            fields["inputs"] = (Input("in", await self._upload(project)),)
        spec = JobSpec(**fields)
        await self.submit(spec, project)

    async def submit(self, spec: JobSpec, project: str) -> None:
        """Submit, until the server has said that it has it."""
        what = f"submits {spec.argv[1]} {float(spec.argv[2]):.1f} s × {spec.size} to {project}"
        made = await self.insist(what, lambda server, call: server.jobs.submit(call, project, spec, False))
        array = ids.read(made.id)[0]
        if ids.incarnation(array) < self.world.oracle.life and not self.world.project_of(array):
            return  # the server that said so has been restored since, and the submission is lost with it
        self.world.oracle.acknowledged(array, spec)
        self.world.story.tell(self.name, f"has {made.id}")
        self._mine.append(array)

    def _many_brief_ones(self) -> dict[str, Any]:
        """What workers are given ahead of their room; of some submissions a few jobs take long."""
        chance = self.chance
        kind, seconds = chance.choice(["ok", "mixed"]), chance.choice([0.01, 0.05, 0.3])
        return {
            "argv": ("run", kind, f"{seconds:.3f}", "10"), "array": chance.choice([15, 30, 60]),
            "walltime": 0.0, "max_cores": 0, "checkpoint": (), "max_losses": 50,
        }  # fmt: skip

    def _after(self, fields: dict[str, Any], project: str) -> tuple[Dependency, ...]:
        chance, known = self.chance, self.world.oracle.known
        here = [array for array in self.mine if self.world.project_of(array) == project]
        if not here or chance.random() < 0.6:
            return ()
        array = chance.choice(here)
        before = known[array].spec
        if "nowhere" in before.labels:
            return ()
        on: Literal["success", "end"] = "end" if chance.random() < 0.3 else "success"
        if before.array and before.array == fields["array"] and chance.random() < 0.7:
            return (Dependency(job=ids.show(array), on=on, pairwise=True),)
        if before.array and chance.random() < 0.5:
            return (Dependency(job=ids.show(array + chance.randrange(before.size), True), on=on),)
        return (Dependency(job=ids.show(array), on=on),)

    async def _upload(self, project: str) -> Any:
        content = of_chunks([INPUT])
        view = await self.insist(
            f"announces a file to {project}", lambda server, call: server.files.announce(call, project, content)
        )
        if not view.done:
            await self.insist("sends it", lambda server, _: server.files.part(SERVER, view.id, 0, INPUT))
        return content

    def _some(self) -> tuple[str, list[int]]:
        """One of my submissions, or an element of it; as people write it, and which jobs that is."""
        array = self.chance.choice(self.mine)
        size = self.world.oracle.known[array].spec.size
        if self.world.oracle.known[array].spec.array and self.chance.random() < 0.5:
            index = self.chance.randrange(size)
            return ids.show(array + index, True), [array + index]
        return ids.show(array), list(range(array, array + size))

    async def _cancel(self) -> None:
        shown, which = self._some()
        self.world.oracle.known[ids.array(which[0])].cancelled.update(which)
        await self.insist(f"cancels {shown}", lambda server, call: server.jobs.cancel(call, shown, "enough"))

    async def _retry(self) -> None:
        shown, which = self._some()
        self.world.oracle.known[ids.array(which[0])].retried.update(which)
        await self.insist(f"retries {shown}", lambda server, call: server.jobs.retry(call, shown))

    async def _prioritise(self) -> None:
        shown, _ = self._some()
        priority = self.chance.randrange(-5, 6)
        await self.insist(
            f"sets the priority of {shown} to {priority}",
            lambda server, call: server.jobs.prioritise(call, shown, priority),
        )

    async def _fail_attempt(self) -> None:
        array = self.chance.choice(self.mine)
        shown = ids.show(array, bool(self.world.oracle.known[array].spec.array))
        await self.insist(
            f"declares the attempt of {shown} lost", lambda server, call: server.jobs.fail_attempt(call, shown)
        )

    async def _forget(self) -> None:
        array = self.chance.choice(self.mine)
        self.world.oracle.known[array].forgotten = True
        await self.insist(f"forgets {ids.show(array)}", lambda server, call: server.jobs.forget(call, ids.show(array)))

    async def _make_project(self) -> None:
        if self._own:
            return
        name = f"{self.name}-own"  # the same again and again: it inherits nothing
        await self.insist(
            f"makes project {name}",
            lambda server, call: server.projects.create(replace(call, who=self.world.given.owner), name),
        )
        self._own = name

    async def _delete_project(self) -> None:
        if not self._own:
            return
        name, self._own = self._own, ""
        for array, known in self.world.oracle.known.items():
            if self.world.project_of(array) == name:
                known.forgotten = True
                known.cancelled.update(known.jobs)
        await self.insist(f"deletes project {name}", lambda server, call: server.projects.delete(call, name))

    async def _drain(self) -> None:
        machines = self.world.machines()
        name = self.world.worker_name(self.chance.choice(machines)) if machines else ""
        if not name:
            return
        finish = self.chance.random() < 0.5
        await self.insist("drains a worker", lambda server, call: server.workers.drain(call, name, "repair", finish))
        await sleep(self.host.reactor, self.chance.uniform(1.0, 120.0))
        await self.insist("resumes it", lambda server, call: server.workers.resume(call, name))


async def _as_coroutine(work: Work[T], server: Server, call: Call) -> T:
    return await work(server, call)
