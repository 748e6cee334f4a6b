"""Lending among hostile peers: whatever one says, it ends nobody else's work and fills nobody's memory."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import Refused, TooLarge, Unavailable
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement
from cpc.core.resources import Amounts
from cpc.queue.job import State
from cpc.server.federation.portions import PORTION
from cpc.server.federation.ways import Caller
from cpc.store import events, workers
from cpc.wire import frames
from cpc.wire.messages import Orders, Result, Settled, Task
from cpc.wire.peer_messages import (
    AskWork,
    Given,
    Offer,
    Report,
    ReportAnswer,
    Survey,
    WorkerOrders,
    WorkerReport,
    WorkGiven,
)
from tests.helpers.fake_ways import FakeWays
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import World
from tests.helpers.stores import HeldThreads

__all__ = ["make"]

FAR = Agreement(lend_on=16)


def lease(job: int = 1 << 52, attempt: int = 1) -> Lease:
    return Lease(job, attempt, 1)


def task(cores: int = 1, **fields: object) -> Task:
    return Task(lease=lease(), project=1, granted=Amounts(cores=cores), argv=("evil",), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        Given(worker=0, route=("c",), tasks=(task(),)),
        Given(worker=-1, route=("c",), tasks=(task(),)),
        Given(worker=0, route=(), tasks=(task(),)),
        Given(worker=0, route=("a", "c"), tasks=(task(),)),
        Given(worker=0, route=("c", "a"), tasks=(task(),)),
        Given(worker=0, route=("c", "c"), tasks=(task(),)),
        Given(worker=0, route=("c", "d"), tasks=(task(),)),
        Given(worker=0, route=("d", "c"), tasks=(task(),)),
        Given(worker=0, route=("c",), tasks=(task(-1),)),
        Given(worker=0, route=("c",), tasks=(task(3),)),
        Given(worker=0, route=("c", *(f"x{number}" for number in range(17))), tasks=(task(),)),
    ],
)
def test_a_peer_gives_no_work_but_what_was_asked_for_by_a_way_that_is_agreed(make: Make, answer: Given) -> None:
    world = make("a")
    evil = world.net.server("c")
    world.net.trust("a", "c")
    worker = world["a"].worker(cores=2)

    async def ask(_: Caller, question: AskWork) -> WorkGiven:
        number = question.offers[0].worker if answer.worker == 0 and answer.route != ("c",) else answer.worker
        if answer.route == ("c",) and answer.tasks[0].granted.cores != 1:
            number = question.offers[0].worker
        given = Given(worker=max(0, number), route=answer.route, tasks=answer.tasks)
        return WorkGiven(given=(given,), subscribed=300.0)

    async def report(_: Caller, question: Report) -> ReportAnswer:
        done = [
            WorkerOrders(
                worker=one.worker,
                orders=Orders(settled=tuple(Settled(lease=each.lease, verdict="x") for each in one.results)),
            )
            for one in question.workers
        ]
        return ReportAnswer(workers=tuple(done))

    evil.serve("ask-work", AskWork, ask, far=False)
    evil.serve("report", Report, report, far=True)
    world["a"].lending.asking.called("c")
    world.run(5)
    assert worker.jobs == []
    session = world["a"].queue.index.of_worker(worker.row)
    assert session is not None
    assert session.free.cores == 2


@pytest.mark.parametrize("route", [("b",), ("c",), ("a", "b", "a"), ("a", "c"), ("a", "a"), ()])
def test_a_question_by_a_way_that_cannot_be_is_refused(make: Make, route: tuple[str, ...]) -> None:
    world = make("c")
    evil = world.net.server("a")
    world.net.trust("a", "c")
    world["c"].submit("sleep")
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    question = AskWork(id="1", route=route, hops=0, seconds=5.0, offers=(offer,))
    with pytest.raises(Refused):
        world.reactor.finish(ensureDeferred(evil.ask("c", "ask-work", question, WorkGiven, 5.0)))


def test_a_question_is_answered_once_and_a_repeat_gets_the_same_answer(make: Make) -> None:
    world = make("c")
    evil, other = world.net.server("a"), world.net.server("b")
    world.net.trust("a", "c")
    world.net.trust("b", "c")
    world["c"].submit("sleep", array=9)
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    first = AskWork(id="1", route=("a",), hops=0, seconds=5.0, offers=(offer,))

    def ask(question: AskWork) -> WorkGiven:
        asker = evil if question.route[-1] == "a" else other
        return world.reactor.finish(ensureDeferred(asker.ask("c", "ask-work", question, WorkGiven, 5.0)))

    answer = ask(first)
    assert [len(one.tasks) for one in answer.given] == [4]
    assert ask(first) == answer
    again = AskWork(id="1", route=("a", "b"), hops=0, seconds=5.0, offers=(offer,))
    assert ask(again) == WorkGiven(complete=True), "whoever has it by the other way asks on"


def test_what_a_peer_reports_of_jobs_that_its_workers_do_not_have_is_of_no_consequence(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep")
    worker = world["a"].worker()
    world.run(1)
    (stolen,) = (one.of_owner() for one in worker.tasks)
    offer = Offer(worker=9, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    claims = WorkerReport(
        worker=9, offer=offer, holds=(stolen,), results=(Result(lease=stolen, outcome=Outcome.OK, exit_code=0),),
        gone="",
    )  # fmt: skip
    for number in range(2):
        said = world.reactor.finish(
            ensureDeferred(
                evil.ask_far(("e", "c"), "report", Report(number=number, workers=(claims,)), ReportAnswer, 5.0)
            )
        )
    assert world["c"].state(job) is State.RUNNING
    verdicts = [settled.verdict for one in said.workers for settled in one.orders.settled]
    assert verdicts == ["dropped"]
    worker.finish()
    world.run(1)
    assert world["c"].state(job) is State.SUCCEEDED
    assert world["c"].outcomes(job) == ["ok"]


def forge(world: World, route: tuple[str, ...], said: WorkerReport) -> ReportAnswer:
    """The last but one server of the route says that this came to it along the route."""
    body = msgspec.msgpack.encode(Report(number=1, workers=(said,)))
    answer = world.net.ask(route[-2:], "report", body, 5.0, True, route)
    return msgspec.msgpack.decode(world.reactor.finish(answer), type=ReportAnswer)


def test_a_peer_does_not_speak_for_the_workers_of_another_one(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep", array=2)
    worker = world["a"].worker(cores=1)
    world.run(1)
    (stolen,) = (one.of_owner() for one in worker.tasks)
    offer = Offer(worker=99, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    done = Result(lease=stolen, outcome=Outcome.OK, exit_code=0)
    # "A worker of a, which I reach, hands in what another one of a has done."
    said = forge(world, ("a", "e", "c"), WorkerReport(worker=99, offer=offer, holds=(stolen,), results=(done,)))
    assert [settled.verdict for one in said.workers for settled in one.orders.settled] == ["dropped"]
    assert world["c"].state(stolen.job) is State.RUNNING
    worker.finish()
    world.run(1)
    assert world["c"].state(stolen.job) is State.SUCCEEDED
    assert world["c"].outcomes(job) == ["ok"]


def claim(world: World, evil: FakeWays, number: int) -> Task:
    """`e` says that this worker of a, which it reaches, is idle, and gets a job for it."""
    offer = Offer(worker=number, name="w", host="h", total=Amounts(cores=1), free=Amounts(cores=1))
    question = AskWork(id="claim", route=("a", "e"), hops=0, seconds=5.0, offers=(offer,))
    said = world.reactor.finish(ensureDeferred(evil.ask("c", "ask-work", question, WorkGiven, 5.0)))
    ((task,),) = (given.tasks for given in said.given)
    return task


def test_a_peer_that_claims_anothers_idle_worker_does_not_keep_it_from_work(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep", array=2)
    world.net.cut("a", "c")
    worker = world["a"].worker(cores=1)
    number = worker.row
    taken = claim(world, evil, number).lease
    world.net.heal("a", "c")
    world.run(5)
    assert len(worker.tasks) == 1
    world["c"].kill()
    world["c"].start()
    world.run(5)
    done = Result(lease=taken, outcome=Outcome.OK, exit_code=0)
    assert [one.job for one in worker.tasks] != [taken.job]
    said = forge(world, ("a", "e", "c"), WorkerReport(worker=number, results=(done,)))
    assert [settled.verdict for one in said.workers for settled in one.orders.settled] == ["accepted"]
    worker.finish()
    worker.drive(60)
    assert world["c"].states(job, 2) == {"succeeded": 2}
    assert world["c"].do(lambda tx: [way for _, _, way in workers.borrowed(tx)]) == ["e/a", "a"]


def test_a_peer_that_claims_anothers_worker_does_not_speak_for_what_that_did_before(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep")
    worker = world["a"].worker(cores=1)
    world.run(1)
    (former,) = (one.of_owner() for one in worker.tasks)
    number = worker.row
    worker.kill()
    world.net.cut("a", "c")
    world["c"].do(lambda tx: world["c"].lending.owner.withdraw(tx, "a", "the test takes it back"))
    assert claim(world, evil, number).lease.job == former.job
    done = Result(lease=former, outcome=Outcome.OK, exit_code=0)
    said = forge(world, ("a", "e", "c"), WorkerReport(worker=number, results=(done,)))
    assert [settled.verdict for one in said.workers for settled in one.orders.settled] == ["dropped"]
    assert world["c"].state(job) is State.RUNNING


def test_an_owner_gives_to_those_only_that_are_on_loan_to_it_or_were_offered(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    jobs = [world["c"].submit("sleep")]
    busy, idle = world["a"].worker(cores=1), world["a"].worker(cores=1)
    world.run(1)
    assert (len(busy.tasks), len(idle.tasks)) == (1, 0)
    home = world["a"].lending.home
    for number in (1, 2):  # that it has been handed back does not make it one on loan
        given = msgspec.structs.replace(task(), lease=lease((1 << 52) + number))
        orders = ReportAnswer(workers=(WorkerOrders(worker=idle.row, orders=Orders(tasks=(given,))),))
        world.reactor.finish(ensureDeferred(home._far_orders(Caller("c", ("c", "a")), orders)))
        (loan,) = (loan for loan in home._owners["c"].loans.values() if loan.worker == idle.row)
        assert {said.message for said in loan.own.values()} == {"its worker was not offered to its server"}
    world.run(1)
    assert idle.tasks == {}
    assert [loan.worker for loan in home._owners["c"].loans.values()] == [busy.row]  # the owner has heard it
    jobs += [world["c"].submit("sleep") for _ in range(2)]
    world.run(1)
    assert (len(busy.tasks), len(idle.tasks)) == (1, 1)
    busy.finish()
    world.run(1)
    assert len(busy.tasks) == 1  # what it was offered with the report
    for hand in (busy, idle):
        hand.finish()
    world.run(1)
    assert [world["c"].outcomes(job) for job in jobs] == [["ok"]] * 3


def test_an_owner_that_gives_what_nobody_asked_for_fills_nobodys_memory(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    world["c"].submit("sleep")
    worker = world["a"].worker(cores=1)
    world.run(1)
    assert worker.jobs == ["1 of c"]
    home = world["a"].lending.home
    owner = home._owners["c"]
    world.net.silence("a", "c")  # it does not listen to what it gets back
    tasks = tuple(msgspec.structs.replace(task(), lease=lease((1 << 52) + number)) for number in range(300))
    for number in range(1000, 1010):
        orders = ReportAnswer(workers=(WorkerOrders(worker=number, orders=Orders(tasks=tasks)),))
        world.reactor.finish(ensureDeferred(home._far_orders(Caller("c", ("c", "a")), orders)))
    assert owner.full
    assert sum(len(loan.own) for loan in owner.loans.values()) == 1000
    assert len(owner.loans) <= 5
    lent = world["a"].do(lambda tx: events.of_kind(tx, "worker.lent", 0, 1000))
    assert len(lent) == 1  # nothing is on record of workers that are not there


def test_too_many_questions_of_one_peer_are_refused_and_so_are_their_repeats(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpc.server.federation.asked.MOST_ASKS", 0)
    world = make("c")
    evil = world.net.server("a")
    world.net.trust("a", "c")
    question = AskWork(id="1", route=("a",), hops=0, seconds=5.0)
    for _ in range(2):
        said = evil.ask("c", "ask-work", question, WorkGiven, 5.0)
        with pytest.raises(Unavailable, match="questions of this server are under way"):
            world.reactor.finish(ensureDeferred(said))


@pytest.mark.parametrize("id", ["", "x" * 65])
def test_the_name_of_a_question_is_short_because_it_is_kept(id: str) -> None:
    for question in (AskWork(id=id, route=("a",), hops=0, seconds=1.0), Survey(id=id, hops=0, seconds=1.0)):
        with pytest.raises(Refused, match=r"at `\$\.id`"):
            frames.decode(msgspec.msgpack.encode(question), type(question), "method")


def test_a_peer_that_speaks_for_a_silent_home_does_not_end_what_runs_there(make: Make) -> None:
    world = make("a", "c")
    world.net.trust("a", "c")
    world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep")
    worker = world["a"].worker(cores=1)
    world.run(1)
    world.net.cut("a", "c")
    for _ in range(30):
        worker.drive(10)
        body = msgspec.msgpack.encode(Report(number=1))
        world.reactor.finish(world.net.ask(("e", "c"), "report", body, 5.0, True, ("a", "e", "c")))
    assert world["c"].outcomes(job) == ["runs"]
    assert len(world["c"].lending.owner._hearing._heard) == 1  # nothing is kept of ways by which nobody was lent
    worker.finish()
    world.net.heal("a", "c")
    worker.drive(60)
    assert world["c"].outcomes(job) == ["ok"]


def test_a_report_that_would_keep_the_writer_busy_for_seconds_is_refused(make: Make) -> None:
    world = make("c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    results = tuple(Result(lease=lease((1 << 52) + number), outcome=Outcome.OK) for number in range(4001))
    report = Report(number=1, workers=(WorkerReport(worker=1, results=results),))
    with pytest.raises(TooLarge, match="at most 4000 results"):
        world.reactor.finish(ensureDeferred(evil.ask_far(("e", "c"), "report", report, ReportAnswer, 5.0)))
    many = Report(number=1, workers=tuple(WorkerReport(worker=number) for number in range(1001)))
    with pytest.raises(Refused, match="length <= 1000"):
        frames.decode(msgspec.msgpack.encode(many), Report, "report")


def test_results_of_nothing_make_nobody_a_worker(make: Make) -> None:
    world = make("c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    world["c"].submit("sleep")
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    said = tuple(
        WorkerReport(worker=number, offer=offer, results=(Result(lease=lease((1 << 52) + number), outcome=Outcome.OK),))
        for number in range(100)
    )
    report = Report(number=1, workers=said)
    answer = world.reactor.finish(ensureDeferred(evil.ask_far(("e", "c"), "report", report, ReportAnswer, 5.0)))
    verdicts = [settled.verdict for one in answer.workers for settled in one.orders.settled]
    assert len(verdicts) == 100  # each is answered, so that an honest home need not ask again
    assert world["c"].do(workers.borrowed) == []


def test_a_worker_that_brings_more_results_than_one_portion_has_them_all_accepted(make: Make) -> None:
    """What it still holds goes on; whatever it has ended is settled, and nothing of it is cancelled."""
    count = PORTION + 50
    world = make("c")
    peer = world.net.server("a")
    world.net.trust("a", "c")
    job = world["c"].submit("sleep", array=count + 1)
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=count + 1), free=Amounts(cores=count + 1))
    question = AskWork(id="1", route=("a",), hops=0, seconds=5.0, offers=(offer,))
    given = world.reactor.finish(ensureDeferred(peer.ask("c", "ask-work", question, WorkGiven, 5.0)))
    leases = tuple(one.lease for each in given.given for one in each.tasks)
    assert len(leases) == count + 1
    done = tuple(Result(lease=each, outcome=Outcome.OK, exit_code=0) for each in leases[:-1])
    said = WorkerReport(worker=1, holds=leases, results=done)
    report = ensureDeferred(peer.ask_far(("a", "c"), "report", Report(number=1, workers=(said,)), ReportAnswer, 5.0))
    (one,) = world.reactor.finish(report).workers
    assert {settled.verdict for settled in one.orders.settled} == {"accepted"}
    assert one.orders.cancel == ()
    assert world["c"].states(job, count + 1) == {"succeeded": count, "running": 1}


def test_what_a_peer_says_is_overtaken_by_the_end_of_the_trust_in_it(make: Make) -> None:
    """What waits for the writer in the peer's turn is judged by the trust that there is then."""
    world = make("c")
    peer = world.net.server("a")
    world.net.trust("a", "c")
    world["c"].submit("sleep", array=2)
    offer = Offer(worker=1, name="w", host="h", total=Amounts(cores=1), free=Amounts(cores=1))

    def ask(id: str) -> Deferred[WorkGiven]:
        question = AskWork(id=id, route=("a",), hops=0, seconds=5.0, offers=(offer,))
        return ensureDeferred(peer.ask("c", "ask-work", question, WorkGiven, 5.0))

    given = world.reactor.finish(ask("1"))
    ((task,),) = (each.tasks for each in given.given)
    threads = world["c"].store.writer._threads
    held = HeldThreads()
    world["c"].store.writer._threads = held
    ahead = world["c"].store.write(lambda tx: None)
    done = WorkerReport(worker=1, results=(Result(lease=task.lease, outcome=Outcome.OK, exit_code=0),))
    report = ensureDeferred(peer.ask_far(("a", "c"), "report", Report(number=1, workers=(done,)), ReportAnswer, 5.0))
    question = ask("2")
    world.run(0.1)
    revoked = world["c"].store.write(lambda tx: world["c"].lending.revoked(tx, "a", hand_back=True))
    held.go()
    world["c"].store.writer._threads = threads
    assert ahead.called
    assert revoked.called
    with pytest.raises(Unavailable, match="trust in a server has ended"):
        world.reactor.finish(report)
    with pytest.raises(Unavailable, match="trust in a server has ended"):
        world.reactor.finish(question)
    assert world["c"].outcomes(task.lease.job) == ["preempted"]


def test_tasks_of_one_server_are_placed_though_trust_in_another_has_ended_meanwhile(make: Make) -> None:
    world = make("a", "c", "d")
    world.net.trust("a", "c")
    world.net.trust("a", "d")
    home = world["a"]
    worker = home.worker(cores=1)
    world.run(1)
    threads, held = home.store.writer._threads, HeldThreads()
    job = world["c"].submit("sleep")
    while not world["c"].outcomes(job):
        world.run(0.0005)
    home.store.writer._threads = held
    home.store.write(lambda tx: None)
    world.run(0.5)
    home.store.write(lambda tx: home.lending.revoked(tx, "d", hand_back=True))
    while held.held:
        held.go()
    home.store.writer._threads = threads
    world.run(1)
    assert worker.jobs == ["1 of c"]
    assert world["c"].outcomes(job) == ["runs"]
