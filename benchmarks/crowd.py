"""Many simulated workers, spread over processes (one process may have so many files open), as one thing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.usage import cpu

ROOT = Path(__file__).resolve().parents[1]
EACH = 2500  # workers in one process, at most
TICK = 0.25


@dataclass(slots=True)
class Seen:
    """What all workers have seen since the last look (lists) or since their start (numbers)."""

    connected: int = 0
    running: int = 0
    tasks: int = 0
    again: int = 0
    dropped: int = 0
    settled: int = 0
    joined: list[float] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)

    def add(self, report: dict[str, Any]) -> None:
        """One process more."""
        for name in ("connected", "running", "tasks", "again", "dropped", "settled"):
            setattr(self, name, getattr(self, name) + report[name])
        for name in ("joined", "claims", "turns"):
            getattr(self, name).extend(report[name])
        self.said.update(report["said"])
        self.verdicts.update(report["verdicts"])


class Crowd:
    """`count` workers of `cores` each. A job takes about `seconds`; negative: until `finish`. `idle`: they want none yet."""

    def __init__(self, bundle: Path, count: int, cores: int = 1, seconds: float = -1.0, idle: bool = False) -> None:
        self.count = count
        self.started = False
        self._idle = idle
        self._cores = cores
        self._seconds = seconds
        processes = max(1, -(-count // EACH))
        if processes == 1 and count >= 100:
            processes = 2
        self._shares = [count // processes + (place < count % processes) for place in range(processes)]
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.simulated", str(bundle)], cwd=ROOT, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(processes)
        ]  # fmt: skip

    def start(self) -> None:
        """All at once."""
        for process, share in zip(self._processes, self._shares, strict=True):
            self._tell(process, start=share, cores=self._cores, seconds=self._seconds, idle=self._idle)
        self.started = True

    def want(self, jobs: bool, seconds: float = 0.0) -> None:
        """All want jobs from now on, of so many seconds; or none."""
        for process in self._processes:
            self._tell(process, want=jobs, seconds=seconds)

    def finish(self) -> None:
        """Whatever runs ends now."""
        for process in self._processes:
            self._tell(process, finish=True)

    def look(self) -> Seen:
        """What they have seen."""
        for process in self._processes:
            self._tell(process, report=True)
        seen = Seen()
        for process in self._processes:
            assert process.stdout is not None
            seen.add(json.loads(process.stdout.readline()))
        return seen

    def until(
        self, true: Callable[[Seen], bool], seconds: float, what: str, tick: float = TICK,
        watch: Callable[[], None] = lambda: None,
    ) -> Seen:  # fmt: skip
        """All that was seen until it is `true`; AssertionError after so many seconds. `watch` is called each tick."""
        end = time.monotonic() + seconds
        all_seen = Seen()
        while True:
            now = self.look()
            watch()
            now.joined, now.claims, now.turns = (
                all_seen.joined + now.joined, all_seen.claims + now.claims, all_seen.turns + now.turns,
            )  # fmt: skip
            all_seen = now
            if true(now):
                return now
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}; {_short(now)}"
            time.sleep(tick)

    def cpu(self) -> float:
        """CPU seconds of all processes."""
        return sum(cpu(process.pid) for process in self._processes)

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                self._tell(process, stop=True)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()

    def _tell(self, process: subprocess.Popen[bytes], **order: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()


def _short(seen: Seen) -> str:
    return f"{seen.connected} connected, {seen.running} running, {seen.settled} settled; {seen.said.most_common(5)}"


@contextlib.contextmanager
def crowd(bundle: Path, count: int, cores: int = 1, seconds: float = -1.0, idle: bool = False) -> Iterator[Crowd]:
    """Simulated workers for one measurement; none is left afterwards."""
    made = Crowd(bundle, count, cores, seconds, idle)
    try:
        yield made
    finally:
        made.stop()
