"""Every wait is explained, and what happens is seen while it happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.core.resources import Amounts
from tests.helpers.network_of_processes import Network, until


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """Workers come and go with the tests."""
    return network


def gated(path: Path, before: str = "", after: str = "") -> str:
    """A shell text that waits for `path`."""
    return f"{before}; while [ ! -e {path} ]; do sleep 0.05; done; {after}".lstrip("; ")


def why(network: Network, job: str) -> str:
    """What cpcc says."""
    said = network.cpcc("why", job).done()
    assert said.startswith(job), said
    return said


def test_no_worker(lab: Network) -> None:
    job = lab.shell("true")
    said = why(lab, job)
    assert "no worker is connected" in said
    assert "cpc-worker" in said
    lab.client.cancel(job)


def test_too_many_cores_names_the_nearest_miss(lab: Network) -> None:
    job = lab.shell("true", need=Amounts(cores=64))
    with lab.working(cores=2) as small, lab.working(cores=4) as large:
        said = why(lab, job)
        assert "no connected worker could ever run it" in said
        for worker, cores in ((small, 2), (large, 4)):
            assert f"{lab.name(worker)}: needs 64 cores; it has {cores}" in said
        warned = lab.cpcc("submit", "--dry-run", "-n", "64", "--", "true").done()
        assert "nothing was stored" in warned
        assert "64 cores" in warned
        assert lab.client.all_jobs(states="waiting") != []
    lab.client.cancel(job)


def test_a_missing_version_is_named_beside_the_one_that_there_is(lab: Network) -> None:
    with lab.working() as worker:
        new = lab.submit("0", executable="benchmark/sleep", versions=">=2")
        none = lab.submit("x", executable="nobody/knows")
        memory = lab.shell("true", need=Amounts(cores=1, memory=1 << 50))
        label = lab.shell("true", labels=("red",))
        name = lab.name(worker)
        assert f"{name}: needs benchmark/sleep >=2; it has 1.0" in why(lab, new)
        assert f"{name}: needs nobody/knows; it does not have it" in why(lab, none)
        assert f"{name}: needs 1024.0 TiB memory; it has" in why(lab, memory)
        assert f"{name}: needs label red" in why(lab, label)
        lab.success_of(lab.submit("0", executable="benchmark/sleep", versions=">=1,<2"))
        for job in (new, none, memory, label):
            lab.client.cancel(job)


def test_what_is_blocked_names_what_it_waits_for(lab: Network, tmp_path: Path) -> None:
    with lab.working():
        first = lab.shell(gated(tmp_path / "go"))
        second = lab.shell("true", after=[first])
        said = why(lab, second)
        assert f"it waits for {first} to succeed" in said
        assert f"cpcc why {first}" in said
        lab.running(first)
        assert "it runs on" in why(lab, first)
        (tmp_path / "go").touch()
        lab.success_of(second)
        assert "succeeded" in why(lab, second)


def test_busy_workers_are_named_with_what_is_missing(lab: Network, tmp_path: Path) -> None:
    with lab.working(cores=2) as worker:
        first = lab.shell(gated(tmp_path / "go"), need=Amounts(cores=2))
        lab.running(first)
        second = lab.shell("true")
        said = why(lab, second)
        assert "all 1 worker(s) that fit are busy" in said
        assert f"{lab.name(worker)}: needs 1 cores; it has 0" in said
        (tmp_path / "go").touch()
        lab.success_of(second)


def test_a_worker_that_steps_back_says_so(lab: Network) -> None:
    """A node that fails job after job at once gets no more; the reason is seen in `why` and in the list of workers."""
    with lab.working() as worker:
        for _ in range(5):
            lab.end_of(lab.shell("exit 1"))
        lab.until(lambda: lab.client.worker(lab.name(worker)).state == "stepped-back", "it steps back")
        assert "jobs in a row failed" in lab.cpcc("workers").done()
        late = lab.shell("true")
        assert lab.client.why(late).reasons[0].kind == "stepped-back"
        lab.client.cancel(late)


def test_the_monitoring_counts_jobs_by_the_reason_that_why_gives(lab: Network, tmp_path: Path) -> None:
    def counted() -> dict[str, float]:
        name = 'jobs_pending_reason{reason="'
        return {key.removeprefix(name)[:-2]: value for key, value in lab.figures().items() if value and name in key}

    assert counted() == {}
    first = lab.shell(gated(tmp_path / "go"), need=Amounts(cores=2))
    assert counted() == {"no-worker": 1}
    with lab.working(cores=2):
        lab.running(first)
        jobs = [lab.shell("true"), lab.shell("true", need=Amounts(cores=64)), lab.shell("true", after=[first])]
        said = [lab.client.why(job).reasons[0].kind for job in jobs]
        assert said == ["full", "nobody", "blocked"]
        assert counted() == dict.fromkeys(said, 1)
        (tmp_path / "go").touch()
        lab.success_of(jobs[2])
        assert counted() == {"nobody": 1}
        lab.client.cancel(jobs[1])
        assert counted() == {}


def test_a_time_that_is_too_long_for_the_worker_is_named(lab: Network) -> None:
    with lab.working("--until", "+10m") as worker:
        job = lab.shell("true", walltime=3600.0)
        said = why(lab, job)
        assert lab.name(worker) in said
        assert "1h" in said or "time" in said
        lab.client.cancel(job)


def test_logs_are_seen_while_the_job_runs(lab: Network, tmp_path: Path) -> None:
    with lab.working():
        job = lab.shell(gated(tmp_path / "go", "echo first; echo err >&2", "echo last"))
        follower = lab.begin("cpcc", "logs", "-f", job)
        until(lambda: "first\n" in follower.said, "the first line is seen", seen=lambda: lab.story(job))
        assert lab.job(job).state == "running"
        assert follower.running
        (tmp_path / "go").touch()
        assert follower.ended() == 0
        assert follower.said == "first\nlast\n"
        assert lab.cpcc("logs", job).done() == "first\nlast\n"
        assert lab.cpcc("logs", "--stderr", job).done() == "err\n"


def test_waiting_and_watching_do_not_poll(lab: Network, tmp_path: Path) -> None:
    job = lab.shell(gated(tmp_path / "go"))
    route = "/api/v1/jobs/{id}"
    first = lab.requests().get(route, 0)
    waiting = [lab.begin("cpcc", "wait", job) for _ in range(2)]
    lab.until(lambda: lab.requests().get(route, 0) >= first + 2, "both wait")
    watching = lab.begin("cpcc", "watch", job)
    with lab.working():
        lab.running(job)
        until(lambda: "job.started" in watching.said, "the start is seen", seen=lambda: watching.said)
        before = lab.requests()
        lab.client.wait(job, 2.0)  # two seconds in which nothing happens to it
        after = lab.requests()
        (tmp_path / "go").touch()
        for program in (*waiting, watching):
            assert program.ended() == 0
    assert "job.succeeded" in watching.said
    asked = {route: after[route] - before.get(route, 0) for route in after if after[route] != before.get(route, 0)}
    # Ours, the look at the figures, and one for what was just seen; two questions of a minute may have come to their end.
    assert sum(asked.values()) <= 5, asked


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("job", "999999"), 1, "999999"),
        (("job", "x"), 1, "x"),
        (("why", "999999[3]"), 1, "999999"),
        (("cd", "nowhere"), 1, "nowhere"),
        (("drain", "nobody", "why"), 1, "nobody"),
        (("submit", "--input", "/no/such/file", "--", "true"), 1, "/no/such/file"),
        (("submit", "--memory", "lots", "--", "true"), 1, "lots"),
        (("submit",), 2, "no command"),
        (("fetch", "999999"), 1, "999999"),
        (("-c", "/no/bundle.cnx", "status"), 1, "/no/bundle.cnx"),
        (("grant-access", "nobody"), 1, "nobody"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(lab: Network, words: tuple[str, ...], code: int, says: str) -> None:
    answer = lab.cpcc(*words)
    assert answer.code == code
    assert answer.err.startswith("cpcc: ")
    assert answer.err.count("\n") == 1
    assert says in answer.err


def test_a_server_that_is_away_is_told_in_one_line(lab: Network) -> None:
    lab.stop_server()
    try:
        line = lab.cpcc("ping").refused()
        assert str(lab.client_port) in line
    finally:
        lab.start()
    assert lab.cpcc("ping").done() == "OK\n"
