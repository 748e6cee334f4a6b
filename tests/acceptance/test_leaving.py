"""Ending what runs: cancel, drain, a worker that leaves. The process is reached, and the work of jobs is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cpc.core.spec import JobSpec
from tests.helpers.network_of_processes import Network, Worker, gone, until
from tests.helpers.processes import daemon

# Counts on from its checkpoint; says on SIGTERM how far it is. $1: where each attempt writes its process id.
POLITE = """
n=$(cat state.cpt 2>/dev/null || echo 0)
echo $n >> begun
if [ $n -gt 0 ]; then echo "from $n"; exit 0; fi
trap 'echo 7 > state.cpt; exit 0' TERM
echo $$ > "$1"
sleep 1000 & wait
"""


@pytest.fixture(scope="module")
def lab(make_network: Callable[..., Network]) -> Network:
    """A network whose workers do not send checkpoints by themselves."""
    return make_network(checkpoint_interval="1d", heartbeat_time="60")


@dataclass(frozen=True)
class Leavers:
    """Workers that leave by themselves after a while, each for a project of its own."""

    idle: Worker
    timed: Worker
    job: str


@pytest.fixture(scope="module", autouse=True)
def leavers(lab: Network, tmp_path_factory: pytest.TempPathFactory) -> Leavers:
    """Begun before the other tests, so that nobody waits for them. Less than 30 s before its end a worker begins nothing.

    Nobody but workers with the label `timed` gets the job: else it would go on at one of another test, which may be about to
    leave when it comes.
    """
    lab.project("idle")
    lab.project("timed")
    idle = lab.start_worker("-q", "0.02", "-p", "idle")
    path = tmp_path_factory.mktemp("timed") / "pid"
    for seconds in (34, 45, 75, 150):  # on a busy machine the first few may be gone before they begin the job
        job = submit_polite(lab, path, "timed", ("timed",))
        timed = lab.start_worker("--until", f"+{seconds}s", "--grace", "1s", "-p", "timed", "--labels", "timed")
        lab.until(lambda timed=timed: path.exists() or not timed.running, "it begins the job, or leaves")  # type: ignore[misc]
        if path.exists():
            break
        lab.client.cancel(job)  # it may have been given to that worker in vain
    lab.pid(path)
    return Leavers(idle, timed, job)


def submit_polite(network: Network, path: Path, project: str, labels: tuple[str, ...] = ()) -> str:
    """A job that saves itself on SIGTERM."""
    spec = JobSpec(argv=("/bin/sh", "-c", POLITE, "sh", str(path)), checkpoint=("*.cpt",), labels=labels)
    return network.client.submit_spec(spec, project).id


def polite(network: Network, path: Path, project: str = "p") -> str:
    """The same; returns when it runs."""
    job = submit_polite(network, path, project)
    network.pid(path)
    return job


def went_on(network: Network, job: str, outcome: str) -> None:
    """It was ended with this outcome and nobody's fault, and went on from what it had saved."""
    found = network.success_of(job)
    assert network.output(job) == b"from 7\n"
    assert [attempt.outcome for attempt in found.history] == [outcome, "ok"]
    assert (found.failures, found.losses) == (0, 0)


def test_a_cancel_reaches_the_process_and_its_children(lab: Network, tmp_path: Path) -> None:
    with lab.working("--grace", "1s"):
        job = lab.shell(
            f'trap "" TERM; sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/shell; wait; sleep 1000',
        )
        array = lab.submit(
            "/bin/sh", "-c", f"echo $$ > {tmp_path}/leader; exec \"$@\"", "sh", *daemon(tmp_path / "daemon", "clear", "stay"),
        )  # fmt: skip
        pids = [lab.pid(tmp_path / name) for name in ("child", "shell", "leader")]
        until((tmp_path / "daemon").exists, "it forks")
        pids.append(int((tmp_path / "daemon").read_text()))
        lab.cpcc("cancel", job, array).done()
        until(lambda: gone(*pids), f"the processes {pids} end")
        for each in (job, array):
            assert lab.end_of(each).state == "cancelled"


def test_a_waiting_job_is_cancelled_at_once(lab: Network) -> None:
    job = lab.shell("true")
    assert "1" in lab.cpcc("cancel", job).done()
    found = lab.end_of(job)
    assert (found.state, found.attempts) == ("cancelled", 0)
    assert "cpc-admin" in found.reason


def test_a_draining_worker_ends_what_it_has_and_takes_nothing_new(lab: Network, tmp_path: Path) -> None:
    with lab.working() as worker:
        job = lab.shell(f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
        lab.pid(tmp_path / "pid")
        name = lab.name(worker)
        assert "new kernel" in lab.cpcc("drain", name, "new", "kernel").done()
        late = lab.shell("true")
        (tmp_path / "go").touch()
        lab.success_of(job)
        lab.until(lambda: lab.client.worker(name).state == "drained", "it has drained")
        assert lab.job(late).state == "waiting"
        reasons = lab.client.why(late).reasons
        assert reasons[0].kind == "draining"
        assert "new kernel" in reasons[0].text
        assert f"cpcc resume {name}" in reasons[0].step
        lab.cpcc("resume", name).done()
        lab.success_of(late)


def test_drain_now_hands_jobs_back_with_a_checkpoint(lab: Network, tmp_path: Path) -> None:
    with lab.working() as worker:
        job = polite(lab, tmp_path / "pid")
        name = lab.name(worker)
        lab.cpcc("drain", name, "--now", "moving house").done()
        lab.in_state(job, "waiting")
        assert lab.job(job).checkpoint is not None
        lab.cpcc("resume", name).done()
        went_on(lab, job, "preempted")


def test_sigterm_lets_the_worker_checkpoint_hand_back_and_leave(lab: Network, tmp_path: Path) -> None:
    worker = lab.worker()
    job = polite(lab, tmp_path / "pid")
    pid = lab.pid(tmp_path / "pid")
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert gone(pid)
    assert lab.job(job).state == "waiting"
    assert not lab.view(worker)
    with lab.working():
        went_on(lab, job, "preempted")


def test_a_second_sigterm_does_not_wait_for_jobs(lab: Network, tmp_path: Path) -> None:
    worker = lab.worker("--grace", "1000s")
    job = lab.shell(
        f"trap '' TERM; echo $$ > {tmp_path}/pid$CPC_ATTEMPT; [ $CPC_ATTEMPT = 2 ] || while :; do sleep 1; done"
    )
    pid = lab.pid(tmp_path / "pid1")
    worker.send(signal.SIGTERM)
    until(lambda: "leaving: SIGTERM" in worker.said, "it has understood")
    assert worker.running
    worker.send(signal.SIGTERM)
    worker.ended()
    assert gone(pid)
    with lab.working():
        found = lab.success_of(job)
        assert found.failures == 0


def test_a_worker_without_work_leaves_when_it_was_told_so(lab: Network, leavers: Leavers) -> None:
    assert leavers.idle.ended() == 0
    assert "nothing to do" in leavers.idle.said
    assert not lab.view(leavers.idle)


def test_a_worker_whose_time_is_over_hands_back_and_leaves(lab: Network, leavers: Leavers) -> None:
    assert leavers.timed.ended() == 0
    assert "time is over" in leavers.timed.said
    assert lab.job(leavers.job).state == "waiting"
    with lab.working("-p", "timed", "--labels", "timed"):
        went_on(lab, leavers.job, "walltime")


def test_the_next_worker_hands_in_what_a_killed_one_has_left(lab: Network, tmp_path: Path) -> None:
    worker = lab.worker()
    job = lab.shell(f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo kept")
    lab.pid(tmp_path / "pid")
    lab.kill_server()
    (tmp_path / "go").touch()
    until(lambda: any(each.stat().st_size for each in worker.directory.glob("*/spool.log")), "the result is on disk")
    worker.kill()
    lab.start()
    heir = lab.worker(work=worker.directory)
    found = lab.success_of(job)
    assert lab.output(job) == b"kept\n"
    assert [attempt.outcome for attempt in found.history] == ["ok"]
    lab.dismiss(heir)
