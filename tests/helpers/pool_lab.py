"""A server whose workers come from a real Slurm: pools that each have jobs of their own, and people beside them in Slurm."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cpc.core.pool_views import AllocationView
from tests.helpers.network_of_processes import Answer, Network, until
from tests.helpers.real_programs import PATIENCE
from tests.helpers.slurm import Cluster, needed

#: Counts on from its checkpoint, and writes that when it is told to end. $1: a file for each attempt to say that it has begun.
#: $2: the exit code with which it ends then.
POLITE = """
n=$(cat state.cpt 2>/dev/null || echo 0)
[ $n = 0 ] || { echo "from $n"; exit 0; }
trap 'echo 7 > state.cpt; exit '"$2" TERM
echo $$ > "$1.new"; mv "$1.new" "$1"
while :; do sleep 0.2; done
"""
#: Has no checkpoints, and runs for ever the first time.
PLAIN = """
[ $CPC_ATTEMPT = 1 ] || { echo again; exit 0; }
echo $$ > "$1.new"; mv "$1.new" "$1"
while :; do sleep 0.2; done
"""


@contextmanager
def lab_of(make: Callable[..., Network], nodes: int) -> Iterator[Lab]:
    """A Slurm of so many nodes, and a server with nothing else."""
    needed()
    cluster = Cluster(nodes=nodes, kill_wait=30)
    try:
        cluster.start()
        yield Lab(make(heartbeat_time="30", checkpoint_interval="1d"), cluster)
    finally:
        cluster.stop()


class Lab:
    """`network`: the server and its people. `cluster`: the Slurm. A job is for the pool whose name is its label."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self.network = network
        self.cluster = cluster

    # --- pools ---

    def add(self, name: str, *more: str) -> Answer:
        """`cpcc pool add`: 2 cores for 20 minutes, one at a time, unless `more` says otherwise."""
        jobs = self.cluster.jobs
        return self.network.cpcc(
            "pool", "add", name, "slurm", f"conf={self.cluster.conf}", "--cores", "2", "--memory", "100M", "--walltime", "20m",
            "--max-allocations", "1", "--idle", "5s", "--worker", str(self.network.bin / "cpc-worker"), "--labels", name,
            "--directory", str(jobs), "--work", str(jobs / "work"), "--output", str(jobs / f"{name}-%j.log"),
            "--shared-files", *more,
        )  # fmt: skip

    def pool(self, name: str, *more: str) -> str:
        """The same; its name."""
        self.add(name, *more).done()
        return name

    def again(self, pool: str) -> None:
        """It is asked again at once, whatever has just happened to it."""
        self.network.cpcc("pool", "resume", pool).done()

    def live(self, pool: str) -> list[AllocationView]:
        """What it has now, newest first."""
        return self.network.client.allocations(pool, live=True)

    def all(self, pool: str) -> list[AllocationView]:
        """Whatever it has had, oldest first."""
        return self.network.client.allocations(pool)[::-1]

    def one(self, pool: str) -> AllocationView:
        """The only one that it has, as soon as a worker of it is there."""
        self.until(lambda: any(one.workers for one in self.live(pool)), f"a worker of {pool} has joined")
        (found,) = self.live(pool)
        return found

    def nothing_left(self) -> None:
        """Workers leave when there is nothing to do: then there is nothing of ours in Slurm, and no process."""
        self.until(lambda: not self.network.client.allocations(live=True), "every allocation has ended")
        self.until(lambda: not self.squeue(), "Slurm has nothing")
        work = str(self.cluster.jobs / "work").encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    assert work not in (entry / "cmdline").read_bytes(), entry

    def until(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> Any:
        """Wait for something that can be seen."""
        return until(holds, what, seconds, self.story)

    def story(self) -> str:
        """What can be said when it was not seen."""
        jobs = [
            f"{job.id} {job.state} {self.outcomes(job.id)}"
            for job in self.network.client.all_jobs()
            if job.id.isdigit()
        ]
        lines = [self.network.story(), *jobs, *map(str, self.network.client.allocations()[:8])]
        lines.append(self.cluster.command("squeue", "--states=all", "--format=%i %j %T %r %N %k", fails=True))
        for path in sorted(self.cluster.jobs.glob("*.log"))[-6:]:
            lines += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-25:]]
        return "\n".join(lines)

    # --- jobs ---

    def submit(self, pool: str, script: str, *words: str, **fields: Any) -> str:
        """A job of one core that only workers of this pool take; `words` are $1, $2, …"""
        return self.network.submit("/bin/sh", "-c", script, "sh", *words, labels=(pool,), **fields)

    def long(self, pool: str, path: Path) -> list[str]:
        """Three jobs of one core that run until they are told to end: two with checkpoints, that end with 3 and with 0, and one
        without. They run when this returns."""
        jobs = [
            self.submit(pool, POLITE, str(path / "one"), "3", checkpoint=("*.cpt",)),
            self.submit(pool, POLITE, str(path / "two"), "0", checkpoint=("*.cpt",)),
            self.submit(pool, PLAIN, str(path / "three")),
        ]
        self.until(lambda: all((path / name).exists() for name in ("one", "two", "three")), f"jobs run in {pool}")
        return jobs

    def went_on(self, jobs: list[str], outcome: str) -> None:
        """They were ended once with this outcome, which was nobody's fault, and went on from what they had saved."""
        printed = []
        for job in jobs:
            found = self.network.success_of(job)
            printed.append(self.network.output(job))
            assert self.outcomes(job) == [outcome, "ok"], self.story()
            assert (found.failures, found.losses) == (0, 0)
        assert printed == [b"from 7\n", b"from 7\n", b"again\n"][: len(jobs)]

    def outcomes(self, job: str) -> list[str | None]:
        """How its attempts have ended, in order."""
        return [attempt.outcome for attempt in self.network.job(job).history]

    # --- others in Slurm ---

    def somebody(self, *options: str, script: str = "exec sleep 600") -> str:
        """Somebody else's job; its id."""
        said = self.cluster.command(
            "sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}"
        )  # fmt: skip
        return said.strip()

    def squeue(self, *more: str) -> list[str]:
        """What is in Slurm's queue and has not ended: a line for each, as `--format` says."""
        states = "--states=pending,running,configuring,completing"
        return self.cluster.command("squeue", "--noheader", states, *more).split("\n")[:-1]

    def shown(self, native: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        out = self.cluster.command("scontrol", "--oneliner", "show", "job", native)
        return dict(word.partition("=")[::2] for word in shlex.split(out.replace("'", "")))
