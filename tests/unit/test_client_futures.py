"""Jobs as futures: what `concurrent.futures` promises holds for them."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client.client import Client
from cpc.client.futures import Executor, JobFailed
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import BadInput
from tests.helpers.small_server import SmallServer
from tests.helpers.small_server_world import Output

SOON = 20.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


@pytest.fixture
def jobs(api: SmallServer) -> Iterator[Executor]:
    pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
    client = Client(Transport(api.host, api.port, pin, "alice-token"), "villin")
    executor = Executor(client)
    yield executor
    executor.shutdown(wait=False)
    client.close()


def test_a_future_gives_the_result_of_its_job(api: SmallServer, jobs: Executor, tmp_path: Path) -> None:
    future = jobs.submit(["echo", "hello"])
    assert not future.done()
    assert not future.running()
    api.world.start(future.job)
    assert future.running()
    api.world.end(future.job, outputs=[Output(b"stdout", b"hello\n"), Output(b"a.txt", b"a")])
    result = future.result(SOON)
    assert (result.exit_code, result.stdout, result.outputs()) == (0, "hello\n", ("stdout", "a.txt"))
    assert result.fetch(tmp_path / "here", ["a.txt"]) == [tmp_path / "here/a.txt"]


def test_a_job_that_fails_is_the_futures_exception(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["false"])
    api.world.end(future.job, state="failed", exit_code=3, reason="its program ended with 3")
    problem = future.exception(SOON)
    assert isinstance(problem, JobFailed)
    assert problem.job.exit_code == 3
    with pytest.raises(JobFailed, match="ended with 3"):
        future.result()


def test_a_result_that_is_not_there_in_time_is_a_timeout(jobs: Executor) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        jobs.submit(["sleep"]).result(0.05)


def test_a_cancelled_future_cancels_its_job_also_while_it_runs(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["sleep", "1000"])
    api.world.start(future.job)
    assert future.cancel()
    assert future.cancelled()
    assert api.world.jobs[future.job].state == "cancelled"
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(SOON)
    done, _ = concurrent.futures.wait([future], SOON)
    assert done == {future}


def test_a_cancel_whose_answer_comes_after_the_end_was_seen_is_a_cancel(
    jobs: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = jobs.submit(["sleep", "1000"])
    cancel = Client.cancel

    def late(client: Client, job: str) -> object:
        answer = cancel(client, job)
        concurrent.futures.wait([future], SOON)
        return answer

    monkeypatch.setattr(Client, "cancel", late)
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(SOON)


def test_an_ended_job_cannot_be_cancelled(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["true"])
    api.world.end(future.job)
    future.result(SOON)
    assert not future.cancel()
    assert not api.asked("POST", ".*/cancel")


def test_callbacks_are_called_once(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["true"])
    called: list[str] = []
    future.add_done_callback(lambda one: called.append(future.job))
    api.world.end(future.job)
    future.result(SOON)
    future.add_done_callback(lambda one: called.append("late"))
    assert called == [future.job, "late"]


def test_futures_are_completed_in_the_order_in_which_jobs_end(api: SmallServer, jobs: Executor) -> None:
    futures = [jobs.submit(["sleep", str(number)]) for number in range(6)]
    order = [4, 2, 5, 0, 3, 1]
    seen = []
    completed = concurrent.futures.as_completed(futures, SOON)
    for number in order:
        api.world.end(futures[number].job)
        seen.append(futures.index(next(completed)))  # type: ignore[arg-type]
    assert seen == order


def test_a_map_is_one_array_with_a_future_for_each_row(api: SmallServer, jobs: Executor) -> None:
    futures = jobs.map(["sim", "--seed", "{seed}"], [{"seed": number} for number in range(1500)])
    assert [one.job for one in futures[:2]] == ["57[0]", "57[1]"]
    assert len(api.asked("POST", ".*/jobs")) == 1
    assert api.world.jobs["57[7]"].command == "sim --seed 7"
    api.world.end(*[one.job for one in futures])
    done, rest = concurrent.futures.wait(futures, SOON)
    assert not rest
    assert all(one.result().exit_code == 0 for one in done)
    assert len(api.calls) < 60, "not one question for each job"


def test_a_lost_connection_is_not_a_lost_future(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["true"])
    api.faults.lose_reply["/wait"] = 2
    api.faults.busy["/wait"] = 1
    api.world.end(future.job)
    assert future.result(SOON).exit_code == 0


def test_a_submission_whose_reply_is_lost_is_one_job(api: SmallServer, jobs: Executor) -> None:
    api.faults.lose_reply["/projects/villin/jobs"] = 1
    assert jobs.submit(["true"]).job == "57"
    assert len(api.world.jobs) == 1


def test_a_job_that_is_forgotten_ends_its_future(api: SmallServer, jobs: Executor) -> None:
    future = jobs.submit(["true"])
    del api.world.jobs[future.job]
    assert future.exception(SOON) is not None


def test_inputs_are_sent_before_the_job(api: SmallServer, jobs: Executor, tmp_path: Path) -> None:
    script = tmp_path / "simulate"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    jobs.submit(["./simulate"], inputs=[script], outputs=("*.xtc",))
    (entry,) = api.world.specs["57"].inputs
    assert (entry.path, entry.executable) == ("simulate", True)
    assert api.world.files[entry.content.digest.hex()] == b"#!/bin/sh\n"


def test_rows_with_different_names_are_refused(jobs: Executor) -> None:
    with pytest.raises(BadInput, match="row 1"):
        jobs.map(["x", "{a}"], [{"a": 1}, {"b": 2}])
    assert jobs.map(["x"], []) == []


@pytest.mark.parametrize("asked", [False, True])
def test_shutdown_without_waiting_is_prompt(api: SmallServer, jobs: Executor, asked: bool) -> None:
    jobs.submit(["sleep", "1000"])
    while asked and not api.asked("GET", ".*/wait"):
        time.sleep(0.01)
    jobs.shutdown(wait=False)
    assert "copernicus-watcher" not in {thread.name for thread in threading.enumerate()}, (
        "it was told, and did not wait"
    )


def test_leaving_the_executor_waits_for_its_jobs(api: SmallServer, tmp_path: Path) -> None:
    pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
    client = Client(Transport(api.host, api.port, pin, "alice-token"), "villin")
    api.world.on_submit = api.world.end
    with Executor(client) as executor:
        future = executor.submit(["true"])
    assert future.done()
    client.close()
