"""What a job may use, how often it is tried, and what it says when it does not succeed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.resources import Amounts
from tests.helpers.network_of_processes import Network, gone, until

MIB = 1 << 20
EATER = "b = []\nwhile True: b.append(bytearray(b'x' * 4_000_000))"


@pytest.fixture(scope="module")
def lab(network: Network) -> Iterator[Network]:
    """With one worker of two cores."""
    with network.working("--grace", "1s"):
        yield network


def test_a_job_that_takes_more_memory_than_it_asked_for_is_ended(lab: Network) -> None:
    job = lab.submit(sys.executable, "-I", "-c", EATER, need=Amounts(cores=1, memory=100 * MIB))
    found = lab.end_of(job)
    assert (found.state, found.outcome) == ("failed", "exceeded")
    assert "memory" in found.history[0].message
    assert found.history[0].max_memory < 400 * MIB
    assert "memory" in lab.cpcc("job", job).done()
    lab.success_of(lab.shell("true"))


def test_a_job_within_its_memory_is_left_alone(lab: Network) -> None:
    text = "b = bytearray(b'x' * 60_000_000); print(len(b))"
    job = lab.submit(sys.executable, "-I", "-c", text, need=Amounts(cores=1, memory=150 * MIB))
    assert lab.success_of(job).history[0].max_memory > 60_000_000


def test_a_job_that_takes_longer_than_it_asked_for_is_ended(lab: Network, tmp_path: Path) -> None:
    for walltime in (1.0, 10.0, 60.0):  # on a busy machine the first may be over before it has begun
        job = lab.shell(f"echo begun; echo $$ > {tmp_path}/pid; sleep 1000", walltime=walltime)
        found = lab.end_of(job)
        if (tmp_path / "pid").exists():
            break
    pid = lab.pid(tmp_path / "pid")
    assert (found.state, found.outcome) == ("failed", "exceeded")
    assert "walltime" in found.history[0].message
    assert walltime - 0.1 < found.history[0].wall_seconds < 1000
    assert lab.output(job) == b"begun\n"
    assert gone(pid)


def test_a_failing_job_is_tried_as_often_as_it_was_told(lab: Network) -> None:
    job = lab.shell('echo "try $CPC_ATTEMPT" >&2; exit 3', max_failures=3)
    found = lab.end_of(job)
    assert (found.state, found.exit_code, found.attempts, found.failures, found.losses) == ("failed", 3, 3, 3, 0)
    assert [(each.outcome, each.exit_code) for each in found.history] == [("failed", 3)] * 3
    assert "failed 3 times" in found.reason
    assert "try 3" in found.tail
    shown = lab.cpcc("job", job).done()
    assert "failed 3 times" in shown
    assert "try 3" in shown


def test_a_failed_job_keeps_what_it_has_written(lab: Network) -> None:
    job = lab.shell("echo partial > result; echo seen; exit 1")
    assert lab.end_of(job).state == "failed"
    assert lab.output(job) == b"seen\n"
    assert lab.output(job, "result") == b"partial\n"


def test_a_retried_job_gets_a_fresh_start(lab: Network, tmp_path: Path) -> None:
    job = lab.shell(f"test -e {tmp_path}/mended && echo $CPC_ATTEMPT")
    lab.end_of(job)
    (tmp_path / "mended").touch()
    lab.cpcc("retry", job).done()
    found = lab.success_of(job)
    assert lab.output(job) == b"2\n"
    assert [each.outcome for each in found.history] == ["failed", "ok"]


def test_only_what_failed_of_an_array_is_retried(lab: Network, tmp_path: Path) -> None:
    array = lab.shell(f"test $CPC_INDEX != 3 || test -e {tmp_path}/mended", array=6)
    assert lab.end_of_array(array).jobs == {**lab.array(array).jobs, "succeeded": 5, "failed": 1}
    (tmp_path / "mended").touch()
    lab.cpcc("retry", array).done()
    assert lab.end_of_array(array).jobs["succeeded"] == 6
    assert [lab.job(f"{array}[{number}]").attempts for number in range(6)] == [1, 1, 1, 2, 1, 1]


def test_what_a_job_leaves_running_is_ended_with_it(lab: Network, tmp_path: Path) -> None:
    lab.success_of(lab.shell(f"setsid sleep 1000 & echo $! > {tmp_path}/pid"))
    pid = lab.pid(tmp_path / "pid")
    until(lambda: gone(pid), "what it left is ended")


@pytest.mark.parametrize(
    ("word", "says"),
    [("no-such-program", "no-such-program was not found"), ("/etc/passwd", "not executable"), ("/", "is a directory")],
    ids=["missing", "not executable", "a directory"],
)
def test_a_program_that_cannot_be_started_is_named(lab: Network, word: str, says: str) -> None:
    found = lab.end_of(lab.submit(word))
    assert found.state == "failed"
    assert says in found.reason


def test_a_job_is_told_dead_by_hand_and_runs_again(lab: Network, tmp_path: Path) -> None:
    job = lab.shell(f"echo $$ > {tmp_path}/pid$CPC_ATTEMPT; [ $CPC_ATTEMPT = 2 ] || sleep 1000")
    pid = lab.pid(tmp_path / "pid1")
    lab.cpcc("command-failed", job).done()
    found = lab.success_of(job)
    assert found.history[0].message == "declared lost by cpc-admin"
    assert (found.attempts, found.failures, found.losses) == (2, 0, 0)
    until(lambda: gone(pid), "its first attempt is ended")


def test_submit_wait_and_run_end_with_the_job(lab: Network) -> None:
    """The exit code says how it was."""
    answer = lab.cpcc("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert answer.done() == "out\n"
    assert "err" in answer.err.splitlines()
    bad = lab.cpcc("submit", "--wait", "--", "false")
    assert bad.code == 1
    assert "failed" in bad.out + bad.err
