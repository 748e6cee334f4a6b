"""Who holds a server's lock: the process that is the server, and nobody who only looks."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from cpc.core.errors import Conflict
from cpc.server import process
from cpc.server.config import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A server that does not run."""
    made = Place.named(tmp_path, "lab")
    with process.held(made, None):
        assert process.is_running(made)
    return made


@pytest.fixture
def look(place: Place) -> Iterator[IO[bytes]]:
    """Another command looks whether it runs, and is stopped while it does; it goes on when this is closed."""
    with process.lock_file(place).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield file


def test_who_only_looks_is_not_taken_for_the_server(place: Place, look: IO[bytes]) -> None:
    assert not process.is_running(place)
    assert not look.closed


def test_who_only_looks_is_waited_for(place: Place, look: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: look.close())
    with process.held(place, None):
        assert process.is_running(place)
    assert not process.is_running(place)


def test_who_does_not_go_away_is_not_waited_for_long(
    place: Place, look: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(Conflict) as refused:
        process.Hold(place, None)
    assert refused.value.hint == "try again in a moment"
    assert 1 <= sum(waits) <= 5
    assert not look.closed


def test_a_server_that_runs_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with process.held(place, None):
        process.record(place)
        with pytest.raises(Conflict) as refused:
            process.Hold(place, None)
    assert f"running as process {os.getpid()}" in refused.value.hint
    assert waits == []
