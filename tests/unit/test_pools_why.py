"""Every pool that asks for nothing and every class that gets no allocation is explained, with what to do next."""

from __future__ import annotations

import re

import pytest

from cpc.client.commands.pools import set_pool
from cpc.core.resources import Amounts
from cpc.pools import learning, nodes, why
from cpc.pools.allocation import State
from cpc.pools.facts import HOUR, Learned, NodeRecord, Note
from tests.helpers.pools import NOW, allocation, demand, pool, survey, worker


def of_pool(*arguments: object, **fields: object) -> tuple[Note, ...]:
    return why.pool(survey(*arguments, **fields), 1)  # type: ignore[arg-type]


def of_class(*arguments: object, **fields: object) -> tuple[Note, ...]:
    seen = survey(*arguments, **fields)  # type: ignore[arg-type]
    served = seen.of(1, seen.served[0].demand.requirement)
    assert served is seen.served[0]
    assert seen.of(2, seen.served[0].demand.requirement) is None
    return why.waiting(seen, served)


def test_a_pool_that_nobody_needs() -> None:
    (note,) = of_pool([pool()])
    assert (note.kind, note.text) == ("idle", "pool1: no job waits")


def test_a_pool_that_is_enough() -> None:
    (note,) = of_pool([pool()], [demand(16)], [allocation()])
    assert "1 allocation(s) of it are to start, which is enough" in note.text
    (note,) = of_pool([pool()], [demand(4)], [], [worker(token="")])
    assert "workers that are there" in note.text


def test_a_pool_that_asks() -> None:
    (note,) = of_pool([pool()], [demand(40)])
    assert (note.kind, note.text) == ("asked", "pool1: 3 more allocation(s) are asked for now")


def test_a_paused_pool() -> None:
    (note,) = of_pool([pool(paused="new disks")])
    assert (note.kind, note.step) == ("paused", "cpcc pool resume pool1")
    assert "new disks" in note.text


def test_a_pool_that_backs_off_says_how_long_and_in_whose_words() -> None:
    known = learning.refused(
        learning.refused(Learned(), NOW - 40, "x"), NOW, "sbatch: error: Invalid qos specification"
    )
    (note,) = of_pool([pool()], [demand()], learned={1: known})
    assert note.kind == "backing-off"
    assert note.text == (
        "pool1: it is left alone for 1m 00s more; it failed 2 times in a row: sbatch: error: Invalid qos specification"
    )


@pytest.mark.parametrize(
    ("fields", "words", "step"),
    [
        ({"max_allocations": 1}, "at most 1 allocations are allowed at once", "--max-allocations "),
        ({"max_cores": 16}, "at most 16 cores are allowed at once; one allocation is 16", "--max-cores "),
        ({"project_cores": 16}, "for the project", "--project-cores "),
        (
            {"budget": 40.0},
            "its budget is 40 core-hours in 24 h; 0 are used or promised, and one allocation may use 32",
            "--budget ",
        ),
        ({"backlog": 1}, "at most 1 allocations may wait in slurm at once", "--backlog "),
    ],
)
def test_a_limit_is_named_with_the_setting_that_changes_it(fields: dict[str, int], words: str, step: str) -> None:
    notes = of_pool([pool(**fields)], [demand(100)])
    assert words in notes[0].text
    assert step in notes[0].step
    assert notes[0].step.startswith("cpcc pool set pool1 ")


def test_nodes_that_are_left_out_are_named_with_the_reason() -> None:
    bad = [NodeRecord(pool=1, node=f"n{n}") for n in range(7)]
    for _ in range(3):
        bad = [nodes.failed(one, NOW, "no space left on /scratch") for one in bad]
    notes = of_pool([pool()], nodes=bad)
    assert len(notes) == 6
    assert "node n0 is left out for 1h 00m more: 3 workers in a row failed there" in notes[0].text
    assert "no space left" in notes[0].text
    assert notes[0].step.endswith("cpcc resume n0")
    assert notes[5].text == "pool1: 2 more nodes are left out"


def test_a_class_that_no_pool_could_run_gets_the_nearest_miss() -> None:
    seen = survey([pool(1), pool(2, labels=("big",))], [demand(3, cores=64, labels=("big",))])
    (note,) = why.notes(seen)
    assert note.kind == "unfit"
    assert note.text == (
        "no pool could ever run 3 waiting job(s) of commands, 64 core(s) each, the nearest is pool2: "
        "needs 64 cores; it has 16 in all"
    )
    first, second, third = why.waiting(seen, seen.served[0])
    assert (first.text, third.text) == ("pool pool1: needs label big", "pool pool2: needs 64 cores; it has 16 in all")
    assert second.pool == 1


def test_a_job_that_is_too_long() -> None:
    (note,) = of_class([pool()], [demand(walltime=3 * HOUR)])
    assert note.text == "pool pool1: needs 3h 00m and has no checkpoints; it has 1h 57m"


def test_a_class_whose_allocations_wait() -> None:
    ones = [allocation("a", asked_at=NOW - 300), allocation("b")]
    (note,) = of_class([pool()], [demand(32)], ones, learned={1: Learned(waits=(100.0, 600.0, 900.0))})
    assert note.kind == "coming"
    assert note.text == "pool pool1: 2 allocation(s) wait in slurm, one for 5m 00s; the last ones waited 10m 00s"


def test_a_class_whose_workers_are_about_to_join() -> None:
    (note,) = of_class([pool()], [demand(16)], [allocation(state=State.RUNNING)])
    assert "has started; its workers are about to join" in note.text


def test_a_class_that_is_asked_for_now_and_limited_at_once() -> None:
    asked, limited = of_class([pool(max_allocations=1)], [demand(100)])
    assert asked.text == "pool pool1 is asked for 1 allocation(s) now"
    assert limited.kind == "allocations"


def test_a_class_that_workers_will_take() -> None:
    (note,) = of_class([pool()], [demand(4)], [], [worker(token="")])
    assert (note.kind, note.text) == ("served", "4 of 4 such job(s) are for workers that are there")


def test_without_pools() -> None:
    (note,) = of_class([], [demand(4)])
    assert (note.kind, note.step) == ("no-pool", "cpcc pool add NAME SCHEDULER")
    (note,) = why.notes(survey([], [demand(4)]))
    assert note.kind == "no-pool"


def test_the_kinds_are_the_ones_that_are_listed() -> None:
    many = [pool(1, max_allocations=1), pool(2, paused=""), pool(3, budget=1.0), pool(4, each=Amounts(cores=1))]
    seen = survey(many, [demand(100, cores=2), demand(100, program="mdrun")], [allocation("z", 1)])
    found = {note.kind for note in why.notes(seen)} | {note.kind for n in range(1, 5) for note in why.pool(seen, n)}
    assert found <= set(why.KINDS)
    assert len(found) >= 4


@pytest.mark.parametrize(
    "fields",
    [
        {"max_allocations": 1}, {"max_cores": 16}, {"backlog": 1}, {"project_cores": 16}, {"projects": {1: 16}}, {"budget": 40.0},
        {"programs": None},
    ],
)  # fmt: skip
def test_what_to_do_about_a_limit_is_a_command_that_there_is(fields: dict[str, object]) -> None:
    notes = of_pool([pool(**fields)], [demand(1000, program="gromacs")])
    (step,) = {note.step for note in notes if note.step}
    assert step.startswith("cpcc pool set pool1 --")
    known = {option for parameter in set_pool.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", step)) <= known
