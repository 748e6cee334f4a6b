"""Every wait is explained: the reason that holds, the nearest miss first, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.core import ids
from cpc.core.resources import GIB, Amounts
from cpc.queue import why
from cpc.queue.job import State
from cpc.queue.why import Because, Facts
from cpc.server import joining
from cpc.store import jobs, projects
from tests.helpers.benches import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def reasons(bench: Bench, job: int, silent: int = 0) -> list[Because]:
    def unit(tx: Any) -> list[Because]:
        row = jobs.get(tx, job)
        assert row is not None
        assert row.state is State.WAITING
        queue = bench.queue
        facts = Facts(
            job, row.state, row.project, queue.index.requirements[row.requirement], row.requirement, row.key,
            queue.exact(tx, ids.array(job)), jobs.ahead(tx, row), silent,
        )  # fmt: skip
        return why.waiting(queue.index, facts, queue.now)

    return bench.do(unit)


def test_no_worker_at_all(bench: Bench) -> None:
    (found,) = reasons(bench, bench.submit())
    assert (found.kind, found.text) == ("no-worker", "no worker is connected")
    assert "cpc-worker" in found.step


def test_workers_that_are_silent_are_counted(bench: Bench) -> None:
    (found,) = reasons(bench, bench.submit(), silent=2)
    assert "2 known worker(s) are silent" in found.text


def test_workers_of_other_projects_only(bench: Bench) -> None:
    bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0))
    bench.worker(project="q")
    (found,) = reasons(bench, bench.submit())
    assert found.kind == "no-worker"
    assert "-p" in found.step


def test_nobody_could_ever_run_it_and_the_nearest_miss_is_first(bench: Bench) -> None:
    bench.worker("far", cores=1)
    bench.worker("near", total=Amounts(cores=8, memory=GIB), labels=("gpu",))
    job = bench.submit(labels=("gpu",), need=Amounts(cores=2, memory=2 * GIB))
    head, first, second = reasons(bench, job)
    assert head.kind == "nobody"
    assert first.text == "worker near: needs 2.0 GiB memory; it has 1.0 GiB in all"
    assert second.text.startswith("worker far: needs label gpu; needs 2 cores; it has 1 in all")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"executable": "gromacs/mdrun"}, "needs gromacs/mdrun; it does not have it"),
        ({"executable": "sim", "versions": ">=3"}, "needs sim >=3; it has 1.9, 2.10"),
        ({"need": Amounts(cores=1, gpus=1)}, "needs 1 GPUs; it has 0 in all"),
        ({"need": Amounts(cores=1, other={"lic": 2})}, "needs 2 lic; it has 0 in all"),
    ],
)
def test_what_is_missing_is_named(bench: Bench, fields: dict[str, Any], words: str) -> None:
    bench.worker("w", programs=(("sim", "2.10"), ("sim", "1.9")))
    assert reasons(bench, bench.submit(**fields))[1].text == f"worker w: {words}"


def test_an_exact_need_is_a_miss_even_where_its_class_is_not(bench: Bench) -> None:
    bench.worker("w", total=Amounts(cores=4, memory=10 * GIB))
    found = reasons(bench, bench.submit(need=Amounts(cores=1, memory=10 * GIB + 1)))
    assert found[0].kind == "nobody"


def test_a_draining_worker_says_why_and_how_to_go_on(bench: Bench) -> None:
    bench.worker("w")
    bench.do(lambda tx: joining.drain(bench.queue, tx, joining.find(tx, "w"), "new disk", True, "user:root"))
    (found,) = reasons(bench, bench.submit())
    assert (found.kind, found.step) == ("draining", "cpcc resume w")
    assert "new disk" in found.text


def test_a_worker_that_has_stepped_back(bench: Bench) -> None:
    bench.worker("w", wants=False)
    (found,) = reasons(bench, bench.submit())
    assert found.kind == "stepped-back"


def test_all_busy_names_the_place_in_the_order(bench: Bench) -> None:
    bench.worker("w", cores=1)
    array = bench.submit(array=5)
    head, each = reasons(bench, array + 3)
    assert head.kind == "full"
    assert "2 job(s) of its kind are before it" in head.text
    assert each.text == "worker w: needs 1 cores; it has 0 free"


def test_a_worker_whose_time_is_too_short(bench: Bench) -> None:
    bench.worker("w", time_left=100.0)
    found = reasons(bench, bench.submit(walltime=200.0))
    assert found[1].text == "worker w: its own time ends before the job's walltime would"


def test_a_project_that_is_paused(bench: Bench) -> None:
    bench.queue.index.paused.add(bench.project)
    bench.worker("w")
    (found,) = reasons(bench, bench.submit())
    assert found.kind == "paused"


def test_a_worker_that_is_kept_free_for_another_job(bench: Bench) -> None:
    worker = bench.worker("w", cores=4)
    first = bench.submit("first", array=4)
    big = bench.submit("big", need=Amounts(cores=4))
    small = bench.submit("small")
    bench.do(lambda tx: bench.queue.index.change(worker, reserved=big))
    bench.report(worker, worker.leases[first])
    (found,) = reasons(bench, small)
    assert found.kind == "turn"
    assert ids.show(big) in found.text
    assert "w is being kept free for it" in reasons(bench, big)[0].text
