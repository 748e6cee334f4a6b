"""What a transcript of the machines' protocol is made by: one worker's whole life at a server, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cpc.core import ids
from cpc.core.digest import of_chunks
from cpc.core.lease import Lease
from cpc.core.spec import Input, JobSpec
from cpc.server.principal import SERVER, Call
from cpc.wire.identity import Name, Role
from cpc.wire.tls import ClientTls
from tests.simulation.programs import INPUT
from tests.simulation.server import HERE, PORT, YEARS, given
from tests.simulation.world import Plan, World
from tests.upgrade import raw_peer
from tests.upgrade.raw_peer import RawPeer
from tests.upgrade.tape import Line, Tape, recording

PLAN = Plan(workers=1, clients=0, heartbeat_time=60.0, checkpoint_interval=20.0)
CERTIFICATE_TIME = 600.0
WORKER = "n1"
GREETING = {"p": 1, "oldest": 1, "release": "a program of somebody", "caps": []}


def begin(world: World) -> None:
    """The server, whose certificates are short-lived so that one is renewed."""
    world.start_server()
    world.reactor.run_until(lambda: world.server is not None and world.server.ready)
    assert world.server is not None
    world.server.machines.terms.certificate_time = world.server.bundles.terms.certificate_time = CERTIFICATE_TIME


def told(lines: Sequence[Line], one: Callable[[Line], None]) -> None:
    """Each line in its turn; where one is not kept, its number is said."""
    for number, line in enumerate(lines, 1):
        try:
            one(line)
        except AssertionError as error:
            raise AssertionError(f"line {number}: {error}") from error


def act(world: World, what: str, facts: dict[str, Any]) -> Any:
    """Something that people do to the server."""
    server = world.server
    assert server is not None
    call = Call(SERVER, f"by hand {world.reactor.steps} {what}")
    match what:
        case "submit":
            spec = msgspec.convert(facts["spec"], JobSpec)
            made = world.call(lambda server: server.jobs.submit(call, "p", spec, False))
            return ids.read(made.id)[0]
        case "upload":
            content = of_chunks([INPUT])
            view = world.call(lambda server: server.files.announce(call, "p", content))
            return view.done or world.call(lambda server: server.files.part(SERVER, view.id, 0, INPUT))
        case "cancel":
            return world.call(lambda server: server.jobs.cancel(call, ids.show(facts["job"]), "enough"))
        case "drain":
            name = world.call(lambda server: server.workers.page(SERVER)).items[0].name
            return world.call(lambda server: server.workers.drain(call, name, "repair", False))
        case "resume":
            name = world.call(lambda server: server.workers.page(SERVER)).items[0].name
            return world.call(lambda server: server.workers.resume(call, name))
        case "follow":
            return server.machines.tails.follow(Lease(*facts["lease"]))
    raise AssertionError(what)


class Conversation:
    """Records one."""

    def __init__(self) -> None:
        self.world = World(11, PLAN)
        self.tape: Tape

    def run(self) -> list[Line]:
        """All lines."""
        with recording() as tape:
            self.tape = tape
            try:
                self._talk()
            finally:
                self.world.close()
        assert not self.world.broken, self.world.broken
        return tape.lines

    def _act(self, what: str, **facts: Any) -> Any:
        self.tape.act(what, **facts)
        return act(self.world, what, facts)

    def _submit(self, *argv: str, **fields: Any) -> int:
        spec = JobSpec(argv=("run", *argv), **fields)
        job: int = self._act("submit", spec=msgspec.to_builtins(spec, builtin_types=(bytes,)))
        self.world.oracle.acknowledged(job, spec)
        return job

    def _ended(self, job: int, state: str) -> None:
        self.world.until(lambda: self.world.state(job).label == state, 600.0)
        self._settled()

    def _settled(self) -> None:
        self.world.until(lambda: self.world.workers[WORKER].quiet, 600.0)

    def _runs(self) -> Lease:
        worker = self.world.workers[WORKER]
        self.world.until(lambda: worker.processes.running(), 600.0)
        assert worker.agent is not None
        return next(iter(worker.agent.desk.attempts))

    def _talk(self) -> None:
        world = self.world
        begin(world)
        world.workers[WORKER].start()
        world.until(lambda: world.joined(WORKER))
        self._ended(self._submit("ok", "1", "10", name="small"), "succeeded")
        self._ended(self._submit("ok", "5", "150000", name="large", walltime=100.0), "succeeded")
        self._ended(self._submit("bad", "1"), "failed")
        self._act("upload")
        self._ended(self._submit("copy", "1", inputs=(Input("in", of_chunks([INPUT])),)), "succeeded")
        self._hand_back()
        self._cancel()
        self._cut()
        world.reactor.advance(CERTIFICATE_TIME / 2)  # the certificate is renewed
        self._refusals()
        self.tape.act("leave")
        agent = world.workers[WORKER].agent
        assert agent is not None
        agent.leave("SIGTERM")
        world.reactor.run_until(lambda: agent.link.session is None or agent.link.session.connection.closed, 100.0)
        world.reactor.advance(1.0)

    def _hand_back(self) -> None:
        """From one checkpoint to the next."""
        job = self._submit("steps", "100", checkpoint=("p.cpt",))
        self._runs()
        self.world.reactor.advance(45.0)
        self._act("drain")
        self.world.until(lambda: self.world.state(job).label == "waiting", 100.0)
        self._settled()
        self._act("resume")
        self._ended(job, "succeeded")

    def _cancel(self) -> None:
        """Somebody watches, then has seen enough."""
        job = self._submit("ok", "500", "10")
        lease = self._runs()
        self._act("follow", lease=list(msgspec.to_builtins(lease)))
        self.world.reactor.advance(5.0)
        self.world.oracle.known[job].cancelled.add(job)
        self._act("cancel", job=job)
        self._ended(job, "cancelled")

    def _cut(self) -> None:
        """The connection is lost while a job runs."""
        job = self._submit("ok", "60", "10")
        self._runs()
        self.world.reactor.advance(3.0)
        self.tape.act("cut")
        for link in self.world.network.links_of(WORKER):
            self.world.network.cut(link)
        self._ended(job, "succeeded")

    def _refusals(self) -> None:
        """What is refused, and with which code."""
        stranger = raw_peer.connect(
            self.world.network.host("x"), "s", PORT,
            ClientTls(given().authority.identity(Name(HERE, Role.WORKER, "nobody"), YEARS),
                      given().authority.certificate_pem, HERE),
        )  # fmt: skip
        self._say(stranger, {"m": "turn", "b": {"number": 1}}, {"m": "no-such-method", "b": {}},
                  {"m": "chunk-get", "b": {"lease": [1, 1, 1], "digest": b"d" * 32}}, {"m": "hello", "b": {"boot": 1}},
                  {"m": "bulk", "b": {"session": 12345}})  # fmt: skip
        stranger.channel.close()
        self.world.reactor.advance(1.0)

    def _say(self, peer: RawPeer, *questions: dict[str, Any]) -> None:
        peer.send(GREETING)
        for number, question in enumerate(questions, 1):
            peer.send({"m": question["m"], "b": question["b"], "i": number})
            self.world.reactor.run_until(lambda number=number: peer.answer(number), 30.0)  # type: ignore[misc]
