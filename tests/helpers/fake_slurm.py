"""A stand-in for Slurm's commands, in this process and on a virtual clock: strict about options, as terse as the real ones.

For what a real Slurm does not do on demand: limits, lost answers, lost jobs, numbers used again, preemption. What it prints
was taken from Slurm 22.05; the suite that it is held to runs on a real Slurm as well (tests/integration/test_slurm.py).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cpc.api import Ran, Unavailable

_SBATCH = {
    "parsable", "export", "job-name", "comment", "nodes", "ntasks-per-node", "cpus-per-task", "time", "chdir", "output",
    "open-mode", "requeue", "no-requeue", "partition", "account", "mem", "gres", "exclusive", "exclude", "signal", "array",
    "constraint", "qos", "nice", "test-only",
}  # fmt: skip
AWAY = "Unable to contact slurm controller (connect failure)"
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


@dataclass
class Job:
    """One job, or one element of an array. Times in seconds since 1970."""

    number: int
    index: int | None
    options: dict[str, str]
    script: str
    env: Mapping[str, str]
    submitted: int
    state: str = "PENDING"
    reason: str = "None"
    started: int = 0
    ended: int = 0
    nodes: str = ""
    restarts: int = 0
    status: int = 0  # as wait(2) says

    @property
    def cores(self) -> str:
        return str(int(self.options["nodes"]) * int(self.options["cpus-per-task"]))

    @property
    def native(self) -> str:
        return str(self.number) if self.index is None else f"{self.number}_{self.index}"


@dataclass
class Node:
    name: str
    cores: int = 4
    memory: int = 4000
    state: str = "IDLE"
    reason: str = ""


@dataclass
class FakeSlurm:
    """The controller, its accounts and its nodes. `now` is moved by `advance`."""

    now: int = 1_800_000_000
    accounting: bool = True
    up: bool = True
    dbd: bool = True
    limit: int = 10_000
    max_array: int = 1001
    first: int = 1
    jobs: list[Job] = field(default_factory=list)
    records: list[Job] = field(default_factory=list)  # what accounting has besides
    nodes: list[Node] = field(default_factory=lambda: [Node("n1"), Node("n2")])
    partitions: tuple[str, ...] = ("batch", "low")
    asked: list[tuple[str, ...]] = field(default_factory=list)
    #: What happens instead at the next call of a command: called, and its answer given.
    instead: dict[str, Callable[[], Ran]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)  # commands that do their work and never answer

    async def __call__(
        self, argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        """A `cpc.api.Run`."""
        self.asked.append(tuple(argv))
        assert all("\0" not in word for word in argv)
        name, *words = argv
        if name in self.instead:
            return self.instead.pop(name)()
        answer = self._run(name, words, stdin, env or {})
        if name in self.slow:
            raise Unavailable(f"{name} did not end within {timeout:g} s")
        return answer

    def _run(self, name: str, words: Sequence[str], stdin: str, env: Mapping[str, str]) -> Ran:
        does = {"sbatch": self._sbatch, "squeue": self._squeue, "scancel": self._scancel, "scontrol": self._scontrol}
        if list(words) == ["--version"]:
            return Ran(0, "slurm 22.05.8\n", "")
        if name == "sacct":
            return self._sacct(words, env)
        if name not in does:
            return Ran(127, "", f"{name}: command not found")
        if not self.up:
            return Ran(1, "", f"{name}: error: {AWAY}")
        return does[name](words, stdin, env)

    # --- what time brings ---

    def advance(self, seconds: float) -> None:
        """Start what fits, and end what is over."""
        self.now += max(1, round(seconds))
        for job in self.jobs:
            if job.state == "RUNNING" and self.now - job.started > int(job.options["time"]) * 60:
                self.end(job, "TIMEOUT")
        for job in self.jobs:
            if job.state == "PENDING" and job.reason == "None":
                self._start(job)

    def _start(self, job: Job) -> None:
        cores = int(job.options.get("cpus-per-task", "1"))
        free = [one.name for one in self.nodes if one.state == "IDLE" and self.used(one.name) + cores <= one.cores]
        wanted = int(job.options.get("nodes", "1"))
        if len(free) < wanted:
            return
        job.nodes, job.started, job.state = ",".join(free[:wanted]), self.now, "RUNNING"
        if "sleep 600" not in job.script:
            with tempfile.TemporaryDirectory(prefix="cpc-fake-slurm-") as where:
                status = subprocess.run(
                    ["/bin/sh", "-s"], input=job.script, text=True, cwd=where, env=self._environment(job), check=False,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                ).returncode  # fmt: skip
            job.status = status << 8 if status >= 0 else -status
            self.end(job, "FAILED" if job.status else "COMPLETED")

    def _environment(self, job: Job) -> dict[str, str]:
        more = (
            {} if job.index is None else {"SLURM_ARRAY_JOB_ID": str(job.number), "SLURM_ARRAY_TASK_ID": str(job.index)}
        )
        if job.restarts:
            more["SLURM_RESTART_COUNT"] = str(job.restarts)
        return {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": str(job.number), **more}

    def used(self, node: str) -> int:
        """Cores of a node that are taken."""
        running = (one for one in self.jobs if one.state == "RUNNING" and node in one.nodes.split(","))
        return sum(int(one.options.get("cpus-per-task", "1")) for one in running)

    def end(self, job: Job, state: str) -> None:
        """It ends, for whatever reason."""
        job.state, job.ended = state, self.now

    def requeue(self, job: Job) -> None:
        """The system starts it again by itself."""
        job.state, job.started, job.nodes, job.restarts = "PENDING", 0, "", job.restarts + 1

    def forget(self) -> None:
        """slurmctld has forgotten what has ended (MinJobAge); accounting has not."""
        self.records += [job for job in self.jobs if job.state in _ENDED]
        self.jobs = [job for job in self.jobs if job.state not in _ENDED]

    def lose(self) -> None:
        """slurmctld was killed and has lost everything, also which numbers it had given."""
        self.records += self.jobs
        self.jobs, self.first = [], 1

    def job(self, native: str) -> Job:
        """By its native id."""
        return next(one for one in reversed(self.jobs) if one.native == native)

    # --- the commands ---

    def _sbatch(self, words: Sequence[str], stdin: str, env: Mapping[str, str]) -> Ran:
        options = {}
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or name not in _SBATCH:
                return Ran(255, "", f"sbatch: unrecognized option '{word}'\nTry \"sbatch --help\" for more information")
            options[name] = value
        assert {"parsable", "export", "job-name", "comment", "time"} <= set(options), words
        if not stdin.startswith("#!"):
            return Ran(1, "", "sbatch: error: This does not look like a batch script.  The first")
        if options.get("partition", "batch") not in self.partitions:
            lines = (
                f"invalid partition specified: {options['partition']}",
                "Batch job submission failed: Invalid partition name",
            )
            return Ran(1, "", "".join(f"sbatch: error: {line}\n" for line in lines))
        if int(options["nodes"]) > len(self.nodes):
            return Ran(
                1, "", "sbatch: error: Batch job submission failed: Requested node configuration is not available"
            )
        if "test-only" in options:
            return Ran(
                0,
                "",
                f"sbatch: Job {self.first} to start at {self.now} using 1 processors on nodes n1 in partition batch",
            )
        low, _, high = options.get("array", "0-0").partition("-")
        tasks = range(int(low), int(high) + 1)
        if "array" in options and int(high) >= self.max_array:
            return Ran(1, "", "sbatch: error: Batch job submission failed: Invalid job array specification")
        if len([one for one in self.jobs if one.state not in _ENDED]) + len(tasks) > self.limit:
            words_ = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
            return Ran(
                1,
                "",
                f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: {words_}",
            )
        number, self.first = self.first, self.first + len(tasks)
        for index in tasks:
            self.jobs.append(Job(number, index if "array" in options else None, options, stdin, env, self.now))
        return Ran(0, f"{number}\n", "")

    def _squeue(self, words: Sequence[str], stdin: str, env: Mapping[str, str]) -> Ran:
        shape = next(word for word in words if word.startswith("--Format=")).removeprefix("--Format=")
        assert set(words) - {f"--Format={shape}"} == {"--me", "--array", "--all", "--states=all"}, words
        assert env.get("SLURM_TIME_FORMAT") == "%s"
        fields = [part.partition(":") for part in shape.split(",")]
        out = "".join(f"{name.upper()}{end}" for name, _, end in fields) + "\n"
        for job in self.jobs:
            told = self._told(job)
            out += "".join(f"{told[name]}{end}" for name, _, end in fields) + "\n"
        return Ran(0, out, "")

    def _told(self, job: Job) -> dict[str, str]:
        left = int(job.options["time"]) * 60 - (self.now - job.started if job.started else 0)
        return {
            "JobArrayID": job.native, "State": job.state, "Reason": job.reason, "NodeList": job.nodes,
            "RestartCnt": str(job.restarts), "exit_code": str(job.status), "TimeLeft": f"{left // 60}:{left % 60:02d}",
            "SubmitTime": str(job.submitted), "StartTime": str(job.started or "N/A"), "EndTime": str(job.ended or "N/A"),
            "NumCPUs": job.cores, "Comment": job.options["comment"], "Name": job.options["job-name"],
        }  # fmt: skip

    def _sacct(self, words: Sequence[str], env: Mapping[str, str]) -> Ran:
        if not self.accounting:
            return Ran(1, "", "Slurm accounting storage is disabled")
        if not self.dbd:
            return Ran(1, "", "sacct: error: slurm_persist_conn_open_without_init: Connection refused")
        assert env.get("SLURM_BITSTR_LEN") == "0", "or it breaks off the names of elements"
        shape = next(word for word in words if word.startswith("--format=")).removeprefix("--format=").split(",")
        if "--parsable2" not in words:
            return Ran(0, "", "")
        found = next((word for word in words if word.startswith("--jobs=")), "")
        wanted = set(found.removeprefix("--jobs=").split(",")) if found else None
        out = "\x1f".join(shape) + "\n"
        for job in (*self.records, *self.jobs):
            if wanted is None or str(job.number) in wanted:
                told = {
                    "JobID": job.native, "State": job.state, "ExitCode": f"{job.status >> 8}:{job.status & 0x7F}",
                    "NodeList": job.nodes or "None assigned", "Submit": str(job.submitted),
                    "Start": str(job.started or "Unknown"), "End": str(job.ended or "Unknown"),
                    "AllocCPUS": job.cores, "Comment": job.options["comment"], "JobName": job.options["job-name"],
                }  # fmt: skip
                out += "\x1f".join(told[name] for name in shape) + "\n"
        return Ran(0, out, "")

    def _scancel(self, words: Sequence[str], stdin: str, env: Mapping[str, str]) -> Ran:
        for word in words:
            if not re.fullmatch(r"\d+(_\d+)?", word):
                return Ran(1, "", f"scancel: error: Invalid job id {word}")
            for job in self.jobs:
                if word in (job.native, str(job.number)) and job.state not in _ENDED:
                    self.end(job, "CANCELLED")
        return Ran(0, "", "")

    def _scontrol(self, words: Sequence[str], stdin: str, env: Mapping[str, str]) -> Ran:
        if words == ["ping"]:
            return Ran(0, "Slurmctld(primary) at vm is UP\n", "")
        if words == ["show", "config"]:
            return Ran(0, f"Configuration data as of {self.now}\nMaxArraySize            = {self.max_array}\n", "")
        plain = [word for word in words if not word.startswith("--")]
        if plain[:2] == ["show", "partition"]:
            named = plain[2:] or list(self.partitions)
            if named[0] not in self.partitions:
                return Ran(1, "", f"Partition {named[0]} not found")
            cores = sum(one.cores for one in self.nodes)
            lines = (
                f"PartitionName={name} Default={'YES' if name == 'batch' else 'NO'} MaxNodes=UNLIMITED MaxTime=1-00:00:00 "
                f"MinNodes=0 State=UP TotalCPUs={cores} TotalNodes={len(self.nodes)} \n"
                for name in named
            )
            return Ran(0, "".join(lines), "")
        if plain == ["show", "node"]:
            return Ran(0, "".join(self._node(one) for one in self.nodes), "")
        return (
            self._update(dict(word.partition("=")[::2] for word in plain[1:]))
            if plain[0] == "update"
            else Ran(1, "", "")
        )

    def _node(self, one: Node) -> str:
        used = self.used(one.name)
        state = one.state if one.state != "IDLE" or not used else "ALLOCATED" if used == one.cores else "MIXED"
        reason = f" Reason={one.reason} [root@{self.now}]" if one.reason else ""
        return (
            f"NodeName={one.name} CPUAlloc={used} CPUTot={one.cores} Gres=gpu:fake:2 GresUsed=gpu:fake:0(IDX:N/A) OS=Linux 6 #1 "
            f"RealMemory={one.memory} AllocMem=0 FreeMem=2000 State={state} Partitions=batch,low {reason}\n"
        )

    def _update(self, told: Mapping[str, str]) -> Ran:
        node = next((one for one in self.nodes if one.name == told.get("NodeName")), None)
        if node is None:
            return Ran(1, "", "slurm_update error: Invalid node name specified")
        if told["State"] == "drain" and not told.get("Reason"):
            return Ran(1, "", "You must specify a reason when DOWNING or DRAINING a node. Request denied")
        node.state, node.reason = ("IDLE+DRAIN", told["Reason"]) if told["State"] == "drain" else ("IDLE", "")
        return Ran(0, "", "")
