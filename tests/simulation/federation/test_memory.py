"""What servers remember of each other is gone when it is over: a long life that leaves nothing behind."""

from __future__ import annotations

from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import CHAIN, end, join, quiet, state, submit
from tests.simulation.federation.memory import entries, left, too_many

__all__ = ["collected"]


def test_a_relay_and_its_neighbours_remember_no_more_after_hours_than_after_minutes() -> None:
    """Jobs with files go through the relay again and again; workers leave and come back, and servers are killed."""
    made = quiet(CHAIN, (1, 0, 0))
    join(made, "s1n1")
    sizes: list[dict[int, int]] = []
    for turn in range(6):
        job = submit(made, 3, "big", "5", "300000", array=8)
        made.reactor.advance(3.0)
        if turn % 2:
            made.sites[turn // 2 + 1].kill_server("killed", away=5.0)
        made.until(lambda job=job: all(state(made, 3, job + each) == "succeeded" for each in range(8)), 900.0)  # type: ignore[misc]
        made.reactor.advance(900.0)
        made.until(lambda: made.settled() and made.truth.at_rest(), 300.0)
        servers = {number: site.peers for number, site in made.sites.items()}
        assert not [
            words for server in servers.values() if server is not None for words in (*left(server), *too_many(server))
        ]
        sizes.append({n: entries(server).total() for n, server in servers.items() if server is not None})
    first, last = sizes[0], sizes[-1]
    few = 16  # what is served on a connection, depending on who has dialled it
    assert all(last[number] <= first[number] + few for number in (1, 2, 3)), sizes
    end(made)
