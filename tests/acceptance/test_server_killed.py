"""The server is killed, or away: nothing that was acknowledged is lost, no running job is thrown away."""

from __future__ import annotations

from pathlib import Path

from cpc.core.views import JobDetail
from tests.helpers.network_of_processes import Network, until


def gate(path: Path, then: str = "") -> str:
    """A shell text that writes its process id to `path`.pid, and ends when `path` is there."""
    return f"echo $$ > {path}.pid; while [ ! -e {path} ]; do sleep 0.05; done; {then}"


def ran_once(found: JobDetail) -> None:
    """One attempt, nobody blamed."""
    assert [(attempt.number, attempt.outcome) for attempt in found.history] == [(1, "ok")]
    assert (found.failures, found.losses) == (0, 0)


def test_what_submit_has_acknowledged_survives_a_kill(either: Network) -> None:
    jobs = [either.shell(f"echo {number}") for number in range(5)]
    jobs.append(either.cpcc("submit", "--quiet", "--", "echo", "5").done().strip())
    array = either.shell("echo $CPC_INDEX", array=1000, priority=-1)
    either.kill_server()
    either.start()
    assert either.array(array).jobs == {**either.array(array).jobs, "waiting": 1000}
    assert len({*jobs, array}) == 7
    with either.working():
        for number, job in enumerate(jobs):
            ran_once(either.success_of(job))
            assert either.output(job) == f"{number}\n".encode()
        either.client.cancel(array)


def test_a_killed_server_throws_no_running_job_away(either: Network, tmp_path: Path) -> None:
    worker = either.worker()
    jobs = [either.shell(gate(tmp_path / f"go{number}", f"echo {number}")) for number in range(2)]
    pids = [either.pid(tmp_path / f"go{number}.pid") for number in range(2)]
    either.kill_server()
    either.start()
    assert Path(f"/proc/{pids[0]}").exists()
    (tmp_path / "go0").touch()
    ran_once(either.success_of(jobs[0]))
    either.kill_server()  # twice, and once while a job ends
    (tmp_path / "go1").touch()
    either.start()
    ran_once(either.success_of(jobs[1]))
    assert either.output(jobs[1]) == b"1\n"
    assert worker.said.count("joined server") >= 2
    either.dismiss()


def test_a_job_that_ends_while_the_server_is_away_is_handed_in_later(either: Network, tmp_path: Path) -> None:
    worker = either.worker()
    job = either.shell(gate(tmp_path / "go", "head -c 5000000 /dev/zero > big; echo done"))
    pid = either.pid(tmp_path / "go.pid")
    either.stop_server()
    (tmp_path / "go").touch()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the job ends")
    spools = worker.directory.glob("*/spool.log")
    until(lambda: any(each.stat().st_size for each in worker.directory.glob("*/spool.log")), f"a result in {[*spools]}")
    either.start()
    ran_once(either.success_of(job))
    assert either.output(job, "big") == bytes(5_000_000)
    either.dismiss()


def test_people_may_go_on_where_they_were(either: Network) -> None:
    """A login, a current project and a job's id outlive a restart; a call made meanwhile waits for it."""
    job = either.shell("true")
    before = either.requests().get("/api/v1/jobs/{id}", 0)
    waiting = either.begin("cpcc", "wait", job)
    either.until(lambda: either.requests().get("/api/v1/jobs/{id}", 0) > before, "it has met the server")
    either.kill_server()
    either.start()
    assert either.cpcc("pwd").done().strip() == "Working project: p"
    with either.working():
        assert waiting.ended() == 0
    assert either.job(job).state == "succeeded"
