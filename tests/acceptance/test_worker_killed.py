"""A worker dies, or goes silent: its jobs go on elsewhere, nothing stays behind, and the job is not to blame."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpc.worker import tree
from tests.helpers.network_of_processes import HEARTBEAT, Network, until
from tests.helpers.network_of_processes import gone as ended
from tests.helpers.processes import daemon

# Ends the worker that it runs under: guardian, keeper and agent, from the top.
KILLER = """
import os, signal
chain, pid = [], os.getppid()
while True:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read()
    if b"cpc-worker" not in words and b"cpc.worker" not in words:
        break
    chain.append(pid)
    with open(f"/proc/{pid}/stat", "rb") as file:
        pid = int(file.read().rpartition(b")")[2].split()[1])
assert len(chain) >= 3, chain
for pid in reversed(chain):
    os.kill(pid, signal.SIGKILL)
"""

FROM_CHECKPOINT = """
if [ -e state.cpt ]; then echo "from $(cat state.cpt)"; exit 0; fi
echo 42 > state.cpt; echo $$ > "$1".new; mv "$1".new "$1"; shift; "$@" & wait; sleep 1000
"""


@pytest.fixture(scope="module")
def lab(make_network: Callable[..., Network]) -> Network:
    """A network whose workers send checkpoints every second."""
    return make_network(checkpoint_interval="1")


def lose(network: Network, job: str, attempt: int = 1) -> None:
    """Two seconds of silence are enough, until this attempt is lost. No other worker is there, which might be slow for once."""
    network.client.set_setting("heartbeat_time", "2")
    try:
        network.until(lambda: outcomes(network, job)[attempt - 1] == "lost", f"attempt {attempt} of {job} is lost")
    finally:
        network.client.set_setting("heartbeat_time", f"{HEARTBEAT:g}")


def outcomes(network: Network, job: str) -> list[str | None]:
    """How its attempts have ended, in order."""
    return [attempt.outcome for attempt in network.job(job).history]


def test_a_killed_worker_leaves_no_process_and_its_job_goes_on_from_the_checkpoint(
    lab: Network, tmp_path: Path
) -> None:
    first = lab.worker()
    job = lab.submit(
        "/bin/sh", "-c", FROM_CHECKPOINT, "sh", str(tmp_path / "shell"), *daemon(tmp_path / "daemon", "clear", "stay"),
        checkpoint=("*.cpt",),
    )  # fmt: skip
    until((tmp_path / "daemon").exists, "it forks")
    pids = [lab.pid(tmp_path / "shell"), int((tmp_path / "daemon").read_text())]
    lab.until(lambda: lab.job(job).checkpoint, "a checkpoint is sent in")
    assert not ended(pids[0])
    assert not ended(pids[1])
    first.kill()
    until(lambda: ended(*pids), f"no process is left of {pids}")
    lose(lab, job)
    second = lab.worker()
    lab.success_of(job)
    assert lab.output(job) == b"from 42\n"
    found = lab.job(job)
    assert outcomes(lab, job) == ["lost", "ok"]
    assert (found.attempts, found.failures, found.losses) == (2, 0, 1)
    lab.dismiss(second)


def test_a_worker_that_comes_back_at_once_gives_its_jobs_back_at_once(lab: Network, tmp_path: Path) -> None:
    """Same directory, same key: it is the same worker after a new start, and nobody waits for its heartbeat."""
    lab.client.set_setting("heartbeat_time", "600")
    try:
        first = lab.worker()
        job = lab.shell(f"echo $$ > {tmp_path}/pid$CPC_ATTEMPT; [ $CPC_ATTEMPT = 2 ] || sleep 1000")
        pid = lab.pid(tmp_path / "pid1")
        first.kill()
        second = lab.worker(work=first.directory)
        lab.success_of(job)
        assert ended(pid)
        assert outcomes(lab, job) == ["lost", "ok"]
        lab.dismiss(second)
    finally:
        lab.client.set_setting("heartbeat_time", f"{HEARTBEAT:g}")


def test_the_next_worker_ends_what_is_left_when_nobody_was_left_to_end_it(lab: Network, tmp_path: Path) -> None:
    """Worker, keeper and guardian killed at once, as `killall -9` does."""
    first = lab.worker()
    job = lab.submit(*daemon(tmp_path / "daemon", "keep", "stay"))
    until((tmp_path / "daemon").exists, "it forks")
    pids = [int((tmp_path / "daemon").read_text())]
    keeper = tree.children(first.pid)[0]
    guardian = tree.children(keeper)[0]
    pids += tree.children(guardian)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (first.pid, keeper, guardian):
            tree.send(pid, number)
    first.process.wait()
    assert not ended(*pids)
    lab.client.cancel(job)
    second = lab.worker(work=first.directory)
    until(lambda: ended(*pids), f"no process is left of {pids}")
    lab.dismiss(second)


def gated(directory: Path) -> str:
    """Each attempt says that it has begun, and ends when it is let."""
    return (
        f"echo $$ > {directory}/begun$CPC_ATTEMPT; while [ ! -e {directory}/go$CPC_ATTEMPT ]; do sleep 0.05; done; "
        "echo attempt $CPC_ATTEMPT"
    )


def test_a_late_result_of_a_finished_job_changes_nothing(lab: Network, tmp_path: Path) -> None:
    frozen = lab.worker()
    job = lab.shell(gated(tmp_path))
    pid = lab.pid(tmp_path / "begun1")
    frozen.send(signal.SIGSTOP)
    lose(lab, job)
    second = lab.worker()
    lab.pid(tmp_path / "begun2")
    (tmp_path / "go2").touch()
    lab.success_of(job)
    (tmp_path / "go1").touch()
    until(lambda: ended(pid), "the first attempt ends")
    frozen.send(signal.SIGCONT)
    lab.until(lambda: lab.view(frozen), "the frozen worker is back")
    until(lambda: not [*frozen.directory.glob("*/runs/*")], "its result is settled")
    assert lab.output(job) == b"attempt 2\n"
    assert outcomes(lab, job)[1:] == ["ok"]
    assert lab.job(job).attempts == 2
    assert accepted(lab, job) == 1
    lab.dismiss(frozen, second)


def accepted(network: Network, job: str) -> int:
    """How often the event log says that it has succeeded."""
    found = network.client.events(project="p", kind="job.succeeded", limit=100_000)
    return sum(event.subject == job or job in event.details.get("jobs", ()) for event in found)


def test_a_late_success_is_accepted_once_and_ends_the_attempt_that_runs(lab: Network, tmp_path: Path) -> None:
    frozen = lab.worker()
    job = lab.shell(gated(tmp_path))
    pid = lab.pid(tmp_path / "begun1")
    frozen.send(signal.SIGSTOP)
    lose(lab, job)
    second = lab.worker()
    other = lab.pid(tmp_path / "begun2")
    (tmp_path / "go1").touch()
    until(lambda: ended(pid), "the first attempt ends")
    frozen.send(signal.SIGCONT)
    lab.success_of(job)
    until(lambda: ended(other), "the second attempt is ended")
    assert lab.output(job) == b"attempt 1\n"
    lab.until(lambda: outcomes(lab, job)[1] == "cancelled", "the second attempt is cancelled")
    first = lab.job(job).history[0]
    assert first.late
    assert first.outcome == "ok"
    assert accepted(lab, job) == 1
    lab.dismiss(frozen, second)


def test_a_job_that_kills_every_worker_it_meets_is_stopped(lab: Network) -> None:
    job = lab.submit(sys.executable, "-I", "-c", KILLER, max_losses=2)
    for number in range(2):
        worker = lab.start_worker()
        assert worker.ended() == -signal.SIGKILL
        lose(lab, job, number + 1)
        assert lab.job(job).losses == number + 1
    found = lab.end_of(job)
    assert (found.state, found.failures, found.losses) == ("failed", 0, 2)
    assert "worker was lost 2 times" in found.reason
    assert "max_losses is 2" in found.reason
    assert outcomes(lab, job) == ["lost", "lost"]
    with lab.working():
        lab.success_of(lab.shell("true"))
