"""What happened, one line per event, and a digest of it: the same seed tells the same story."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class Story:
    """Lines for people; `note` takes what is only worth a digest (every segment on the network)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.lines: list[str] = []
        self.events = 0
        self._now = now
        self._hash = hashlib.sha256()

    def tell(self, who: str, what: str) -> None:
        """An event that a reader wants to see."""
        line = f"{self._now():11.3f}  {who:<4} {what}"
        self.lines.append(line)
        self.note(line)

    def note(self, line: str) -> None:
        """An event that only has to be the same again."""
        self.events += 1
        self._hash.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()

    def last(self, count: int = 200) -> str:
        """The end of the story."""
        skipped = len(self.lines) - count
        head = [f"… {skipped} earlier lines"] if skipped > 0 else []
        return "\n".join([*head, *self.lines[-count:]])
