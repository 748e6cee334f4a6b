"""What happened, a line for each event: kept in the run's directory, and printed when something is wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path


class Story:
    """Lines with the seconds since the beginning. Several threads may tell."""

    def __init__(self, path: Path, loud: bool = False) -> None:
        self._path = path
        self._loud = loud
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        """One event."""
        text = f"{self.seconds:8.2f}  {line}"
        with self._lock:
            self.lines.append(text)
            with self._path.open("a") as file:
                file.write(text + "\n")
            if self._loud:
                print(text, flush=True)

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return time.monotonic() - self._began

    def last(self, lines: int = 120) -> str:
        """Its end."""
        return "\n".join(self.lines[-lines:])
