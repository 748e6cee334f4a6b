"""The pure parts of lending: limits, spare room, who is asked, who is called, what is answered once."""

from __future__ import annotations

import pytest

from cpc.core.journal import Journal
from cpc.core.lease import Lease
from cpc.core.peer import Agreement, Limits
from cpc.core.resources import Amounts
from cpc.queue import terms
from cpc.queue.asks import KEPT, REMEMBERED, Asks, Standing
from cpc.queue.asks import MOST as OF_ONE
from cpc.queue.byways import MOST as HOMES
from cpc.queue.byways import MOST_WAYS, Byways
from cpc.queue.callers import MOST, Callers, Waiting
from cpc.queue.index import Index
from cpc.queue.lent import Lent
from cpc.queue.requirement import Requirement, misses, profile
from cpc.queue.served import HALF_LIFE
from cpc.queue.session import Running, Session
from cpc.queue.spare import TABLE, Event, Spare, State
from cpc.queue.tried import MOST as TRIED
from cpc.queue.tried import Tried, Try, Worker

FOUR = Amounts(cores=4)
PLAIN = profile((), (), FOUR)
GROMACS = profile((("gromacs/mdrun", "2022.5"), ("other", "1")), (), FOUR)


def requirement(executable: str = "") -> Requirement:
    return Requirement(executable, "", (), 1, 0, 0, (), 0)


# --- terms -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (("a", "b"), ""),
        (("a",), "has 1 server"),
        (("a", "b", "a"), "twice"),
        (tuple(f"s{number}" for number in range(17)), ""),
        (tuple(f"s{number}" for number in range(18)), "has 18 server"),
        (("a", "b/c"), "cannot be"),
    ],
)
def test_a_route_has_each_server_once_and_not_too_many(route: tuple[str, ...], words: str) -> None:
    assert words in terms.broken(route)
    assert bool(words) is bool(terms.broken(route))


def test_a_question_goes_as_far_as_everybody_on_its_way_allows() -> None:
    assert terms.beyond(Agreement(lend_on=5)) == 5
    assert terms.beyond(Agreement(lend_on=-1)) == 0
    assert terms.beyond(Agreement(lent=Limits(off=True), lend_on=5)) is None


def test_limits_take_away_cores_and_programs() -> None:
    assert terms.room(FOUR, Limits(), 100) == FOUR
    assert terms.room(FOUR, Limits(cores=6), 4).cores == 2
    assert terms.room(FOUR, Limits(cores=6), 8).cores == 0
    assert terms.room(FOUR, Limits(off=True), 0).cores == 0
    limited = terms.restricted(GROMACS, Limits(executables=("gromacs/mdrun",)))
    assert not misses(requirement("gromacs/mdrun"), limited)
    assert misses(requirement("other"), limited)
    assert "names no program" in misses(requirement(), limited)[0][1]
    assert terms.restricted(GROMACS, Limits()) is GROMACS


def test_a_server_that_any_agreement_denies_is_found() -> None:
    assert terms.denied(("a", "b", "c"), Agreement(), Agreement(denied=("x", "c"))) == "c"
    assert terms.denied(("a", "b"), Agreement(denied=("x",))) == ""


# --- spare room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_room_is_looked_at_by_one_at_a_time(state: State, event: Event) -> None:
    after = TABLE.get((state, event))
    if state in (State.ASKED, State.OFFERED):
        assert after is (State.OPEN if event is Event.ANSWER else None if event in LOOKS else state)
    elif event in LOOKS:
        assert (after is None) is (state is not State.OPEN)
    elif event is Event.ANSWER:
        assert after is None
    elif event is Event.NO_ROOM:
        assert after is State.FULL


LOOKS = (Event.ASK, Event.OFFER, Event.REST)


def test_room_that_own_work_takes_while_a_peer_looks_is_gone_when_it_answers() -> None:
    spare = Spare(1, PLAIN)
    spare.set_room(FOUR, 0)
    spare.happen(Event.ASK)
    spare.set_room(Amounts(), 0)
    assert spare.state is State.ASKED
    spare.answered()
    assert spare.state is State.FULL


def test_room_ahead_is_for_the_owner_whose_jobs_run_there() -> None:
    spare = Spare(1, PLAIN)
    spare.set_room(Amounts(), 10)
    assert spare.state is State.FULL
    spare.prefer = "b/c"
    spare.set_room(Amounts(), 10)
    assert spare.state is State.OPEN


def test_an_owner_that_has_nothing_hears_of_what_has_ended_since_before_others_are_asked() -> None:
    """While its answer was on the way, jobs of it have ended here: it may have thought that there was no room for more."""
    spare = Spare(1, PLAIN)
    spare.left_by("b/c")
    spare.set_room(FOUR, 0)
    spare.offered()
    spare.left_by("b/c")
    spare.refused()
    spare.answered()
    assert (spare.state, spare.prefer) == (State.OPEN, "b/c")
    spare.offered()
    spare.refused()
    spare.answered()
    assert (spare.state, spare.prefer) == (State.OPEN, "")


# --- what is answered once -------------------------------------------------------------------------------------------------


def test_a_question_has_one_answer_and_one_way() -> None:
    asks: Asks[str] = Asks()
    assert asks.come("1", 3, "a", 0.0) is Standing.NEW
    assert asks.come("1", 3, "a", 1.0) is Standing.REPEAT
    assert asks.come("1", 3, "b", 1.0) is Standing.ELSEWHERE
    assert asks.come("1", 2, "a", 1.0) is Standing.ELSEWHERE
    assert asks.answer("1", 3) is None
    asks.answered("1", 3, "work")
    assert asks.answer("1", 3) == "work"
    assert asks.come("2", 3, "a", KEPT + 1) is Standing.NEW
    assert asks.answer("1", 3) is None


def test_a_question_that_may_go_farther_is_new() -> None:
    asks: Asks[str] = Asks()
    assert asks.come("1", 0, "a", 0.0) is Standing.NEW
    assert asks.come("1", 2, "b", 0.0) is Standing.NEW
    assert asks.come("1", 1, "c", 0.0) is Standing.ELSEWHERE
    asks.answered("1", 0, "nothing")
    assert asks.answer("1", 2) is None, "each has its own answer"
    asks.forget("1", 2)
    assert asks.come("1", 1, "c", 0.0) is Standing.NEW


def test_a_question_that_could_go_far_already_is_new_when_it_may_go_twice_as_far() -> None:
    asks: Asks[str] = Asks()
    standings = {hops: asks.come("1", hops, "a", 0.0) for hops in (3, 4, 5, 7, 8, 15, 16)}
    assert [hops for hops, standing in standings.items() if standing is Standing.NEW] == [3, 4, 8, 16]


def test_the_ledger_is_bounded() -> None:
    asks: Asks[str] = Asks()
    assert asks.come("x", 0, "x", 0.0) is Standing.NEW
    for number in range(OF_ONE + 10):
        asks.come(str(number), 0, "a", 0.0)
    assert asks.come("0", 0, "b", 0.0) is Standing.NEW
    assert asks.come(str(OF_ONE + 9), 0, "a", 0.0) is Standing.REPEAT
    assert asks.come("x", 0, "x", 0.0) is Standing.REPEAT, "who asks without end pushes out nobody else"
    for number in range(REMEMBERED):
        asks.come(f"{number}", 1, f"{number % 9}", 0.0)
    assert asks.come("x", 0, "x", 0.0) is Standing.NEW
    assert (len(asks._asks), sum(map(len, asks._of.values()))) == (REMEMBERED, REMEMBERED)


# --- who is called ---------------------------------------------------------------------------------------------------------


def waiting(cores: int = 4, until: float = 300.0, onward: bool = False) -> Waiting:
    return Waiting(PLAIN, Amounts(cores=cores), until, onward)


def test_the_least_served_peer_is_called_first_and_old_services_count_less() -> None:
    callers = Callers()
    for peer in "abc":
        callers.subscribe(peer, (peer, 1), waiting(until=1e6))
    callers.serve("a", 8, 0.0)
    callers.serve("b", 2, 0.0)
    assert [peer for peer, _ in callers.fitting(lambda _: True, 0.0)] == ["c", "b", "a"]
    callers.serve("c", 1, 4 * HALF_LIFE)
    assert callers.served("a", HALF_LIFE) == pytest.approx(4.0)
    assert [peer for peer, _ in callers.fitting(lambda _: True, 4 * HALF_LIFE)] == ["b", "a", "c"]


def test_offers_that_were_filled_or_are_old_or_do_not_fit_call_nobody() -> None:
    callers = Callers()
    callers.subscribe("a", ("h", 1), waiting(2))
    callers.subscribe("a", ("h", 2), waiting(3))
    callers.subscribe("b", ("h", 3), waiting(1, until=5.0))
    assert callers.fitting(lambda one: one.free.cores > 2, 0.0) == [("a", 3)]
    callers.withdraw("a", ("h", 2))
    assert callers.fitting(lambda _: True, 10.0) == [("a", 2)]
    callers.expire(10.0)
    callers.forget("a")
    assert not callers


def test_who_has_had_the_question_by_another_way_is_not_called_for_it() -> None:
    callers = Callers()
    for worker, cores in ((1, 2), (2, 2), (3, 5)):
        callers.subscribe("a", ("h", worker), waiting(cores))
    for worker, cores, until in ((1, 4, 300.0), (2, 4, 9.0), (3, 4, 300.0)):
        callers.subscribe("b", ("h", worker), waiting(cores, until=until))
    for worker in (1, 2, 3, 4):
        callers.elsewhere("a", ("h", worker), 10.0)
    assert sum(one.free.cores for _, one in callers.of("a", 10.0)) == 7, "for what that one does not wait for, it is"
    assert sum(one.free.cores for _, one in callers.of("b", 10.0)) == 8


def test_calls_that_come_to_nothing_become_rare() -> None:
    callers, calls, now = Callers(), [], 0.0
    while now < 400.0:
        callers.subscribe("a", ("h", 1), waiting(until=now + 300.0))
        if callers.fitting(lambda _: True, now):
            callers.called("a", now, ["h"])
            calls.append(now)
        now += 1.0
    assert calls[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert len(calls) < 14
    callers.serve("a", 1, now)
    callers.subscribe("a", ("h", 1), waiting(until=now + 300.0))
    assert callers.fitting(lambda _: True, now)


def test_a_call_goes_on_only_to_those_for_whom_it_was_asked() -> None:
    callers = Callers()
    callers.subscribe("a", ("h", 1), waiting(onward=True))
    callers.subscribe("b", ("h", 2), waiting())
    assert callers.onward("b", 0.0) == ["a"]


def test_nobody_is_called_for_what_others_ask_anyway() -> None:
    callers = Callers()
    callers.subscribe("a", ("h", 1), Waiting(PLAIN, Amounts(cores=4), 300.0, True, frozenset("b")))
    assert callers.onward("b", 0.0) == []
    assert callers.onward("c", 0.0) == ["a"]


# --- peers that were asked for others ---------------------------------------------------------------------------------------


def a_try(cores: int = 4, hops: int = 3, until: float = 300.0, calls: bool = True) -> Try:
    return Try(PLAIN, Amounts(cores=cores), hops, until, calls)


def asked_in_vain(tried: Tried, worker: Worker, one: Try) -> None:
    began = tried.ask("peer", [(worker, one)])
    tried.answered("peer", [worker], [(worker, one)], began)


def test_a_peer_that_has_promised_to_call_is_not_asked_again_for_the_same() -> None:
    tried, worker = Tried(), ("a", "h", 1)
    assert not tried.covers("peer", worker, a_try(), 0.0)
    asked_in_vain(tried, worker, a_try())
    known = tried.covers("peer", worker, a_try(cores=2, hops=1), 100.0)
    assert known is not None
    assert known.seconds(100.0) == 200.0, "nobody is promised more than was promised here"
    assert not tried.covers("peer", worker, a_try(), 241.0), "it ends soon"
    assert not tried.covers("peer", worker, a_try(cores=5), 0.0), "there is more room now"
    assert not tried.covers("peer", worker, a_try(hops=4), 0.0), "it may go farther by this way"
    assert not tried.covers("peer", ("b", "h", 1), a_try(), 0.0), "others ask others"


def test_a_call_goes_back_to_those_it_was_promised_to_and_to_nobody_else() -> None:
    tried = Tried()
    asked_in_vain(tried, ("a", "h", 1), a_try())
    asked_in_vain(tried, ("b", "h", 1), a_try(calls=False))
    asked_in_vain(tried, ("c", "h", 2), a_try(until=50.0))
    assert tried.called("peer", 60.0, ["x"]) == {}
    assert tried.called("peer", 60.0, ["x", "h"]) == {"a": ["h"]}
    assert tried.called("peer", 60.0) == {}
    assert not tried.covers("peer", ("a", "h", 1), a_try(), 60.0), "it has called: it may be asked"


def test_a_peer_that_calls_while_it_is_asked_is_asked_again() -> None:
    tried, worker = Tried(), ("a", "h", 1)
    began = tried.ask("peer", [(worker, a_try())])
    assert tried.called("peer", 1.0) == {"a": ["h"]}
    asked_in_vain(tried, ("a", "h", 2), a_try())
    tried.answered("peer", [worker], [(worker, a_try())], began)
    assert not tried.covers("peer", worker, a_try(), 2.0)


def test_what_came_by_another_way_is_passed_on_only_when_that_is_cut() -> None:
    tried, worker = Tried(), ("a", "h", 1)
    for until, now, instead in ((60.0, 50.0, False), (60.0, 299.0, True), (60.0, 300.0, True)):
        asked_in_vain(tried, worker, a_try(until=until, calls=False))
        tried.expire(now)
        assert tried.called("peer", now, ["h"], instead) == ({"a": ["h"]} if now == 299.0 else {})
    asked_in_vain(tried, worker, a_try(until=60.0, calls=False))
    assert not tried.covers("peer", worker, a_try(), 60.0), "and it is asked again as soon as ever"


def test_what_is_given_is_not_waited_for() -> None:
    tried, worker = Tried(), ("a", "h", 1)
    tried.answered("peer", [worker], [], tried.ask("peer", [(worker, a_try())]))
    assert tried.called("peer", 1.0) == {}


def test_what_is_kept_of_a_peer_that_was_asked_is_bounded() -> None:
    tried = Tried()
    asked = [(("a", "h", number), a_try()) for number in range(TRIED + 1)]
    for worker, one in asked:
        asked_in_vain(tried, worker, one)
    assert not tried.covers("peer", ("a", "h", TRIED), a_try(), 0.0), "it is asked each time"
    tried.expire(300.0)
    assert tried.called("peer", 300.0) == {}


def test_what_is_kept_of_one_peer_is_bounded() -> None:
    callers = Callers()
    assert all(callers.subscribe("a", ("h", number), waiting()) for number in range(MOST))
    assert not callers.subscribe("a", ("h", MOST), waiting())
    assert callers.subscribe("a", ("h", 0), waiting())


# --- other ways ---------------------------------------------------------------------------------------------------------------


def test_a_home_that_has_not_asked_is_called_by_another_way_once_by_each() -> None:
    byways = Byways()
    for peer in ("a", "b", "c"):
        byways.came("h", peer, 1.0, 301.0)
    byways.came("other", "d", 1.0, 301.0)
    byways.asked("h", 5.0)
    assert byways.instead("h", "a", 4.0, 9.0) == "", "it has asked since then"
    byways.forget("b")
    assert byways.instead("h", "a", 5.0, 301.0) == "", "nobody waits for so long"
    assert [byways.instead("h", "a", 5.0, 10.0) for _ in range(2)] == ["c", ""]
    assert byways.instead("h", "x", 5.0, 10.0) == "a"
    assert byways.instead("nobody", "x", 5.0, 10.0) == ""


def test_few_other_ways_are_kept_and_those_of_few_homes() -> None:
    byways = Byways()
    for number in range(MOST_WAYS + 1):
        byways.came("h", f"p{number}", 0.0, 300.0)
    found = [byways.instead("h", "x", 0.0, 1.0) for _ in range(MOST_WAYS + 1)]
    assert found == [*(f"p{number}" for number in range(MOST_WAYS, 0, -1)), ""]
    for number in range(HOMES):
        byways.came(f"h{number}", "p", 0.0, 300.0)
    assert (byways.has("h"), byways.has("h0")) == (False, True)


# --- room in the index -----------------------------------------------------------------------------------------------------


def test_jobs_of_others_take_room_and_their_numbers_never_meet_ours() -> None:
    journal = Journal()
    index = Index(journal)
    session = Session(1, 1, "w", PLAIN, FOUR, FOUR, wants=True, paths=True, most_ahead=9)
    index.join(session)
    job = 1 << 52
    ours = Running(Lease(job, 1, 1), job, 1, 1, 0, 1, Amounts(cores=2), "", 0.0, 0)
    theirs, waits = (
        Lent(Lease(job, 1, 1, "b"), Amounts(cores=2)),
        Lent(Lease(job, 1, 1, "c"), Amounts(cores=1), ahead=True),
    )
    index.start(ours)
    index.lend(session, theirs)
    index.lend(session, waits)
    assert (session.free.cores, session.spare.cores, len(session.ahead), session.spare_ahead) == (0, 0, 1, 8)
    mark = journal.mark()
    assert index.returned(session, [theirs.lease]) == [theirs]
    assert (session.free.cores, waits.ahead, len(session.ahead)) == (1, False, 0)
    journal.undo_to(mark)
    assert (session.free.cores, waits.ahead, set(session.lent)) == (0, True, {theirs.lease, waits.lease})
    index.end(job)
    assert session.free.cores == 1
    assert index.returned(session, [Lease(job, 1, 1, "x")]) == []
    journal.undo()
    assert (index.sessions, session.free.cores, session.lent) == ({}, 4, {})


def test_only_a_worker_that_may_be_lent_has_room_to_spare() -> None:
    def spare(**fields: object) -> int:
        fields = {"wants": True, "paths": True, **fields}
        return Session(1, 1, "w", PLAIN, FOUR, FOUR, **fields).spare.cores  # type: ignore[arg-type]

    assert spare() == 4
    for why in ({"paths": False}, {"wants": False}, {"drain": "x"}, {"project": 7}, {"home": "b"}, {"reserved": 9}):
        assert spare(**why) == 0, why
