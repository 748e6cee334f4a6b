"""Results of jobs that a restored server does not know stay with the worker for a while."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.wire.messages import Result, Task
from cpc.worker.aside import DAYS, Aside
from cpc.worker.waiting import sleep
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import World

__all__ = ["expected"]

T = TypeVar("T")
DAY = 86_400.0


def aside(here: World) -> list[str]:
    return [name for name in here.platter.names if "/aside/" in name]


def test_what_a_job_has_left_is_kept_aside_and_told_of_when_the_server_does_not_know_it() -> None:
    here = world(write=Program(5.0, writes=((1.0, "out.dat", b"science" * 20_000),)))
    here.script.verdict = "kept aside"
    done = here.script.add(1, "write", env={"CPC_INDEX": "0"})
    worker = here.worker()
    here.until(lambda: done in here.script.results)
    here.until(lambda: any("does not know" in line for line in here.said))
    (kept,) = (name for name in aside(here) if name.endswith("/out.dat"))
    assert here.platter.names[kept].data == b"science" * 20_000
    (said,) = (line for line in here.said if "does not know" in line)
    assert kept.removesuffix("/out.dat") in said
    note = msgspec.json.decode(here.platter.names[kept.removesuffix("/out.dat") + ".json"].data)
    assert (note["job"], note["outcome"], note["attempt"], note["exit_code"]) == ("1[0]", "ok", 1, 0)
    here.until(lambda: worker.agent.left_behind == 0)
    worker.kill()
    here.platter.power_loss()
    here.worker(pid=101)
    here.reactor.advance(1.0)
    assert any(line.startswith("1 results that their server did not know") for line in here.said)
    assert kept in aside(here), "also after the power has failed"


def test_how_a_job_has_ended_that_left_nothing_is_kept_aside_too() -> None:
    here = world()
    here.script.verdict = "kept aside"
    here.script.add(1, "true")
    here.worker()
    here.until(lambda: any("does not know" in line for line in here.said))
    (note,) = (name for name in aside(here) if name.endswith(".json"))
    assert msgspec.json.decode(here.platter.names[note].data)["outcome"] == "ok"


def test_a_disk_that_does_not_let_us_keep_it_is_asked_again() -> None:
    here = world(write=Program(5.0, writes=((1.0, "out.dat", b"science"),)))
    here.script.verdict = "kept aside"
    here.script.add(1, "write")
    left = [2]

    def broken(operation: str, path: str) -> OSError | None:
        if operation == "rename" and "/runs/" in path and left[0]:
            left[0] -= 1
            return OSError(errno.EIO, "Input/output error", path)
        return None

    here.platter.broken = broken
    worker = here.worker()
    here.until(lambda: any("cannot be kept aside" in line for line in here.said))
    assert worker.agent.left_behind == 1
    here.until(lambda: any(name.endswith("/out.dat") for name in aside(here)))
    here.until(lambda: worker.agent.left_behind == 0)


def test_what_cannot_be_kept_aside_yet_is_spooled_though_the_server_has_said_its_word() -> None:
    here = world(write=Program(5.0, writes=((1.0, "out.dat", b"science"),)))
    here.script.verdict = "kept aside"
    here.script.add(1, "write")
    broken = [True]
    here.platter.broken = lambda operation, path: (
        OSError(errno.EIO, "Input/output error", path)
        if broken[0] and operation == "rename" and "/runs/" in path
        else None
    )
    worker = here.worker()
    room = worker.agent.room
    add, offload = room.spool.add, room.offload

    async def slow(lease: Lease, body: bytes) -> None:
        await sleep(here.reactor, 0.3)
        await add(lease, body)

    async def slower(work: Callable[[], T], /) -> T:
        await sleep(here.reactor, 1.0)
        return work()

    room.spool.add, room.offload = slow, slower  # type: ignore[method-assign]
    here.until(lambda: any("cannot be kept aside" in line for line in here.said))
    assert worker.agent.left_behind == 1
    room.offload = offload
    broken[0] = False
    here.until(lambda: any(name.endswith("/out.dat") for name in aside(here)))
    here.until(lambda: worker.agent.left_behind == 0)


class Shelf:
    """A directory for such results, of 100 bytes, and its time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.disk = MemoryDisk(Platter(lambda: self.time))
        self.disk.make_directory("/work")
        self.aside = Aside(self.disk, "/work", "server-1234", most=100)

    def put(self, number: int, size: int, path: str = "") -> str:
        run = f"/work/runs/{number}"
        self.disk.make_directory(run)
        self.disk.write(f"{run}/out", bytes(size))
        lease = Lease(number << 20, 1, 1, path)
        return self.aside.put(lease, run, Result(lease=lease, outcome=Outcome.OK))

    def there(self) -> list[int]:
        return [
            int(stat.name.split("-")[2].split(".")[0]) >> 20
            for stat in self.disk.scan("/work/aside")
            if stat.kind == "dir"
        ]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_the_oldest_goes_when_there_is_too_much(shelf: Shelf) -> None:
    for number in range(1, 5):
        shelf.time += 1.0
        assert shelf.put(number, 40)
    assert shelf.there() == [3, 4]
    shelf.time += 1.0
    assert shelf.put(9, 101) == "", "too large for itself"
    assert shelf.there() == [3, 4]


def test_what_jobs_of_other_servers_leave_takes_half_and_none_of_what_our_own_need(shelf: Shelf) -> None:
    """Another server says by itself that it does not know a job: it could say so of all that its jobs do here."""

    def put(number: int, size: int, path: str = "") -> str:
        shelf.time += 1.0
        return shelf.put(number, size, path)

    assert put(1, 40)
    for number in range(2, 6):
        assert put(number, 20, "b/c" if number % 2 else "d")
    assert shelf.there() == [1, 4, 5], "the oldest of others' went, not our own"
    assert put(6, 51, "d") == "", "too large for what others may have"
    assert put(7, 60)
    assert shelf.there() == [1, 7], "our own has all of the room when it needs it"
    assert put(8, 10, "d") == ""
    for number in (2, 3):
        assert put(number, 30), "and the oldest of our own goes for what is newer"
    assert shelf.there() == [2, 3]
    assert put(9, 40, "d")
    assert shelf.there() == [2, 3, 9]


def test_a_note_that_cannot_be_read_is_counted_as_our_own(shelf: Shelf) -> None:
    place = shelf.put(1, 60)
    shelf.disk.write(f"{place}.json", b"")
    shelf.aside.tidy()
    assert shelf.there() == [1]
    assert shelf.put(2, 50, "d") == ""


def test_that_there_is_no_room_for_what_another_servers_job_has_left_is_said_with_the_limit() -> None:
    here = world(write=Program(5.0, writes=((1.0, "out.dat", b"science" * 20_000),)))
    here.script.verdict = "kept aside"
    lease = Lease(ids.make(1, 1), 1, 1, "b/c")
    task = Task(lease=lease, project=ids.make(1, 1), granted=Amounts(cores=1), argv=("write",))
    here.script.tasks.append(task)
    worker = here.worker()
    worker.agent.room.aside._most = 200_000
    here.until(lambda: any("does not know" in line for line in here.said))
    (said,) = (line for line in here.said if "does not know" in line)
    assert "all jobs of other servers may leave 97.7 KiB in" in said
    assert aside(here) == []


def test_what_is_kept_aside_goes_after_some_days(shelf: Shelf) -> None:
    shelf.aside.tidy()
    shelf.put(1, 10)
    shelf.time += DAYS * DAY - 1.0
    shelf.put(2, 10)
    assert shelf.aside.count() == 2
    shelf.time += 2.0
    shelf.aside.tidy()
    assert shelf.there() == [2]
    assert shelf.aside.count() == 1


def test_a_crash_in_between_costs_nothing(shelf: Shelf) -> None:
    """It was moved, and then the worker was killed: the server's word comes once more."""
    place = shelf.put(1, 10)
    shelf.disk.unlink(f"{place}.json")
    again = shelf.aside.put(Lease(1 << 20, 1, 1), "/work/runs/1", Result(lease=Lease(1, 1, 1), outcome=Outcome.OK))
    assert again == place
    assert shelf.aside.count() == 1
