"""A project's network, live: everything that is asked of it, and everything that changes it.

Nothing is changed but through `apply`, `answer`, `stopped`, `spent` and what begins, takes and closes steps; each notes its
inverse in the journal, and is carried out whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.edits import Edit
from cpc.core.errors import CopernicusError
from cpc.core.journal import Journal
from cpc.core.plain import Plain
from cpc.dataflow import answering, edits, items
from cpc.dataflow.answer import Answer
from cpc.dataflow.functions import PROJECT
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.items import Item, Message
from cpc.dataflow.library import Library
from cpc.dataflow.outcome import Outcome
from cpc.dataflow.step import StepSnapshot, snapshot
from cpc.dataflow.types import Path
from cpc.dataflow.update import Update


class Graph:
    """The network of one project.

    `root` is the project itself: its network is the top level. `instances`: all of them by id, the root (0) included.
    `change`: the number of the last change.
    """

    def __init__(self, library: Library, journal: Journal, name: str = "") -> None:
        self.library = library
        self.journal = journal
        self.name = name
        self.root = Instance(0, name, None, PROJECT)
        self.root.state = State.ACTIVE
        self.instances: dict[int, Instance] = {0: self.root}
        self.change = 0
        self._ends: dict[Path, Path] = {}

    def apply(self, changes: Sequence[Edit], next_id: Callable[[], int], *, origin: int = 0) -> Outcome:
        """Carry out a list of edits. A CopernicusError names the edit that cannot be done; everything is then as before.

        `next_id` gives ids that were never used in the project, for instances and connections.
        """
        mark = self.journal.mark()
        update = self._update(next_id, origin)
        try:
            for number, edit in enumerate(changes, 1):
                try:
                    edits.carry_out(self, update, edit)
                except CopernicusError as error:
                    raise _named(error, edit, number, len(changes)) from None
            outcome = update.settle()
        except CopernicusError:
            self.journal.undo_to(mark)
            raise
        if outcome.empty:
            self.journal.undo_to(mark)
        return outcome

    def answer(self, instance: Instance, answer: Answer, next_id: Callable[[], int], *, origin: int) -> Outcome:
        """Carry out the answer of an instance's open step, but for its jobs. `origin`: the step's id.

        An answer that cannot be carried out is left out whole, and stops the instance: `Outcome.refused` says why.
        """
        mark = self.journal.mark()
        update = self._update(next_id, origin)
        try:
            answering.carry_out(self, update, instance, answer)
            return update.settle()
        except CopernicusError as error:
            self.journal.undo_to(mark)
            outcome = self.stopped(instance, f"the answer of {instance.function.name} cannot be carried out: {error}")
            outcome.refused = str(error)
            return outcome

    def stopped(self, instance: Instance, message: str) -> Outcome:
        """Something has gone wrong with the instance's step: it is in error."""
        update = self._update(_none)
        update.fail(instance, message)
        return update.settle()

    def step_opened(self, instance: Instance, step: int) -> StepSnapshot:
        """A step of that id is open now: what it starts from. Changes from now on are for the next one."""
        since = instance.seen
        self.step_begun(instance, step)
        return self.step_taken(instance, since)

    def step_begun(self, instance: Instance, step: int) -> None:
        """A step of that id is open now, and starts from what there will be when it is taken."""
        self._put(instance, "step", step)
        self._put(instance, "number", instance.number + 1)
        self._put(instance, "updated", False)

    def step_taken(self, instance: Instance, since: int) -> StepSnapshot:
        """What the open step starts from; what changed after change `since` of the project is new to it.

        Changes from now on are for the next step.
        """
        found = snapshot(instance, since)
        self._put(instance, "updated", False)
        self._put(instance, "seen", self.change)
        return found

    def step_closed(self, instance: Instance) -> Outcome:
        """The open step is over, for whatever reason: whether the next one is to be opened."""
        self._put(instance, "step", 0)
        if instance.id not in self.instances:
            return Outcome()
        update = self._update(_none)
        update.reconsider(instance)
        return update.settle()

    def spent(self, instance: Instance, seconds: float) -> None:
        """Its jobs have used so much CPU time."""
        self._put(instance, "cpu", instance.cpu + seconds)

    def find(self, path: str) -> Instance | Item | Message:
        """What a path from the top leads to; NotFound names the part that is not there."""
        return items.find(self.root, path)

    def value(self, path: str) -> Plain:
        """The value at a path; None: not set."""
        return items.value(self.root, path).value

    def end(self, tree: Tree, path: Path) -> Path:
        """An end of a connection, as one object for all that end at an item of this name; there are few such names."""
        end: Path = (tree, *path)
        return end if any(isinstance(part, int) for part in path) else self._ends.setdefault(end, end)

    def _update(self, next_id: Callable[[], int], origin: int = 0) -> Update:
        self._put(self, "change", self.change + 1)
        return Update(self, next_id, origin)

    def _put(self, thing: object, name: str, value: object) -> None:
        self.journal.note(setattr, thing, name, getattr(thing, name))
        setattr(thing, name, value)


def _none() -> int:
    raise AssertionError("this change makes no instances and no connections")


def _named(error: CopernicusError, edit: Edit, number: int, of: int) -> CopernicusError:
    """The error with the edit that it is about, where there are several."""
    if of == 1:
        return error
    return type(error)(f"{edits.words(edit)} ({number} of {of}): {error.message}", error.hint)
