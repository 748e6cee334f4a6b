"""Which job runs when: dependencies, priority, room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.resources import Amounts
from cpc.core.spec import Dependency
from tests.helpers.network_of_processes import Network


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """Workers come and go with the tests."""
    return network


@pytest.fixture
def worker(lab: Network) -> Iterator[Network]:
    """With one worker of two cores."""
    with lab.working():
        yield lab


def gated(path: Path) -> str:
    """A shell text that waits for `path`."""
    return f"while [ ! -e {path} ]; do sleep 0.05; done; "


def test_a_job_waits_for_the_success_of_another(worker: Network, tmp_path: Path) -> None:
    first = worker.shell(gated(tmp_path / "go") + f"echo 1 > {tmp_path}/made")
    second = worker.cpcc("submit", "--quiet", "--after", first, "--", "cat", f"{tmp_path}/made").done().strip()
    worker.running(first)
    assert worker.job(second).state == "blocked"
    (tmp_path / "go").touch()
    worker.success_of(second)
    assert worker.output(second) == b"1\n"


def test_what_waits_for_a_failed_job_is_cancelled_and_says_so(worker: Network, tmp_path: Path) -> None:
    first = worker.shell(gated(tmp_path / "go") + "exit 1")
    second = worker.shell("true", after=[first])
    third = worker.shell("true", after=[second])
    anyway = worker.shell("echo ran", after=[Dependency(first, "end")])
    (tmp_path / "go").touch()
    for each, waited_for in ((second, first), (third, second)):
        found = worker.end_of(each)
        assert (found.state, found.attempts) == ("cancelled", 0)
        assert waited_for in found.reason.split()
    worker.success_of(anyway)
    assert worker.output(anyway) == b"ran\n"


def test_each_element_waits_for_its_own_partner(worker: Network, tmp_path: Path) -> None:
    first = worker.shell(f"[ $CPC_INDEX != 1 ] || {gated(tmp_path / 'go')} true", array=3)
    second = worker.shell("true", array=3, after=[Dependency(first, "success", pairwise=True)])
    last = worker.shell("true", after=[second])
    for number in (0, 2):
        worker.success_of(f"{second}[{number}]")
    assert worker.job(f"{second}[1]").state == "blocked"
    assert worker.job(last).state == "blocked"
    (tmp_path / "go").touch()
    worker.success_of(f"{second}[1]")
    worker.success_of(last)


def test_a_job_after_one_that_has_ended_is_free_or_refused(worker: Network) -> None:
    good, bad = worker.shell("true"), worker.shell("false")
    worker.end_of(good)
    worker.end_of(bad)
    worker.success_of(worker.shell("true", after=[good]))
    answer = worker.cpcc("submit", "--quiet", "--after", bad, "--", "true")
    if answer.code:
        assert bad in answer.refused()
    else:
        assert worker.end_of(answer.out.strip()).state == "cancelled"


def test_higher_priority_comes_first_then_the_order_of_submission(lab: Network, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, priority in (("a", 0), ("b", 5), ("c", -5), ("d", 5), ("e", 0)):
        job = lab.shell(f"echo {name} >> {log}", priority=priority)
    late = lab.shell(f"echo f >> {log}", priority=-30)
    lab.cpcc("priority", job, "30").done()
    with lab.working(cores=1):
        lab.success_of(late)
    assert log.read_text().split() == ["e", "b", "d", "a", "c", "f"]


def test_a_big_job_at_the_head_does_not_stop_a_small_one(lab: Network) -> None:
    big = lab.shell("true", need=Amounts(cores=8), priority=30)
    with lab.working(cores=2):
        for _ in range(3):
            lab.success_of(lab.shell("true"))
        assert lab.job(big).state == "waiting"
    with lab.working(cores=8):
        lab.success_of(big)


def test_a_job_gets_the_cores_that_are_free_up_to_its_most(lab: Network) -> None:
    with lab.working(cores=6):
        job = lab.shell("echo $CPC_CORES", need=Amounts(cores=2), max_cores=4)
        lab.success_of(job)
        assert lab.output(job) == b"4\n"


def test_cores_are_not_given_twice(lab: Network, tmp_path: Path) -> None:
    """Nine jobs on three cores: never more than three at a time, and three before the first ends."""
    log = tmp_path / "log"
    text = f"echo + >> {log}; {gated(tmp_path / 'go')} sleep 0.1; echo - >> {log}"
    with lab.working(cores=3):
        array = lab.shell(text, array=9)
        lab.until(lambda: log.exists() and log.read_text().count("+") >= 3, "three run")
        (tmp_path / "go").touch()
        assert lab.end_of_array(array).jobs["succeeded"] == 9
    now, most = 0, 0
    for sign in log.read_text().split():
        now += 1 if sign == "+" else -1
        most = max(most, now)
    assert most == 3


def test_jobs_of_a_label_or_a_project_go_to_their_worker_only(lab: Network) -> None:
    lab.project("other")
    lab.project("own")
    with lab.working("-p", "own", "--labels", "fast") as own:
        labelled = lab.shell("true", labels=("fast",))
        with lab.working() as general:
            plain = lab.shell("true")
            assert lab.success_of(plain).worker in ("", lab.name(general))
            assert lab.job(plain).history[0].worker == lab.name(general)
            assert lab.job(labelled).state == "waiting"
        lab.client.project = "own"
        try:
            job = lab.shell("true", labels=("fast",))
        finally:
            lab.client.project = "p"
        lab.success_of(job)
        assert lab.job(job).history[0].worker == lab.name(own)
        lab.client.cancel(labelled)
