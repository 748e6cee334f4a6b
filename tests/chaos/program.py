"""The program of every job: it writes files whose bytes follow from a seed, so that anybody can tell what they should be.

It says in a directory outside of everything which processes it has made (a file named by process id, with its start),
so that what is left over can be found even when it hides its environment.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

PYTHON = (sys.executable, "-I", "-S", "-c")

#: argv: what, seed, number (bytes or steps), seconds, directory for notes. A job of an array adds its index to the seed.
TEXT = r"""
import os, sys, time

what, seed, number, seconds, notes = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
seed += os.environ.get("CPC_INDEX", "")

def body(name, size):
    import hashlib
    return hashlib.shake_128(f"{seed}/{name}".encode()).digest(size)

def put(path, data):
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.rename(path + ".new", path)

def note():
    with open("/proc/self/stat", "rb") as file:
        born = file.read().rpartition(b")")[2].split()[19]
    put(os.path.join(notes, str(os.getpid())), born)

def fork_away(clear):
    ready, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note()
            os.write(tell, b".")
            os.execve("/bin/sleep", ["sleep", "1000"], {} if clear else os.environ)
        os._exit(0)
    os.wait()
    os.read(ready, 1)

note()
if what in ("hides", "strays"):
    fork_away(what == "hides")
if what == "steps":
    done = os.path.getsize("state.cpt") // 32 if os.path.exists("state.cpt") else 0
    if not os.path.exists("ballast.cpt"):
        put("ballast.cpt", body("ballast", 200_000))
    for step in range(done, number):
        time.sleep(seconds)
        before = open("state.cpt", "rb").read() if step else b""
        put("state.cpt", before + body(str(step), 32))
    sys.exit(0)
if what == "reads":
    import hashlib
    with open("given", "rb") as file:
        put("digest", hashlib.sha256(file.read()).hexdigest().encode())
time.sleep(seconds)
if what == "fails":
    print("this job fails by itself", flush=True)
    sys.exit(7)
if what == "flaky":
    failed = os.path.join(notes, f"failed-{seed}")
    if not os.path.exists(failed):
        put(failed, b"")
        sys.exit(9)
if what == "greedy":
    time.sleep(1000)
if what == "waits":
    time.sleep(1000)
put("out", body("out", number))
print("done", flush=True)
"""


def body(seed: str, name: str, size: int) -> bytes:
    """What the program writes."""
    return hashlib.shake_128(f"{seed}/{name}".encode()).digest(size)


@dataclass(frozen=True)
class Work:
    """What a job does, and so what must come of it."""

    what: str
    seed: str
    number: int
    seconds: float
    given: bytes = b""
    facts: Mapping[str, object] = field(default_factory=dict)  # further fields of its JobSpec

    def argv(self, notes: str) -> tuple[str, ...]:
        """The command."""
        return (*PYTHON, TEXT, self.what, self.seed, str(self.number), f"{self.seconds:.2f}", notes)

    @property
    def exit_code(self) -> int | None:
        """With which code it may fail by itself; None when it may not."""
        return {"fails": 7, "flaky": 9}.get(self.what)

    @property
    def state(self) -> str:
        """How the job must end."""
        return {"fails": "failed", "greedy": "failed", "waits": "cancelled"}.get(self.what, "succeeded")

    def files(self, index: int | None = None) -> dict[str, bytes]:
        """Outputs by path, of a job that succeeds."""
        seed = self.seed if index is None else f"{self.seed}{index}"
        if self.what == "steps":
            steps = b"".join(body(seed, str(step), 32) for step in range(self.number))
            return {"state.cpt": steps, "ballast.cpt": body(seed, "ballast", 200_000)}
        made = {"out": body(seed, "out", self.number), "stdout": b"done\n"}
        if self.what == "reads":
            made["digest"] = hashlib.sha256(self.given).hexdigest().encode()
        return made
