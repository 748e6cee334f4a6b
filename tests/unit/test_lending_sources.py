"""Which peer is asked for work, how far beyond it, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.resources import Amounts
from cpc.queue.requirement import profile
from cpc.queue.sources import AGAIN, MOST_OWNERS, Choice, Ranked, Sources
from cpc.queue.spare import Spare

FOUR = Amounts(cores=4)
PLAIN = profile((), (), FOUR)
GROMACS = profile((("gromacs/mdrun", "2022.5"), ("other", "1")), (), FOUR)


def order(*peers: str) -> tuple[Ranked, ...]:
    return Sources().rank(peers, peers.index, 0.0)


def everything(_peer: str) -> Amounts:
    return FOUR


def chosen(
    sources: Sources,
    spare: Spare,
    peers: Sequence[Ranked],
    now: float,
    room: Callable[[str], Amounts] = everything,
    known: str = "",
) -> str:
    """The peer that is asked; empty: nobody."""
    choice = sources.choose(spare, peers, now, room, known)
    return choice.peer if choice is not None else ""


def in_vain(sources: Sources, peer: str, room: Amounts = FOUR, now: float = 0.0, subscribed: float = 300.0) -> None:
    sources.in_vain(Choice(peer, 0), PLAIN, room, now, subscribed)


def test_peers_are_asked_in_order_and_none_twice_while_it_will_call() -> None:
    sources, spare, asked = Sources(), Spare(1, PLAIN), []
    while peer := chosen(sources, spare, order("a", "b", "c"), 0.0):
        asked.append(peer)
        in_vain(sources, peer)
    assert asked == ["a", "b", "c"]
    assert sources.expire(0.0) == 300.0
    assert chosen(sources, spare, order("a", "b", "c"), 299.0) == ""
    assert chosen(sources, spare, order("a", "b", "c"), 300.0) == "a"
    assert sources.expire(300.0) is None
    sources.called("b", 0.0)
    assert chosen(sources, spare, order("a", "b", "c"), 1.0) == "b"


def test_more_room_or_another_profile_is_worth_another_question() -> None:
    sources = Sources()
    in_vain(sources, "a", Amounts(cores=1))
    assert chosen(sources, Spare(1, PLAIN), order("a"), 1.0, lambda _: Amounts(cores=1)) == ""
    assert chosen(sources, Spare(1, PLAIN), order("a"), 1.0, lambda _: Amounts(cores=2)) == "a"
    assert chosen(sources, Spare(1, GROMACS), order("a"), 1.0, lambda _: Amounts(cores=1)) == "a"
    assert chosen(sources, Spare(1, GROMACS), order("a"), 1.0, lambda _: Amounts()) == ""


def test_one_that_promises_nothing_is_asked_again_after_a_while() -> None:
    sources = Sources()
    in_vain(sources, "a", subscribed=0.0)
    assert chosen(sources, Spare(1, PLAIN), order("a"), AGAIN - 1) == ""
    assert chosen(sources, Spare(1, PLAIN), order("a"), AGAIN) == "a"


def test_peers_of_a_higher_priority_come_before_the_owner_whose_jobs_run_there() -> None:
    """If they may have work: they have called, or nobody has asked them for a while."""
    sources, spare = Sources(), Spare(1, PLAIN)
    peers = order("a", "b", "c")
    sources.called("c", 0.0)
    assert chosen(sources, spare, peers, 0.0, known="b") == "a"
    sources.asking("a")
    in_vain(sources, "a")
    assert chosen(sources, spare, peers, 0.0, known="b") == ""
    sources.called("a", 0.0)
    assert chosen(sources, spare, peers, 0.0, known="b") == "a"


def test_peers_of_the_same_priority_that_have_work_take_turns() -> None:
    sources, spare = Sources(), Spare(1, PLAIN)

    def after(known: str) -> str:
        return chosen(sources, spare, sources.rank("ab", lambda _: 0, 0.0), 0.0, known=known)

    sources.serve("a", 4, 0.0)
    assert after("a") == "b", "nobody knows whether the other one has work"
    in_vain(sources, "b")
    assert after("a") == "", "it has none, and is not asked for each job"
    sources.called("b", 0.0)
    assert after("a") == "b"
    sources.asking("b")
    sources.filled("b", ["b"], 0.0)
    sources.serve("b", 5, 0.0)
    sources.called("a", 0.0)
    assert after("a") == "", "it was served less"
    assert after("b") == "a"
    assert after("") == "a", "the least served first"


def test_what_is_near_is_looked_at_first_and_nothing_is_left_out() -> None:
    """Another peer of the same priority comes before one that is asked farther; who has called is asked as far as its work is."""
    sources, spare, asked = Sources(), Spare(1, PLAIN), []
    peers = sources.rank("ab", lambda _: 0, 0.0, lambda peer: {"a": 15, "b": 1}[peer])
    while choice := sources.choose(spare, peers, 0.0, everything):
        asked.append((choice.peer, choice.hops))
        sources.in_vain(choice, PLAIN, FOUR, 0.0, 300.0, complete=False)
    assert asked == [("a", 0), ("b", 0), ("b", 1), ("a", 2), ("a", 6), ("a", 15)]
    sources.called("a", 10.0, "x", 4)
    sources.called("a", 11.0, "y", 3)
    assert sources.choose(spare, peers, 11.0, everything) == Choice("a", 3)
    sources.asking("a")
    sources.in_vain(Choice("a", 3), PLAIN, FOUR, 11.0, 300.0, complete=True)
    assert sources.choose(spare, peers, 12.0, everything) is None, "there is nobody beyond who was not asked"
    assert sources.choose(spare, peers[:1], 311.0, everything) == Choice("a", 15), "nothing nearer has called"


def test_a_longer_way_to_an_owner_is_none_while_there_is_a_shorter_one() -> None:
    sources, spare = Sources(), Spare(1, PLAIN)
    sources.serve("a", 100.0, 0.0)

    def choice(known: str = "", now: float = 0.0) -> Choice | None:
        return sources.choose(spare, sources.rank("ab", lambda _: 0, now, lambda _: 15), now, everything, known)

    in_vain(sources, "b", subscribed=100.0)
    sources.called("a", 0.0, "x", 2)
    sources.called("b", 0.0, "x", 5)
    assert choice() == Choice("a", 2), "although the other one was served less"
    sources.asking("a")
    assert choice("a/c/x") is None
    assert choice("a/c/x", 100.0) == Choice("b", 5, "x"), (
        "now it would not call for others, nor is it to ask that owner"
    )
    sources.called("b", 1.0, "y", 7)
    assert choice("a/c/x") == Choice("b", 5, "x"), "it has work of somebody else"
    for number in range(1000):
        sources.called("b", 1.0, f"z{number}", 7)
    assert len(sources._work["b"].owners) <= MOST_OWNERS + 1


def test_what_was_asked_for_without_an_owner_is_asked_for_anew_when_that_is_nobody_any_more() -> None:
    sources, spare, peers = Sources(), Spare(1, PLAIN), order("a", "b")
    sources.in_vain(Choice("a", 0, "x"), PLAIN, FOUR, 0.0, 300.0)
    assert chosen(sources, spare, peers, 0.0, known="b/x") == ""
    assert chosen(sources, spare, peers, 0.0, known="b/y") == "a"
    assert chosen(sources, spare, peers, 0.0) == "a"


def test_a_peer_that_calls_while_our_own_workers_ask_it_is_asked_again() -> None:
    sources = Sources()
    sources.asking("peer")
    sources.called("peer", 0.0)
    in_vain(sources, "peer")
    assert not sources.covered("peer", PLAIN, FOUR, 0, 1.0)
    sources.asking("peer")
    in_vain(sources, "peer", now=1.0)
    assert sources.covered("peer", PLAIN, FOUR, 0, 2.0)
