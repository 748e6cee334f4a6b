"""A change of a network on its way into the database: what the engine says is to be written and done, in one unit.

A change may lead to others: a step that ends may let the next one open. They are carried out until nothing is left, and
written down together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from cpc.dataflow import snapshot
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.links import Link
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.step import Event, after
from cpc.dataflow.step import State as StepState
from cpc.dataflow.types import Kind, Path
from cpc.dataflow.values import Leaf
from cpc.server import closing
from cpc.server.dataflow import Dataflow
from cpc.store import instances, networks, record, steps
from cpc.store.instances import Delta
from cpc.store.jobs import Range
from cpc.store.steps import JobState, StepRow
from cpc.store.transaction import Tx

LINES = 20  # of what an event tells


class Change:
    """One change of one project's network. `check` what the engine gives, then `settle` it, then `write`."""

    def __init__(self, flow: Dataflow, tx: Tx, project: int, graph: Graph) -> None:
        self.flow = flow
        self.tx = tx
        self.project = project
        self.graph = graph
        self.number = graph.change
        self._added: dict[int, Instance] = {}
        self._changed: dict[int, Instance] = {}
        self._removed: dict[int, Instance] = {}
        self._values: dict[tuple[int, Tree, Path], Leaf | None] = {}
        self._links_added: dict[int, Link] = {}
        self._links_removed: dict[int, Link] = {}
        self._opened: dict[int, StepRow] = {}
        self._stopped: dict[int, Instance] = {}
        self._modules = 0

    # --- what the engine says ---

    def check(self, outcome: Outcome) -> None:
        """Raise what can be refused of an outcome, before anything is written: files that the project does not have.

        The first outcome's change is the one that the record names.
        """
        self.number = self.graph.change
        delta = Delta()
        self._add_values(delta, outcome.values)
        instances.check(self.tx, self.project, delta)

    def settle(self, outcome: Outcome) -> None:
        """Take in an outcome, and do what is to be done: steps end, are parked, go on and open."""
        coming = deque([outcome])
        while coming:
            now = coming.popleft()
            self._note(now)
            for instance in now.parks:
                self._park(instance)
            for instance in now.unparks:
                self._unpark(instance)
            for instance in now.ends:
                if instance.step:
                    coming.append(self._end(instance))
            for instance in now.opens:
                if not instance.step:
                    self._open(instance)

    def note(self, instance: Instance) -> None:
        """The instance has changed beside what the engine says."""
        self._changed[instance.id] = instance

    def _note(self, outcome: Outcome) -> None:
        networks.add_modules(self.tx, self.project, outcome.modules)
        self._modules += len(outcome.modules)
        self._added |= {each.id: each for each in outcome.added}
        for each in outcome.changed:
            self._changed[each.id] = each
            if each.state is State.ERROR:
                self._stopped[each.id] = each
        self._values |= outcome.values
        self._links_added |= {link.id: link for link in outcome.links_added}
        for link in outcome.links_removed:
            if self._links_added.pop(link.id, None) is None:
                self._links_removed[link.id] = link
        for each in outcome.removed:
            if self._added.pop(each.id, None) is None:
                self._removed[each.id] = each

    # --- steps ---

    def _open(self, instance: Instance) -> None:
        number = self.tx.next("step")
        since = instance.seen
        self.graph.step_begun(instance, number)
        function = instance.function
        self._opened[number] = StepRow(
            number, self.project, instance.id, instance.number, StepState.READY, 0, function.name, function.version,
            since, self.tx.now,
        )  # fmt: skip
        self.note(instance)
        self.tell(number)

    def tell(self, step: int) -> None:
        """The step can run, after the commit."""
        self.tx.after(lambda: self.flow.ready(step))

    def step(self, instance: Instance) -> StepRow:
        """The instance's open step."""
        if self._opened:
            steps.add(self.tx, list(self._opened.values()))
            self._opened.clear()
        row = steps.get(self.tx, instance.step)
        assert row is not None, "an instance names a step that is there"
        return row

    def _end(self, instance: Instance) -> Outcome:
        """The open step is out of date, or its instance is in error or gone: its jobs are cancelled."""
        row = self.step(instance)
        steps.set_state(self.tx, row, after(row.state, Event.CANCELLED))
        self.cancel_jobs(row, f"{instance.path} does not need it any more")
        self.tx.after(lambda: self.flow.ended(row.id))
        self.note(instance)
        return self.graph.step_closed(instance)

    def withdraw(self, instance: Instance) -> None:
        """Nothing can be made of the open step: a required input that it opened with has been unset since."""
        outcome = self._end(instance)
        self.check(outcome)
        self.settle(outcome)

    def cancel_jobs(self, row: StepRow, reason: str) -> None:
        """What has not ended of a step's jobs is cancelled, and nobody waits for it."""
        live = [job for job in steps.jobs(self.tx, row.id) if job.state in (JobState.LIVE, JobState.PARKED)]
        steps.set_job_states(self.tx, row.id, [job.ordinal for job in live], JobState.GIVEN)
        for job in live:
            closing.cancel(self.flow.queue, self.tx, job.array, Range.of(job.array, False), reason, "server")

    def _park(self, instance: Instance) -> None:
        self.park(self.step(instance))

    def park(self, row: StepRow) -> None:
        """The instance is held: jobs that wait do not begin, those that run go on."""
        self._set_state(row, after(row.state, Event.PARKED))
        for job in steps.jobs(self.tx, row.id):
            if job.state is JobState.LIVE and closing.hold(self.flow.queue, self.tx, job.array):
                steps.set_job_states(self.tx, row.id, [job.ordinal], JobState.PARKED)

    def _unpark(self, instance: Instance) -> None:
        row = self.step(instance)
        state = after(row.state, Event.UNPARKED)
        for job in steps.jobs(self.tx, row.id):
            if job.state is JobState.PARKED:
                steps.set_job_states(self.tx, row.id, [job.ordinal], JobState.LIVE)
                closing.release(self.flow.queue, self.tx, job.array)
        self._set_state(row, state)
        if state is StepState.READY:
            self.tell(row.id)

    def _set_state(self, row: StepRow, state: StepState) -> None:
        if state is not row.state:
            steps.set_state(self.tx, row, state)

    # --- writing ---

    def write(self, actor: str, kind: str, step: int, details: Callable[[], dict[str, Any]]) -> None:
        """Write all of it down, and a line of the record: `details` is what it takes to make the change again.

        Nothing is written when nothing has changed.
        """
        if self._opened:
            steps.add(self.tx, list(self._opened.values()))
            self._opened.clear()
        delta = self._delta()
        if delta == Delta() and not self._modules:
            return
        instances.write(self.tx, self.project, delta)
        networks.set_change(self.tx, self.project, self.graph.change)
        record.add(self.tx, self.project, self.number, actor, kind, step, details())
        for instance in self._stopped.values():
            if instance.id in self.graph.instances:
                self._event(
                    "server", "instance.error", instance, reason=instance.error.strip().rpartition("\n")[2][:500]
                )
        for instance in self._removed.values():
            self.tx.after(partial(self.flow.cleared, self.project, instance.id))
        self.flow.queue.round(self.tx)

    def event(self, actor: str, kind: str, lines: tuple[str, ...] = ()) -> None:
        """A line in the event log, about the project."""
        more = [f"and {len(lines) - LINES} more"] if len(lines) > LINES else []
        self.tx.event(
            actor, kind, project=self.project, subject=self.project, name=self.graph.name,
            change=self.number, lines=[line[:200] for line in lines[:LINES]] + more,
        )  # fmt: skip

    def answered(self, instance: Instance, row: StepRow, closed: bool) -> None:
        """A line in the event log: the instance's function has given an answer."""
        self._event("server", "network.answered", instance, step=row.number, function=row.function, closed=closed)

    def _event(self, actor: str, kind: str, instance: Instance, **more: Any) -> None:
        self.tx.event(actor, kind, project=self.project, subject=instance.id, name=instance.path, **more)

    def _delta(self) -> Delta:
        alive = self.graph.instances
        delta = Delta(
            added=[snapshot.instance_row(each) for each in self._added.values() if each.id in alive],
            changed=[
                snapshot.instance_row(each)
                for each in self._changed.values()
                if each.id in alive and each.id not in self._added and each.parent is not None
            ],
            removed=list(self._removed),
            links_added=[snapshot.link_row(link) for link in self._links_added.values()],
            links_removed=list(self._links_removed),
        )
        self._add_values(delta, {key: leaf for key, leaf in self._values.items() if key[0] in alive})
        return delta

    def _add_values(self, delta: Delta, values: dict[tuple[int, Tree, Path], Leaf | None]) -> None:
        for (number, tree, path), leaf in values.items():
            row = snapshot.value_row(number, tree, path, leaf or _NOTHING)
            if leaf is not None:
                delta.values.append(row)
            elif number not in self._added:
                delta.unset.append((number, row.tree, row.path))
            instance = self.graph.instances[number]
            if instance.function.types[tree].at(path).kind is Kind.FILE:
                delta.files.add((number, row.tree, row.path))


_NOTHING = Leaf(False)
