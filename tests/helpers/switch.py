"""A switch of our own between network namespaces: what goes over it is late, lost, out of order, or not passed on at all.

One process that holds a TAP device in each namespace and carries frames from one to another; kernels without `netem` need it.
It is told what to do by lines of JSON on its input and answers each, so what is asked for holds when the call returns.

    python -m tests.helpers.switch SPACE…        one port for each namespace, `eth0` there
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

_NEWNET = 0x40000000  # CLONE_NEWNET
_TUNSETIFF = 0x400454CA
_TAP = 0x0002 | 0x1000  # IFF_TAP | IFF_NO_PI
_BURST = 64  # frames that are taken from one port before the others have their turn
#: Seconds of traffic that wait for a slow line; what comes beyond is lost.
_WAITING = 0.2
_ROOT = Path(__file__).parents[2]
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Line:
    """How one direction between two ports is.

    `delay` and `jitter`: seconds; frames keep their order however late they are, but for the share `reorder` of them, which
    overtakes. `loss`: the share that is lost; 1: nothing comes through, and nobody is told. `rate`: bytes a second, 0: any.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    rate: float = 0.0


class Switch:
    """The process, for those who use it. Its ports are there once it is made; `close` takes them away."""

    def __init__(self, spaces: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.switch", *spaces],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def set(self, source: int, target: int, line: Line) -> None:
        """From now on the direction from one port (by its place among the namespaces) to another is so."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([source, target, asdict(line)]) + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"the switch has ended with {self._process.wait()}"

    def close(self) -> None:
        """No more frames."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()


@contextmanager
def within(space: str) -> Iterator[None]:
    """This thread is in the namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        handle = os.open(f"/run/netns/{space}", os.O_RDONLY)
        try:
            _enter(handle)
        finally:
            os.close(handle)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(before)


def _enter(handle: int) -> None:
    if libc.setns(handle, _NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _port(space: str) -> int:
    with within(space):
        handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _TAP))
    return handle


class _Carrier:
    """The loop of the process."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._lines: dict[tuple[int, int], Line] = {}
        self._known: dict[bytes, int] = {}  # where a machine's address was seen
        self._busy: dict[tuple[int, int], float] = {}  # until when a line with a rate has enough to carry
        self._last: dict[tuple[int, int], float] = {}  # when the last frame that keeps its order is due
        self._due: list[tuple[float, int, int, bytes]] = []  # (when, number, port, frame)
        self._number = 0
        self._chance = random.Random(1)

    def run(self) -> None:
        """Until the input ends."""
        poll = select.poll()
        place = {handle: number for number, handle in enumerate(self._ports)}
        for handle in (sys.stdin.fileno(), *place):
            poll.register(handle, select.POLLIN)
        print("ready", flush=True)
        while True:
            wait = None if not self._due else max(0.0, self._due[0][0] - time.monotonic()) * 1000
            for handle, _ in poll.poll(wait):
                if handle in place:
                    self._take(place[handle])
                elif not self._told():
                    return
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, port, frame = heapq.heappop(self._due)
                self._give(port, frame)

    def _told(self) -> bool:
        words = os.read(sys.stdin.fileno(), 1 << 16)  # one at a time: each waits for its answer
        if words:
            source, target, line = json.loads(words)
            self._lines[source, target] = Line(**line)
            print("ready", flush=True)
        return bool(words)

    def _take(self, source: int) -> None:
        for _ in range(_BURST):
            try:
                frame = os.read(self._ports[source], 1 << 16)
            except (BlockingIOError, OSError):  # nothing more, or the port is down
                return
            self._known[frame[6:12]] = source
            known = self._known.get(frame[:6])
            for target in range(len(self._ports)) if known is None else (known,):
                if target != source:
                    self._carry(source, target, frame)

    def _carry(self, source: int, target: int, frame: bytes) -> None:
        way = (source, target)
        line = self._lines.get(way)
        if line is None:
            self._give(target, frame)
            return
        if line.loss and self._chance.random() < line.loss:
            return
        due = now = time.monotonic()
        if line.rate:
            due = max(now, self._busy.get(way, 0.0))
            if due > now + _WAITING:
                return
            due = self._busy[way] = due + len(frame) / line.rate
        due += max(0.0, line.delay + self._chance.uniform(-line.jitter, line.jitter))
        if line.reorder and self._chance.random() < line.reorder:
            due = now
        else:
            due = self._last[way] = max(due, self._last.get(way, 0.0))
        self._number += 1
        heapq.heappush(self._due, (due, self._number, target, frame))

    def _give(self, port: int, frame: bytes) -> None:
        try:
            os.write(self._ports[port], frame)
        except OSError:  # the port is down
            return


if __name__ == "__main__":
    _Carrier([_port(space) for space in sys.argv[1:]]).run()
