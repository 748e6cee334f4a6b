"""Small disks that can be filled, for one test alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

WHAT = "a tmpfs cannot be mounted in a user namespace here (unshare -rm; util-linux)"


class Mount:
    """A small disk of its own, in a user and mount namespace that nobody else sees."""

    def __init__(self, directory: Path, size: int) -> None:
        self.directory = directory
        command = f"mount -t tmpfs -o size={size} tmpfs '{directory}' && echo mounted && exec cat"
        self.why_not = ""
        try:
            self.process = subprocess.Popen(
                ["unshare", "-rm", "sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError as error:
            self.why_not = f"{WHAT}: {error}"
            return
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"mounted\n":
            self.why_not = f"{WHAT}: {self.process.communicate()[1].decode().strip()}"

    @property
    def within(self) -> tuple[str, ...]:
        """Words before a command that is to see it."""
        return ("nsenter", "-t", str(self.process.pid), "-U", "-m", "--preserve-credentials")

    @property
    def seen(self) -> Path:
        """The directory, as it is seen from outside."""
        return Path(f"/proc/{self.process.pid}/root{self.directory}")

    def run(self, text: str) -> None:
        """A shell text that sees it."""
        subprocess.run([*self.within, "sh", "-c", text], check=True, capture_output=True)

    def fill(self, leave: int) -> None:
        """Leave so many bytes free, of those that are free now."""
        status = os.statvfs(self.seen)
        size = max(0, status.f_bavail * status.f_frsize - leave)
        # Whoever writes at the same time may be quicker: then it is full before head has written all.
        self.run(f"head -c {size} /dev/zero >> '{self.directory}/ballast' 2>/dev/null || true")

    def empty(self) -> None:
        """Make room again."""
        self.run(f"rm -f '{self.directory}/ballast'")

    def close(self) -> None:
        """It goes with its last process."""
        self.process.communicate()
