"""What the demo shows: on a terminal one block that updates itself, in a pipe a line every few seconds."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

BLOCKS = "█░" if (sys.stdout.encoding or "").lower().startswith("utf") else "#."
QUIET = 5.0  # seconds between two lines in a pipe


class Screen:
    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.drawn = 0  # lines of the block that stand on the terminal now
        self.spoken = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.perf_counter() - self.began

    def say(self, text: str = "") -> None:
        """Something to keep: above the block."""
        self.wipe()
        print(text, flush=True)

    def block(self, headline: str, lines: Sequence[str]) -> None:
        """How things stand now: replaces the block before."""
        size = shutil.get_terminal_size()
        if sys.stdout.isatty() and size.lines > len(lines) + 2:
            self.wipe()
            print(*(line[: size.columns - 1] for line in (headline, *lines)), sep="\n", flush=True)
            self.drawn = len(lines) + 1
        elif self.elapsed - self.spoken >= QUIET:
            self.spoken = self.elapsed
            print(headline, flush=True)

    def wipe(self) -> None:
        if self.drawn:
            print(f"\x1b[{self.drawn}F\x1b[J", end="")
            self.drawn = 0


def bar(part: float, width: int = 24) -> str:
    full = round(part * width)
    return BLOCKS[0] * full + BLOCKS[1] * (width - full)
