"""How memory follows the database: every change to the index notes its inverse, and a rollback plays them back.

The writer's batch changes memory while it decides, so that a later decision of the batch sees an earlier one. Nobody
outside the writer can look in between: reads of the index are units of the writer too. See docs/adr/0003.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Journal:
    """The inverses of what the current batch has done to memory, oldest first."""

    __slots__ = ("_inverses",)

    def __init__(self) -> None:
        self._inverses: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __len__(self) -> int:
        return len(self._inverses)

    def note(self, inverse: Callable[..., Any], *arguments: Any) -> None:
        """`inverse(*arguments)` undoes what was just done."""
        self._inverses.append((inverse, arguments))

    def mark(self) -> int:
        """Where the journal stands now, for `undo_to`."""
        return len(self._inverses)

    def undo_to(self, mark: int) -> None:
        """Memory is again what it was at the mark; what the batch did before stays."""
        while len(self._inverses) > mark:
            inverse, arguments = self._inverses.pop()
            inverse(*arguments)

    def undo(self) -> None:
        """Memory is again what it was before the batch."""
        self.undo_to(0)

    def forget(self) -> None:
        """The batch is committed: memory stays."""
        self._inverses.clear()


class Unwritten(Journal):
    """For what is being made and known to nobody yet: if that fails, it is dropped whole."""

    __slots__ = ()

    def note(self, inverse: Callable[..., Any], *arguments: Any) -> None:
        """There is nothing to go back to."""
