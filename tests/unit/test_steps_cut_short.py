"""Steps that are held, cancelled, removed or killed: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from cpc.core import ids
from cpc.core.digest import Content
from cpc.core.edits import (
    Activate,
    ClearError,
    Deactivate,
    RemoveInstance,
    Rerun,
    SetValue,
    Unset,
)
from cpc.core.outcome import Outcome
from cpc.core.spec import Input, JobSpec
from cpc.dataflow.answer import Answer, Job, StepInput
from cpc.server import closing, steps
from cpc.server.principal import SERVER
from cpc.store import history, schema
from cpc.store.jobs import Range
from cpc.store.statement import Statement
from tests.helpers.network_bench import NetworkBench
from tests.helpers.step_bench import asking, bench, chain, doubled

__all__ = ["bench"]

_STEP_JOBS = Statement(sa.select(schema.step_jobs.c.array).order_by(schema.step_jobs.c.ordinal))
_STEPS = Statement(sa.select(schema.steps.c.instance).order_by(schema.steps.c.id))
LOST = JobSpec(argv=("x",), inputs=(Input("in", Content(b"\1" * 32, 4, (b"\1" * 32,))),))


# --- holding, cancelling, removing ---------------------------------------------------------------------------------------


def test_jobs_of_a_held_instance_that_wait_do_not_begin_before_it_is_activated(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    assert len(worker.leases) == 1
    bench.edit(Deactivate())
    assert bench.item("f").running == "waits for 1 job, 1 held back"
    assert len(bench.finish(worker)) == 1
    assert (bench.get("f:out.y"), len(bench.here.calls)) == (None, 1)
    bench.restart()
    worker = bench.worker(cores=1)
    assert not worker.leases
    bench.check()
    assert bench.count(schema.finished, state=5) == 0
    bench.edit(Activate())
    assert [len(call.finished) for call in bench.here.calls] == [0, 1]
    bench.finish(worker)
    assert bench.get("f:out.y") == 2
    bench.check()


def first_job(bench: NetworkBench) -> int:
    """The job that the instance has asked for first."""
    return int(bench.do(lambda tx: tx.rows(_STEP_JOBS))[0][0])


def why(bench: NetworkBench, job: int) -> list[tuple[str, str, str]]:
    """What `cpcc why` says."""
    shown = bench.wait(bench.jobs.why(SERVER, ids.show(job)))
    return [(one.kind, one.text, one.step) for one in shown.reasons]


HELD = ("held", "f is held, and its jobs do not begin before it is activated", "cpcc activate f")


def test_a_job_that_is_lost_while_its_instance_is_held_waits_until_that_is_activated(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    job = first_job(bench)
    bench.edit(Deactivate())
    bench.lose(worker)
    assert why(bench, job) == [HELD, ("again", "attempt 1 ended lost: its worker is gone", "")]
    bench.check()
    other = bench.worker(cores=8)
    assert not other.leases
    bench.restart()
    other = bench.worker(cores=8)
    assert not other.leases
    assert bench.item("f").running == "2 held back"
    assert why(bench, job)[0] == HELD
    bench.edit(Activate())
    bench.turn(other)
    assert sorted(lease.attempt for lease in other.leases.values()) == [1, 2]
    assert why(bench, job)[0][0] == "running"
    bench.finish(other)
    assert bench.get("f:out.y") == 2
    bench.check()


def test_a_late_success_of_a_job_that_is_held_back_is_accepted(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    (lease,) = worker.leases.values()
    bench.edit(Deactivate())
    bench.lose(worker)
    bench.report(bench.worker(cores=1), lease, Outcome.OK)
    assert bench.item("f").running == "1 held back"
    bench.edit(Activate())
    assert [job.job for job in bench.here.calls[-1].finished] == [ids.show(lease.job)]
    bench.finish(bench.worker(cores=2))
    assert bench.get("f:out.y") == 2
    bench.check()


@pytest.mark.parametrize("how", ["removed", "cancelled", "run again"])
def test_a_job_that_is_held_back_can_be_cancelled(bench: NetworkBench, how: str) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    bench.edit(Deactivate())
    bench.lose(worker)
    if how == "removed":
        bench.edit(RemoveInstance("f"))
    elif how == "run again":
        bench.edit(Rerun("f"))
    else:
        for (job,) in bench.do(lambda tx: tx.rows(_STEP_JOBS)):
            which = Range.of(job, False)
            bench.do(lambda tx, job=job, which=which: closing.cancel(bench.queue, tx, job, which, "enough", "user:t"))
    assert (bench.count(schema.jobs), bench.count(schema.finished, state=5)) == (0, 2)
    bench.check()
    if how == "removed":
        return
    bench.edit(Activate())
    if how == "cancelled":
        assert [job.reason for job in bench.here.calls[-1].finished] == ["enough"] * 2
    else:
        bench.finish(bench.worker(cores=2))
        assert bench.get("f:out.y") == 2
    bench.check()


def test_what_a_held_instance_asks_for_beside_a_job_that_has_ended_does_not_begin(bench: NetworkBench) -> None:
    """Its function ran when it was held: there is another job in its answer, and one has ended meanwhile."""

    def more(step: StepInput) -> Answer:
        return Answer(jobs=(Job(JobSpec(argv=("more",))),) if len(bench.here.calls) == 2 else (), outputs=(("y", 1),))

    asking(bench)
    worker = bench.worker(cores=1)
    bench.here.bodies["lab::f"] = more
    bench.here.hold = True
    bench.finish(worker)
    bench.edit(Deactivate())
    bench.here.hold = False
    bench.here.go()
    bench.turn(worker)
    assert not worker.leases
    assert bench.item("f").running == "1 held back"
    bench.check()
    bench.edit(Activate())
    bench.turn(worker)
    assert len(bench.finish(worker)) == 1
    bench.check()


def test_a_changed_input_cancels_what_became_out_of_date_if_the_function_says_so(bench: NetworkBench) -> None:
    asking(bench, cancel_on_change=True)
    worker = bench.worker(cores=1)
    first = bench.item("f").jobs
    bench.edit(SetValue("f:in.x", 2))
    assert set(bench.item("f").jobs).isdisjoint(first)
    assert bench.count(schema.finished, state=5) == 2
    bench.turn(worker)
    bench.finish(worker)
    assert (bench.get("f:out.y"), bench.here.calls[-1].inputs) == (2, {"x": 2})
    bench.check()


def test_the_answer_of_a_run_that_was_cut_short_is_dropped(bench: NetworkBench) -> None:
    asking(bench, cancel_on_change=True)
    bench.here.hold = True
    bench.here.bodies["lab::f"] = doubled
    bench.edit(Rerun("f"))
    bench.edit(SetValue("f:in.x", 7))
    bench.here.hold = False
    bench.here.go()
    assert bench.get("f:out.y") == 14
    assert bench.count(schema.steps, state=4) == 1
    bench.check()


def test_an_answer_counts_once_and_only_while_its_step_is_open(bench: NetworkBench) -> None:
    """Two runs of one step: of a server that was killed under the first, or of a pool that gave it out twice."""
    asking(bench)
    bench.edit(Rerun("f"))
    bench.dispatcher.stop()
    bench.edit(SetValue("f:in.x", 2), Rerun("f"))
    number = bench.graph.instances[bench.do(lambda tx: tx.rows(_STEPS))[-1][0]].step
    first, second = (bench.do(lambda tx: steps.take(bench.flow, tx, number)) for _ in range(2))
    assert first is not None
    assert second is not None
    asked = Answer(jobs=(Job(JobSpec(argv=("run",))),), outputs=(("y", 1),))
    before = bench.count(schema.arrays)
    assert not bench.do(lambda tx: steps.answer(bench.flow, tx, first, asked))
    assert bench.do(lambda tx: steps.answer(bench.flow, tx, second, Answer(outputs=(("y", 2),))))
    assert (bench.get("f:out.y"), bench.count(schema.arrays)) == (1, before + 1)
    third = bench.do(lambda tx: steps.take(bench.flow, tx, number))
    assert third is None, "it waits for its job"
    bench.edit(Rerun("f"))
    assert bench.do(lambda tx: steps.answer(bench.flow, tx, first, Answer(outputs=(("y", 3),))))
    assert bench.get("f:out.y") == 1
    bench.check()


def test_what_is_removed_takes_its_jobs_along(bench: NetworkBench) -> None:
    asking(bench)
    worker = bench.worker(cores=1)
    bench.edit(RemoveInstance("f"))
    assert bench.count(schema.jobs) == 0
    bench.turn(worker)
    assert not worker.leases
    bench.check()


def test_jobs_of_an_open_step_are_not_forgotten(bench: NetworkBench) -> None:
    asking(bench)
    bench.edit(Deactivate())
    assert bench.do(lambda tx: history.closed_arrays(tx, 0, 1 << 62, 10)) == []
    bench.edit(RemoveInstance("f"))
    assert len(bench.do(lambda tx: history.closed_arrays(tx, 0, 1 << 62, 10))) == 2


# --- kill -9 -------------------------------------------------------------------------------------------------------------


def test_a_function_that_was_running_runs_again_and_counts_once(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 3))
    assert len(bench.here.held) == 1
    bench.here.hold = False
    bench.restart()
    assert [(call.instance, call.updated) for call in bench.here.calls] == [
        ("f", ("in.x",)),
        ("f", ("in.x",)),
        ("g", ("in.x",)),
    ]
    assert (bench.get("g:out.y"), bench.count(schema.steps)) == (12, 2)
    bench.check()


def test_what_came_before_the_kill_is_not_missed_by_the_run_after_it(bench: NetworkBench) -> None:
    chain(bench)
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 3))
    bench.edit(SetValue("f:in.x", 4))
    bench.here.hold = False
    bench.restart()
    assert (bench.here.calls[1].inputs, bench.here.calls[1].updated) == ({"x": 4}, ("in.x",))
    assert bench.get("g:out.y") == 16
    bench.check()


def test_results_that_came_in_before_a_kill_are_given_to_the_step(bench: NetworkBench) -> None:
    asking(bench)
    bench.here.hold = True
    bench.finish(bench.worker())
    bench.here.hold = False
    bench.restart()
    assert bench.get("f:out.y") == 2
    assert bench.count(schema.arrays) == 2
    bench.check()


def test_a_step_is_explained_by_its_jobs_and_the_version_of_its_module(bench: NetworkBench) -> None:
    asking(bench)
    bench.finish(bench.worker("node7"))
    found = bench.wait(bench.networks.explain(SERVER, "p", "f:out.y")).step
    assert found is not None
    assert (found.instance, found.number, found.function, found.version) == ("f", 1, "lab::f", "1.2")
    assert [(job.attempt, job.worker, job.host) for job in found.jobs] == [(1, "node7", "h")] * 2
    assert [(link.source, link.target) for link in found.inputs] == [("", "f:in.x")]


def test_the_record_tells_answers_and_errors(bench: NetworkBench) -> None:
    chain(bench)
    bench.edit(SetValue("f:in.x", 3))
    bench.here.bodies["lab::f"] = lambda step: Answer(error="no")
    bench.edit(SetValue("f:in.x", 4))
    rows = bench.wait(bench.networks.record(SERVER, "p", 0, 100)).items
    assert [row.kind for row in rows] == ["edited"] * 3 + ["answered"] * 2 + ["edited", "stopped"]
    assert rows[3].details["answer"] == {"outputs": [["y", 6]]}
    assert rows[-1].details == {"instance": "f", "step": 2, "error": "no"}


def test_a_defect_of_the_server_stops_one_instance_in_words(
    bench: NetworkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not wait for ever, and nothing of the answer may stay."""
    chain(bench)

    def broken(*_: object) -> bool:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_go_on", broken)
        bench.edit(SetValue("f:in.x", 3))
    assert "inside the server" in bench.item("f").error
    assert bench.get("f:out.y") is None
    bench.edit(ClearError("f"))
    assert bench.get("g:out.y") == 12


def test_a_step_whose_input_is_gone_before_it_ran_is_no_error(bench: NetworkBench) -> None:
    """It opened with all that it needs; by the time that somebody can run it, there is nothing to run it on."""
    chain(bench)
    bench.dispatcher.stop()
    bench.edit(SetValue("f:in.x", 3))
    bench.edit(Unset("f:in.x"))
    bench.restart()
    assert bench.here.calls == []
    assert bench.item("f").own == "active"
    assert bench.graph.instances[bench.graph.find("f").id].step == 0
    bench.restart()
    bench.edit(SetValue("f:in.x", 4))
    assert bench.get("g:out.y") == 16
