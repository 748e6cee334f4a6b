"""Whose work comes first among peers: by core-seconds at the home, and by the order of a server in between."""

from __future__ import annotations

from cpc.core.resources import Amounts
from cpc.queue.requirement import profile
from cpc.queue.sources import TURN, Choice, Sources
from cpc.queue.spare import Spare

FOUR = Amounts(cores=4)
PLAIN = profile((), (), FOUR)


def test_of_the_same_priority_who_has_used_least_core_seconds_is_first() -> None:
    sources = Sources()
    for peer, charged, used in (("a", 60.0, 5.0), ("b", 60.0, 300.0)):
        sources.serve(peer, charged, 0.0)
        sources.serve(peer, used - charged, 0.0)
    assert [(each.peer, each.served) for each in sources.rank("ba", lambda _: 0, 0.0)] == [("a", 5.0), ("b", 300.0)]
    sources.serve("b", -1000.0, 0.0)
    assert sources.rank("b", lambda _: 0, 0.0)[0].served == 0.0, "nobody has used less than nothing"


def test_a_server_in_between_is_asked_whose_turn_it_is() -> None:
    """The owner's server hears of the room by itself, and not of those that come before it at the server in between."""
    sources, spare = Sources(), Spare(1, PLAIN)

    def asked(known: str, now: float) -> bool:
        order = sources.rank("b", lambda _: 0, now)
        return sources.choose(spare, order, now, lambda _: FOUR, known) is not None

    assert not asked("b/c", 0.0)
    sources.called("b", 0.0)
    assert asked("b/c", 0.0)
    assert not asked("b", 0.0), "its own jobs come first there anyway"
    sources.asking("b")
    sources.filled("b", ["b/d"], 0.0)
    sources.gave("b", {"b/d"}, 0.0)
    assert asked("b/c", 1.0), "the other one comes first there"
    assert not asked("b/d", TURN - 1.0)
    assert asked("b/d", TURN), "also when nobody has called for a while"
    sources.gave("b", {"b/c", "b/d"}, TURN)
    assert asked("b/d", TURN), "one alone did not fill the room"
    sources.in_vain(Choice("b", 0), PLAIN, FOUR, TURN, 300.0)
    sources.forget("b")
    assert not asked("b/d", 10 * TURN)
