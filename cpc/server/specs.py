"""Descriptions of submissions, as the writer needs them: read from the database, a bounded number kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cpc.core.journal import Journal
from cpc.core.spec import JobSpec
from cpc.queue.match import Exact
from cpc.store import arrays
from cpc.store.arrays import ArrayRow
from cpc.store.transaction import Tx

KEPT = 1000


@dataclass(frozen=True, slots=True)
class Submission:
    """What the jobs of one submission share."""

    row: ArrayRow  # counts in it are those of the time it was read
    spec: JobSpec
    exact: Exact


def submission(row: ArrayRow, spec: JobSpec) -> Submission:
    """Put together from a row and its spec."""
    return Submission(row, spec, Exact(spec.need, spec.max_cores, spec.walltime, bool(spec.checkpoint)))


class Specs:
    """Used by the writer only."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kept: OrderedDict[int, Submission] = OrderedDict()

    def get(self, tx: Tx, array: int) -> Submission:
        """The submission with this id, which must exist."""
        found = self._kept.get(array)
        if found is not None:
            self._kept.move_to_end(array)
            return found
        row, spec = arrays.get(tx, array), arrays.spec(tx, array)
        if row is None or spec is None:
            raise RuntimeError(f"submission {array} is not in the database")
        found = submission(row, spec)
        self.keep(found)
        return found

    def keep(self, found: Submission) -> None:
        """A submission that was read or has just been made; forgotten again if the batch is rolled back."""
        self._kept[found.row.id] = found
        self._journal.note(self._kept.pop, found.row.id, None)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def forget(self, array: int) -> None:
        """The submission was changed or removed."""
        self._kept.pop(array, None)
