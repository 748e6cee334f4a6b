"""A slow way to the server leaves no core idle: what a program has left is sent while the next one runs. Told by hand."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cpc.core.clock import Timers
from tests.simulation import server
from tests.simulation.by_hand import collected, join, state, submit, world
from tests.simulation.federation import by_hand as federation
from tests.simulation.world import World

__all__ = ["collected", "world"]

LONG = 15.0  # seconds for the files of one job; its program takes 10
LARGE = "70000"  # bytes: too much for the report itself


def slow_down(monkeypatch: pytest.MonkeyPatch, reactor: Timers) -> list[bytes]:
    """Each chunk takes LONG; those that have come."""
    put, came = server._Chunks.put_chunk, list[bytes]()

    async def slow(self: Any, project: int, digest: bytes, data: bytes, of: int) -> None:
        waited: Deferred[None] = Deferred()
        reactor.callLater(LONG, waited.callback, None)
        await waited
        await put(self, project, digest, data, of)
        came.append(digest)

    monkeypatch.setattr(server._Chunks, "put_chunk", slow)
    return came


def test_the_next_jobs_begin_while_results_are_on_their_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    came = slow_down(monkeypatch, world.reactor)
    join(world, "n1")
    first = submit(world, "ok", "10", LARGE, array=12)
    world.reactor.advance(13.0)
    assert [state(world, first + index) for index in (0, 4, 8)] == ["running", "running", "waiting"]
    world.reactor.advance(9.0)
    assert not came
    assert state(world, first + 8) == "waiting", "no more results come to lie there than the worker has cores"
    world.until(lambda: all(state(world, first + index) == "succeeded" for index in range(12)), within=50.0)
    assert len(came) == 12


def test_a_worker_that_comes_back_meanwhile_is_given_no_more_than_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that has started anew knows of no program that has ended, until it is told."""
    slow_down(monkeypatch, world.reactor)
    join(world, "n1")
    first = submit(world, "ok", "10", LARGE, array=12)
    world.reactor.advance(13.0)
    world.kill_server("is killed", 1.0)
    world.until(lambda: all(state(world, first + index) == "succeeded" for index in range(12)), within=120.0)
    assert [world.attempts(first + index) for index in range(12)] == [1] * 12


def test_the_same_at_a_worker_that_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    made = federation.quiet([(1, 2)], (1, 0))
    slow_down(monkeypatch, made.reactor)
    federation.join(made, "s1n1")
    first = federation.submit(made, 2, "ok", "10", LARGE, array=12)
    made.until(lambda: all(federation.state(made, 2, first + index) == "succeeded" for index in range(12)), 65.0)
    federation.end(made)
