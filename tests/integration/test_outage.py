"""A server that is killed while workers run jobs: nobody's work is lost, and nobody gives up on coming back."""

from __future__ import annotations

from benchmarks.s4_outage import once
from benchmarks.system import system


def test_a_server_may_be_away_for_longer_than_a_heartbeat_time() -> None:
    """Real server, real TLS, simulated workers (`benchmarks.simulated`); 10,000 of them for ten minutes: `make soak`."""
    with system(worker=False) as running:
        running.set("heartbeat_time", "15")
        figures = once(running, 60, away=18.0)
    assert figures["lost_attempts"] == 0
    assert figures["gave_up"] == 0
    assert figures["joined_twice"] == 0
