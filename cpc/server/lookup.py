"""From what people write to what is meant: `57`, `57[3]` → a submission, and the range of its jobs; allowed or refused."""

from __future__ import annotations

from dataclasses import dataclass

from cpc.core import ids
from cpc.core.errors import NotFound
from cpc.server.gate import Gate
from cpc.server.principal import Principal
from cpc.server.roles import Act
from cpc.store import arrays
from cpc.store.arrays import ArrayRow
from cpc.store.jobs import Range
from cpc.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class Target:
    """What an id names: one job of `row`, or all of them."""

    row: ArrayRow
    job: int
    single: bool

    @property
    def which(self) -> Range:
        """Its jobs."""
        return Range.of(self.job, self.single and self.row.elements)

    @property
    def shown(self) -> str:
        """The id as people see it."""
        return ids.show(self.job, self.single and self.row.elements)


def target(tx: Tx, gate: Gate, who: Principal, act: Act, text: str) -> Target:
    """The job or array that `text` names, if `who` may do `act` to it."""
    number, element = ids.read(text)
    row = arrays.get(tx, ids.array(number))
    if row is None or ids.index(number) >= row.size:
        raise NotFound(f"there is no job {text}", "see `cpcc jobs`")
    gate.check(tx, who, act, row.project, f"job {text}")
    return Target(row, number, element or not row.elements)
