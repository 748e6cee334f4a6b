"""How steps end: cut short, failed, or with a job that somebody meddles with; what the simulation has found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cpc.core.edits import Activate, AddInstance, ClearError, Deactivate, Import, Rerun, SetValue
from cpc.core.errors import Conflict
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.description import ControllerText
from cpc.server import closing, submission
from cpc.store import schema
from cpc.store.jobs import Range
from cpc.store.statement import Statement
from tests.helpers.network_bench import NetworkBench, controlled
from tests.unit.test_steps import asking

_STEP_JOBS = Statement(sa.select(schema.step_jobs.c.array).order_by(schema.step_jobs.c.ordinal))


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[NetworkBench]:
    made = NetworkBench(tmp_path, url=database_url)
    yield made
    made.close()


def test_a_job_whose_end_its_step_has_not_been_told_of_cannot_be_retried(bench: NetworkBench) -> None:
    """Else the step would look for a result that is not there any more."""
    asking(bench)
    bench.dispatcher.stop()
    job = bench.do(lambda tx: tx.rows(_STEP_JOBS))[0][0]
    which = Range.of(job, False)
    bench.do(lambda tx: closing.cancel(bench.queue, tx, job, which, "enough", "user:t"))
    with pytest.raises(Conflict, match="about to be told"):
        bench.do(lambda tx: submission.retry(bench.queue, tx, job, which, "user:t"))
    bench.restart()
    bench.finish(bench.worker())
    assert bench.get("f:out.y") == 1
    bench.check()


def test_what_is_held_and_run_again_runs_when_it_is_activated_after_a_restart(bench: NetworkBench) -> None:
    """Its input had changed before: nothing of the instance changes but that its open step is over."""
    asking(bench)
    bench.edit(Deactivate("f"), SetValue("f:in.x", 2))
    bench.edit(Rerun("f"))
    bench.check()
    bench.restart()
    bench.edit(Activate("f"))
    assert bench.count(schema.steps, state=5) == 1
    assert bench.item("f").jobs
    bench.check()


def test_a_run_that_fails_or_comes_too_late_leaves_the_persistent_directory_as_it_was(bench: NetworkBench) -> None:
    def lines(step: StepInput) -> Answer:
        path = Path(step.persistent_dir) / "lines"
        found = path.read_text() if path.exists() else ""
        path.write_text(f"{found}{step.number}")
        return Answer(error="negative") if step.inputs["x"] < 0 else Answer(outputs=(("y", found),))

    controller = ControllerText(module="lab", function="f", persistent_dir=True, cancel_on_change=True)
    bench.define(controlled("f", {"x": "int"}, {"y": "string"}, controller=controller), f=lines)
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), SetValue("f:in.x", 1), Activate("f"))
    bench.edit(SetValue("f:in.x", -1))
    bench.edit(SetValue("f:in.x", 2), ClearError("f"))
    assert bench.get("f:out.y") == "1"
    bench.here.hold = True
    bench.edit(SetValue("f:in.x", 3))
    bench.edit(SetValue("f:in.x", 4))
    bench.here.hold = False
    bench.here.go()
    bench.edit(Rerun("f"))
    assert bench.get("f:out.y").startswith("13")
    bench.check()
