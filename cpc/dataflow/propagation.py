"""How a change runs along the connections. Its cost is proportional to what has changed and to the connections from it.

Where the types have the same layout, the target's node is the source's: the very same list or dict. So an element that
changes in an array is changed in all that are connected to the array, and only has to be announced there.
"""

from __future__ import annotations

from cpc.core.errors import NotFound
from cpc.core.journal import Journal
from cpc.dataflow import values
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.links import Link
from cpc.dataflow.trees import write
from cpc.dataflow.types import Fit, Path
from cpc.dataflow.values import Node


class Propagation:
    """Writes values and carries them on. `touched`: instances whose inputs or sub-inputs have changed, in that order.

    `broken`: instances that have run and whose constant input has changed since → that input.
    """

    def __init__(self, journal: Journal) -> None:
        self.touched: dict[Instance, None] = {}
        self.broken: dict[Instance, str] = {}
        self._journal = journal

    def put(self, instance: Instance, tree: Tree, path: Path, node: Node) -> None:
        """A changed node of an item, to all that follows it."""
        write(self._journal, instance, tree, path, node)
        self._spread(instance, tree, path)

    def follow(self, link: Link) -> None:
        """The target takes what the source has."""
        if self._take(link):
            self._spread(link.target, link.target_tree, link.target_path)

    def _spread(self, instance: Instance, tree: Tree, path: Path) -> None:
        changed = [(instance, tree, path)]
        while changed:
            instance, tree, path = changed.pop()
            if tree in (Tree.IN, Tree.SUB_IN):
                self._touch(instance, tree, path)
            if instance.outbound is None:
                continue
            end: Path = (tree, *path)
            for link in instance.outbound.above(end):
                rest = end[len(link.source_end) :]
                if self._take_part(link, rest):
                    changed.append((link.target, link.target_tree, link.target_path + rest))
            for link in instance.outbound.within(end):
                if self._take(link):
                    changed.append((link.target, link.target_tree, link.target_path))

    def _touch(self, instance: Instance, tree: Tree, path: Path) -> None:
        self.touched[instance] = None
        function = instance.function
        if function.constants and tree is Tree.IN and instance.number:
            fields = function.types[tree].fields
            for field in fields if not path else (fields[function.types[tree].positions[str(path[0])]],):
                if field.const:
                    self.broken[instance] = field.name

    def _take(self, link: Link) -> bool:
        """Bring the whole target to what the source has now; whether that was a change."""
        old = link.target.node(link.target_tree, link.target_path)
        new = link.source.node(link.source_tree, link.source_path)
        if link.fit is Fit.CONVERTED:
            new = values.graft(old, values.convert(new, link.source_type, link.target_type))
        if old is new:
            return False
        write(self._journal, link.target, link.target_tree, link.target_path, new)
        return True

    def _take_part(self, link: Link, rest: Path) -> bool:
        """The source has changed at `rest` within it: whether the target has that part, which it then has got."""
        if link.fit is Fit.CONVERTED:
            try:
                target_type = link.target_type.at(rest)
            except NotFound:
                return False
            new = values.convert(
                link.source.node(link.source_tree, link.source_path + rest), link.source_type.at(rest), target_type
            )
            write(self._journal, link.target, link.target_tree, link.target_path + rest, new)
        else:
            node = link.source.node(link.source_tree, link.source_path)
            if link.target.node(link.target_tree, link.target_path) is not node:
                write(self._journal, link.target, link.target_tree, link.target_path, node)
        return True
