"""What a change of a graph has led to: what is to be written down, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpc.dataflow.description import ModuleText
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.links import Link
from cpc.dataflow.types import Path
from cpc.dataflow.values import Leaf


@dataclass(slots=True)
class Outcome:
    """The result of one change.

    `lines` are for the person who asked. `values` are own leaves only, set by people and answers, None: not set any more;
    what comes through connections is derived. Nothing in it belongs to an instance of `removed`.

    To be done: a step is to be opened for each of `opens` (none is open). The open step (`instance.step`) of each of
    `ends` is to be cancelled with its jobs, then `Graph.step_closed` says whether another is opened. `parks`: the jobs of
    the open step that wait are to be held back; `unparks`: they may begin. `refused`: why an answer was not carried out.
    """

    lines: list[str] = field(default_factory=list)
    modules: list[ModuleText] = field(default_factory=list)
    added: list[Instance] = field(default_factory=list)
    changed: set[Instance] = field(default_factory=set)
    removed: list[Instance] = field(default_factory=list)
    values: dict[tuple[int, Tree, Path], Leaf | None] = field(default_factory=dict)
    links_added: list[Link] = field(default_factory=list)
    links_removed: list[Link] = field(default_factory=list)
    opens: list[Instance] = field(default_factory=list)
    ends: list[Instance] = field(default_factory=list)
    parks: list[Instance] = field(default_factory=list)
    unparks: list[Instance] = field(default_factory=list)
    refused: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing has changed, and nothing is to be done."""
        return not (
            self.modules or self.added or self.changed or self.removed or self.values or self.links_added
            or self.links_removed or self.opens or self.ends or self.parks or self.unparks
        )  # fmt: skip
