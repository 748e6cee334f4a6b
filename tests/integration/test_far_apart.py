"""Three servers in a row with a tenth of a second between neighbours, one way. All processes are real, and so are the waits.

`a` has the workers, `c` the projects: what one says comes back from the other after four tenths.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import namespaces
from tests.helpers.lab import MIB, Lab, given, held, success
from tests.helpers.network_of_processes import Worker, gone, until

LACKING = namespaces.missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

DELAY = 0.1
THERE_AND_BACK = 4 * DELAY
HEARTBEAT = 15

#: Goes on from its checkpoint.
FROM_CHECKPOINT = 'if [ -e state.cpt ]; then echo "from $(cat state.cpt)"; exit 0; fi; echo 42 > state.cpt; sleep 1000'


class Row(Lab):
    """The three of them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, "abc", ("ab", "bc"), DELAY, heartbeat_time=str(HEARTBEAT), checkpoint_interval="1"
        )  # fmt: skip
        self.a, self.b, self.c = self.sites.values()


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    made = Row(tmp_path_factory.mktemp("row"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def worker(row: Row) -> Worker:
    """At `a`."""
    made: Worker = row.a.worker(cores=3)
    return made


@pytest.fixture(scope="module")
def long_job(row: Row, worker: Worker) -> str:
    """Runs for longer than a heartbeat_time, beside all the others."""
    job: str = row.c.shell(f"sleep {HEARTBEAT + 1}")
    row.c.running(job)
    return job


def test_a_ping_says_how_long_it_takes(row: Row) -> None:
    began = time.monotonic()
    hops = row.a.cpcc("--json", "ping", row.c.id).json["data"]["hops"]
    took = time.monotonic() - began
    assert [hop["id"] for hop in hops] == [row.b.id, row.c.id]
    assert 2 * DELAY <= hops[0]["seconds"] < took
    assert THERE_AND_BACK <= hops[1]["seconds"] < took
    seen = row.a.cpcc("network").done()
    assert all(site.id in seen for site in row.sites.values())


def test_jobs_do_not_wait_for_one_another_on_the_way(row: Row, long_job: str) -> None:
    """One job of each core for each way there and back would be the slow way."""
    row.c.end_of_array(row.c.shell("true", array=20))
    began = time.monotonic()
    done = row.c.end_of_array(row.c.shell("true", array=200))
    assert done.jobs == {"succeeded": 200}
    assert time.monotonic() - began < 200 * THERE_AND_BACK / 2 / 2


def test_files_come_through_with_several_chunks_on_the_way(row: Row, long_job: str, tmp_path: Path) -> None:
    data = given(row.c, tmp_path / "data", 13 * MIB)
    job = row.c.shell("cp data copy", inputs=(data,))
    success(row.c, job)
    with row.c.host:
        assert row.c.network.output(job, "copy") == (tmp_path / "data").read_bytes()


def test_a_log_is_followed_and_a_cancel_arrives(row: Row, long_job: str, tmp_path: Path) -> None:
    wait = f"until test -e {tmp_path}/go; do sleep 0.1; done"
    job = row.c.shell(f"echo $$ > {tmp_path}/pid; echo one; {wait}; echo two; sleep 1000")
    pid = row.c.pid(tmp_path / "pid")
    follower = row.c.begin("cpcc", "logs", "-f", job)
    until(lambda: "one" in follower.said, "the first line comes", seen=lambda: follower.said)
    (tmp_path / "go").touch()
    until(lambda: "two" in follower.said, "the second line comes", seen=lambda: follower.said)
    row.c.cpcc("cancel", job).done()
    row.c.in_state(job, "cancelled")
    until(lambda: gone(pid), "the process ends")
    assert follower.ended() == 0, follower.said


def test_a_job_goes_on_from_the_checkpoint_that_its_owner_has(row: Row, long_job: str) -> None:
    second: Worker = row.a.worker(cores=1)
    job = row.c.shell(FROM_CHECKPOINT, checkpoint=("*.cpt",), labels=(second.label,))
    until(lambda: row.c.job(job).checkpoint, "a checkpoint has come", seen=lambda: row.c.story(job))
    name = row.a.name(second)
    row.a.cpcc("drain", name, "--now", "moving").done()
    row.c.in_state(job, "waiting")
    row.a.cpcc("resume", name).done()
    done = row.c.success_of(job)
    assert [attempt.outcome for attempt in done.history] == ["preempted", "ok"]
    with row.c.host:
        assert row.c.network.output(job) == b"from 42\n"
    row.a.dismiss(second)


def test_a_line_that_loses_and_shuffles_is_slow_and_nothing_else(row: Row, long_job: str, tmp_path: Path) -> None:
    row.wire.late(DELAY, jitter=0.01, loss=0.02, reorder=0.001)
    data = given(row.c, tmp_path / "data", 5 * MIB)
    job, go = held(row.c, tmp_path, "cp data copy", inputs=(data,))
    array = row.c.shell("true", array=50)
    assert row.c.end_of_array(array).jobs == {"succeeded": 50}
    go.touch()
    success(row.c, job)
    with row.c.host:
        assert row.c.network.output(job, "copy") == (tmp_path / "data").read_bytes()
    row.wire.late(DELAY, jitter=0.0, loss=0.0, reorder=0.0)


def test_nothing_was_lost_meanwhile(row: Row, long_job: str) -> None:
    success(row.c, long_job)
    for site, links in ((row.a, 1), (row.b, 2), (row.c, 1)):
        said = (site.directory / "server.out").read_text()
        assert said.count(") is connected\n") == links, said
