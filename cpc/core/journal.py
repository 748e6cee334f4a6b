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

    def undo(self) -> None:
        """Memory is again what it was before the batch."""
        while self._inverses:
            inverse, arguments = self._inverses.pop()
            inverse(*arguments)

    def forget(self) -> None:
        """The batch is committed: memory stays."""
        self._inverses.clear()
