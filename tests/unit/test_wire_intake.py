"""How much of large frames a server takes in and gives at a time, from and to all of its workers together."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.digest import CHUNK
from cpc.core.lease import Lease
from cpc.server.bulk import _owner
from cpc.wire import calls, frames
from cpc.wire.connection import Connection
from cpc.wire.intake import AT_ONCE, GIVEN_UP, MOST, PATIENCE, Intake, Ticket
from cpc.wire.messages import ChunkData, ChunkGet, ChunkPut, Message
from tests.helpers.wires import Wires
from tests.simulation.clock import VirtualReactor

NEAR, FAR = Lease(1, 1, 1), Lease(1, 1, 1, "b/c")


def tickets(intake: Intake, *owners: str) -> list[Ticket]:
    return [intake.ask("in", owner, lambda: None) for owner in owners]


def given(made: list[Ticket]) -> list[bool]:
    return [ticket.given for ticket in made]


def test_each_owner_has_so_many_tickets_and_who_began_first_has_the_next_one() -> None:
    intake = Intake(VirtualReactor(), at_once=2)
    made = tickets(intake, "a", "a", "a", "a", "b")
    assert given(made) == [True, True, False, False, True]
    made[0].over()
    assert given(made) == [True, True, True, False, True]
    made[0].over()  # said twice
    assert given(made) == [True, True, True, False, True]
    for ticket in made:
        ticket.over()
    assert given(made)[3] is True
    assert len(intake) == 0
    assert not intake._owners


def test_who_does_not_wait_any_more_is_passed_over() -> None:
    intake = Intake(VirtualReactor(), at_once=1)
    made = tickets(intake, "a", "a", "a")
    made[1].over()
    made[0].over()
    assert given(made) == [True, False, True]


def test_for_one_that_is_slow_there_are_more_and_one_that_stands_still_goes_on_without() -> None:
    reactor = VirtualReactor()
    intake = Intake(reactor, at_once=2)
    slow, served, *others = tickets(intake, *"aaaaaa")
    served.read()
    for each in others:
        each.read()
    assert given(others) == [False] * 4
    reactor.advance(PATIENCE + 0.1)
    assert given(others) == [True, True, False, False]
    reactor.advance(GIVEN_UP)
    assert slow.given
    assert len(intake) == 3, "what is being answered keeps its ticket, what stands still does not"
    served.over()
    for each in others[:2]:
        each.over()
    assert given(others) == [True] * 4


def takes(reactor: VirtualReactor, intake: Intake, seconds: float, count: int) -> tuple[float, int]:
    """So many chunks, each of which takes so long: when all are done, and how many were given at once."""
    left, most = [count], [0]

    def one() -> None:
        def turn() -> None:
            most[0] = max(most[0], len(intake))
            reactor.callLater(seconds, done)

        def done() -> None:
            ticket.over()
            left[0] -= 1

        ticket = intake.ask("out", "a", lambda: reactor.callLater(0, turn))

    for _ in range(count):
        one()
    began = reactor.seconds()
    while left[0]:
        reactor.advance(0.05)
    return reactor.seconds() - began, most[0]


def test_where_all_are_slow_many_have_their_turn_and_where_none_is_a_few() -> None:
    reactor = VirtualReactor()
    intake = Intake(reactor)
    assert takes(reactor, intake, PATIENCE / 2, 200)[1] == AT_ONCE
    seconds, most = takes(reactor, intake, 4 * PATIENCE, 400)
    assert most == MOST
    assert seconds < 400 / MOST * 4 * PATIENCE * 1.5
    assert takes(reactor, intake, PATIENCE / 2, 200)[1] == AT_ONCE, "afterwards as before"
    assert len(intake) == 0


class Home:
    """Takes chunks from many workers, and is done with them when the test says so."""

    def __init__(self, workers: int) -> None:
        self.wires = Wires()
        self.reactor = self.wires.reactor
        self.doing: list[tuple[Lease, Deferred[None]]] = []
        self.wires.on_connection = self._serve
        self.listener = self.wires.listen(idle=1e9)
        self.workers = [self.wires.connect(self.wires.worker(f"w{number}")) for number in range(workers)]

    def _serve(self, connection: Connection) -> None:
        connection.serve("chunk-put", ChunkPut, self._take, bulk=True)
        connection.need_tickets(_owner)

    async def _take(self, _: Connection, question: ChunkPut) -> None:
        done: Deferred[None] = Deferred()
        self.doing.append((question.lease, done))
        await done

    def put(self, worker: Connection, lease: Lease, size: int = CHUNK) -> list[Any]:
        """A worker sends a chunk; what becomes of it."""
        found: list[Any] = []
        question = ChunkPut(lease=lease, digest=b"d" * 32, data=memoryview(bytes(size)))
        put = ensureDeferred(worker.call("chunk-put", question, Message, 600.0, bulk=True))
        put.addCallbacks(found.append, lambda failure: found.append(failure.value))
        return found

    @property
    def read(self) -> int:
        """Bytes of frames that have come and are not handed on."""
        return sum(len(connection.channel.reader) for connection in self.wires.taken)

    def finish(self) -> None:
        while self.doing:
            self.doing.pop(0)[1].callback(None)
            self.reactor.advance(1.0)


def test_of_many_workers_that_send_at_once_a_few_chunks_are_here_and_in_the_end_all_were_taken() -> None:
    home = Home(30)
    found = [home.put(worker, FAR) for worker in home.workers for _ in range(2)]
    home.reactor.advance(20.0)
    assert len(home.doing) == AT_ONCE
    assert home.read < 30 * (frames.LARGE + (512 << 10))
    assert len(home.listener.intake) == AT_ONCE
    home.finish()
    home.reactor.advance(60.0)
    home.finish()
    assert [len(each) for each in found] == [1] * 60
    assert not any(isinstance(each[0], Exception) for each in found)
    assert len(home.listener.intake) == 0


def test_files_for_an_owner_that_takes_nothing_keep_those_of_others_not_waiting() -> None:
    home = Home(12)
    stuck = [home.put(worker, FAR) for worker in home.workers[:10]]
    home.reactor.advance(20.0)
    own = [home.put(worker, NEAR) for worker in home.workers[10:]]
    home.reactor.advance(5.0)
    assert [lease for lease, _ in home.doing[AT_ONCE:]] == [NEAR, NEAR]
    assert not any(stuck)
    home.finish()
    assert all(own)


@pytest.mark.parametrize("cut", [False, True])
def test_a_worker_that_is_gone_leaves_its_tickets_to_the_others(cut: bool) -> None:
    home = Home(AT_ONCE + 2)
    for worker in home.workers[:AT_ONCE]:
        home.put(worker, FAR)
    home.reactor.advance(10.0)
    waiting = [home.put(worker, FAR) for worker in home.workers[AT_ONCE:]]
    home.reactor.advance(10.0)
    assert len(home.doing) == AT_ONCE
    for worker in home.workers[:2]:
        worker.channel.abort("gone") if cut else worker.close("gone")
    home.reactor.advance(30.0)
    assert len(home.doing) == AT_ONCE + 2
    home.finish()
    assert all(waiting)


def test_small_frames_need_no_ticket() -> None:
    home = Home(AT_ONCE + 1)
    for worker in home.workers[:AT_ONCE]:
        home.put(worker, FAR)
    home.reactor.advance(10.0)
    small = home.put(home.workers[-1], FAR, 1000)
    home.reactor.advance(1.0)
    assert len(home.doing) == AT_ONCE + 1
    home.finish()
    assert small


class Giver:
    """Gives chunks to many workers; those that hold do not read."""

    def __init__(self, workers: int) -> None:
        self.wires = Wires()
        self.reactor = self.wires.reactor
        self.given: list[str] = []  # the owner of each chunk that was looked up
        self.wires.on_connection = self._serve
        self.listener = self.wires.listen(idle=1e9)
        self.workers = [self.wires.connect(self.wires.worker(f"w{number}")) for number in range(workers)]

    def _serve(self, connection: Connection) -> None:
        connection.serve("chunk-get", ChunkGet, self._give, bulk=True, whose=lambda asked: asked.lease.path)
        connection.need_tickets(_owner)

    async def _give(self, _: Connection, question: ChunkGet) -> ChunkData:
        self.given.append(question.lease.path)
        return ChunkData(data=bytes(CHUNK))

    def get(self, worker: Connection, lease: Lease, hold: bool = False) -> list[Any]:
        """A worker asks for a chunk; what it gets. With `hold`, it does not read."""
        found: list[Any] = []
        got = ensureDeferred(
            worker.call("chunk-get", ChunkGet(lease=lease, digest=b"d" * 32), ChunkData, 600.0, bulk=True)
        )
        got.addCallbacks(found.append, lambda failure: found.append(failure.value))
        if hold:
            worker.channel.hold()
        return found

    @property
    def waiting(self) -> int:
        """Bytes of answers that nobody has read."""
        return sum(connection.channel.backlog for connection in self.wires.taken)


def test_to_many_workers_that_ask_at_once_a_few_chunks_are_given_at_a_time_and_in_the_end_all_have_theirs() -> None:
    giver = Giver(30)
    found = [giver.get(worker, FAR) for worker in giver.workers for _ in range(2)]
    most, began = 0, giver.reactor.seconds()
    for _ in range(4000):
        giver.reactor.advance(0.01)
        most = max(most, giver.waiting)
        if all(found):
            break
    assert most <= AT_ONCE * (CHUNK + calls.MARGIN)
    assert giver.reactor.seconds() - began < PATIENCE * 60 / AT_ONCE / 2, "each has its turn when one is done"
    assert [len(each[0].data) for each in found] == [CHUNK] * 60
    assert len(giver.listener.intake) == 0


def test_who_does_not_read_keeps_nobody_waiting_for_long_and_those_of_other_owners_not_at_all() -> None:
    giver = Giver(AT_ONCE + 2)
    for worker in giver.workers[:AT_ONCE]:
        giver.get(worker, FAR, hold=True)
    giver.reactor.advance(PATIENCE / 2)
    assert giver.given == ["b/c"] * AT_ONCE
    following, other = giver.get(giver.workers[-2], FAR), giver.get(giver.workers[-1], NEAR)
    giver.reactor.advance(PATIENCE / 4)
    assert giver.given == ["b/c"] * AT_ONCE + [""]
    giver.reactor.advance(10.0)
    assert len(following[0].data) == len(other[0].data) == CHUNK


@pytest.mark.parametrize("cut", [False, True])
def test_a_worker_that_is_gone_leaves_its_turns_to_the_others(cut: bool) -> None:
    giver = Giver(AT_ONCE + 1)
    for worker in giver.workers[:AT_ONCE]:
        giver.get(worker, FAR, hold=True)
    giver.reactor.advance(PATIENCE / 5)
    waiting = giver.get(giver.workers[-1], FAR)
    giver.reactor.advance(PATIENCE / 5)
    assert giver.given == ["b/c"] * AT_ONCE
    giver.workers[0].channel.abort("gone") if cut else giver.workers[0].close("gone")
    giver.reactor.advance(PATIENCE / 5)
    assert giver.given == ["b/c"] * (AT_ONCE + 1)
    giver.reactor.advance(10.0)
    assert waiting
    for worker in giver.workers[1:]:
        worker.channel.abort("gone")
    giver.reactor.advance(1.0)
    assert len(giver.listener.intake) == 0


@pytest.mark.parametrize(("lease", "whose"), [(NEAR, ""), (FAR, "b/c")])
def test_whose_a_chunk_is_can_be_told_from_its_beginning(lease: Lease, whose: str) -> None:
    question = ChunkPut(lease=lease, digest=b"d" * 32, data=memoryview(bytes(CHUNK)))
    whole = b"".join(frames.question("chunk-put", 7, frames.body(question)))[frames.HEADER.size :]
    assert _owner(whole[: frames.LARGE], len(whole)) == whose
    other = b"".join(frames.question("report", 7, frames.body(question)))[frames.HEADER.size :]
    assert _owner(other[: frames.LARGE], len(other)) == ""
    assert _owner(b"\xff" * frames.LARGE, 1 << 20) == ""
