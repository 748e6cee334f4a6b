"""A worker that sends anything at all: it is answered, nothing breaks, and the worker beside it goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpc.core.errors import CopernicusError, Refused
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.server import closing
from cpc.store.jobs import Range
from cpc.wire.messages import (
    Bulk,
    ChunkGet,
    ChunkList,
    ChunkPut,
    ChunksMissing,
    Enrol,
    Goodbye,
    Hello,
    Orders,
    Result,
    Turn,
)
from tests.helpers.files import content_of
from tests.helpers.hostile_values import LARGE_CHUNK, SMALL_CHUNK, filled, message
from tests.helpers.machine_door import MachineDoor
from tests.helpers.stores import empty
from tests.simulation import logs

WIDE = int(os.environ.get("CPC_TEST_EXAMPLES", "0"))
EXAMPLES = WIDE or 40

QUESTIONS = {
    "hello": message(Hello), "turn": message(Turn), "goodbye": message(Goodbye), "bulk": message(Bulk),
    "renew-certificate": message(Enrol), "enrol": message(Enrol), "chunk-get": message(ChunkGet),
    "chunk-put": message(ChunkPut), "chunks-missing": message(ChunksMissing),
}  # fmt: skip
TALK = st.lists(
    st.sampled_from(["turn"] * 8 + list(QUESTIONS)).flatmap(
        lambda method: st.tuples(st.just(method), QUESTIONS[method])
    ),
    min_size=2, max_size=10,
)  # fmt: skip


@pytest.fixture
def doors(database_url: str) -> Iterator[Callable[[], MachineDoor]]:
    """Makes doors with a database of each kind; the next one has forgotten what the one before had to bear."""
    logs.listen()
    made: list[MachineDoor] = []

    def fresh() -> MachineDoor:
        logs.heard.clear()
        while made:
            made.pop().close()
        empty(database_url)
        made.append(MachineDoor(database_url))
        return made[0]

    yield fresh
    while made:
        made.pop().close()
    logs.stop()


def one_talk(door: MachineDoor, talk: list[tuple[str, Any]]) -> None:
    """A hostile worker and a good one, with a job each."""
    bench = door.bench
    good, bad = door.worker(), door.worker()
    good.join(labels=("good",))
    job = door.submit(labels=("good",))
    assert list(good.tasks) == [job]
    welcome = bad.join(labels=("bad",))
    bad.ask("bulk", Bulk(session=welcome.session))
    other = door.submit(labels=("bad",), max_failures=50, max_losses=50)
    lease = bad.tasks[other]
    for digest, data in (SMALL_CHUNK, LARGE_CHUNK):
        bad.ask("chunk-put", ChunkPut(lease=lease, digest=digest, data=data))
    for method, body in talk:
        answer = bad.ask(method, filled(body, lease))
        said = str(answer)
        assert not logs.heard, f"{method} {body!r}\n{logs.heard[0]}"
        assert not isinstance(answer, CopernicusError) or said.partition(" (")[0] != f"{method} failed", said
        if bad.tasks:
            lease = next(iter(bad.tasks.values()))
    bench.check()
    settled = good.turn(results=(Result(lease=good.tasks[job], outcome=Outcome.OK, exit_code=0),))
    assert [one.verdict for one in settled.settled] == ["accepted"]
    assert bench.state(job) is State.SUCCEEDED
    good.ask("goodbye", Goodbye())
    bench.do(lambda tx: closing.cancel(bench.queue, tx, other, Range.of(other, False), "enough", "user:t"))
    bench.restart()  # what was kept can be read again
    bench.check()


def test_whatever_a_worker_says_is_answered_and_nobody_else_notices(doors: Callable[[], MachineDoor]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not WIDE,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TALK)
    def holds(talk: list[Any]) -> None:  # within the test: pytest-twisted cannot run one that is also parametrized
        one_talk(doors(), talk)

    holds()


FOUND: list[tuple[str, dict[str, Any]]] = [
    ("taken", {"tail": "a\0b", "message": "\0"}),  # PostgreSQL keeps no NUL
    ("taken", {"message": "m" * 100_000, "tail": "t" * 100_000}),
    ("refused", {"exit_code": 1 << 31}),
    ("refused", {"max_memory": 1 << 63}),
    ("refused", {"wall_seconds": float("nan")}),  # JSON has no word for it
    ("refused", {"cpu_seconds": float("inf")}),
    ("refused", {"lease": [0, 1 << 63, 0]}),
    ("refused", {"lease": [1, 1, 1 << 40]}),
]


@pytest.mark.parametrize(("how", "fields"), FOUND)
def test_a_result_that_no_database_takes_is_cut_to_size_or_refused(
    doors: Callable[[], MachineDoor], how: str, fields: dict[str, Any]
) -> None:
    door = doors()
    worker = door.worker()
    worker.join()
    job = door.submit()
    lease = worker.tasks[job]
    report = {"lease": lease, "outcome": "ok", "exit_code": 0} | fields
    answer = worker.ask("turn", {"number": 2, "holds": [lease], "results": [report]}, Orders)
    assert not logs.heard
    if how == "refused":
        assert isinstance(answer, Refused)
        assert "does not fit" in answer.message
        assert door.bench.state(job) is State.RUNNING
    else:
        assert [one.verdict for one in answer.settled] == ["accepted"]
        assert door.bench.state(job) is State.SUCCEEDED
    door.bench.check()


def test_nothing_is_read_in_the_name_of_a_life_that_is_lost(doors: Callable[[], MachineDoor]) -> None:
    """A worker can make up an attempt of such a life for the job of any project, and nobody here knows better."""
    door = doors()
    good, bad = door.worker(), door.worker()
    good.ask("bulk", Bulk(session=good.join(labels=("good",)).session))
    bad.ask("bulk", Bulk(session=bad.join(labels=("bad",)).session))
    door.bench.queue.incarnation = 3
    job = door.submit(labels=("good",))
    lease = good.tasks[job]
    digest, data = SMALL_CHUNK
    good.ask("chunk-put", ChunkPut(lease=lease, digest=digest, data=data))
    for lost in (Lease(job, 1, 2), Lease(job, 5, 1)):
        answer = bad.ask("chunk-get", ChunkGet(lease=lost, digest=digest))
        assert isinstance(answer, Refused)
        assert "nothing is read for it" in answer.message
        assert not isinstance(bad.ask("chunk-put", ChunkPut(lease=lost, digest=digest, data=data)), CopernicusError)
    assert not isinstance(good.ask("chunk-get", ChunkGet(lease=lease, digest=digest)), CopernicusError)


def test_an_attempt_of_a_life_that_is_lost_tells_nothing_of_what_a_project_has(
    doors: Callable[[], MachineDoor],
) -> None:
    """Neither by what is missing, nor by what a result may name that nobody has sent."""
    door = doors()
    good, bad = door.worker(), door.worker()
    good.ask("bulk", Bulk(session=good.join(labels=("good",)).session))
    bad.ask("bulk", Bulk(session=bad.join(labels=("bad",)).session))
    door.bench.queue.incarnation = 3
    job = door.submit(labels=("good",))
    digest, data = SMALL_CHUNK
    good.ask("chunk-put", ChunkPut(lease=good.tasks[job], digest=digest, data=data))
    lost = Lease(job, 5, 1)
    files = Manifest((Entry(b"out", content=content_of(bytes(data))),))
    claim = Result(lease=lost, outcome=Outcome.OK, exit_code=0, files=files)
    assert bad.ask("chunks-missing", ChunksMissing(lease=lost, digests=(digest,)), ChunkList).digests == (digest,)
    assert bad.turn(results=(claim,)).retry == (lost,)
    bad.ask("chunk-put", ChunkPut(lease=lost, digest=digest, data=data))
    assert bad.ask("chunks-missing", ChunksMissing(lease=lost, digests=(digest,)), ChunkList).digests == ()
    assert [one.verdict for one in bad.turn(results=(claim,)).settled] == ["quarantined"]
