"""A Slurm of its own for tests: munge with a new key, slurmctld, and some slurmd, all on this machine and its loopback.

Every daemon runs in the foreground as our child, so that each can be killed by its id and none is left behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.ports import free_ports
from tests.helpers.real_programs import PATIENCE

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sacct")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"

CONFIG = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={base}/state
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdSpoolDir={base}/spool/%n
SlurmdPidFile={base}/run/slurmd.%n.pid
SlurmdLogFile={base}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
DefMemPerCPU=100
MinJobAge={min_job_age}
MaxArraySize={max_array}
KillWait={kill_wait}
CompleteWait=0
JobRequeue=1
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=6
MessageTimeout=5
TCPTimeout=2
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
MailProg=/bin/true
PrivateData=cloud
"""
TOKENS = """\
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={base}/jwt.key
"""
POWER = """\
SuspendProgram={base}/bin/suspend
ResumeProgram={base}/bin/resume
SuspendTime=600
ResumeTimeout=30
SuspendExcParts=batch,low
"""
STORED = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass={base}/munge/socket
AccountingStoreFlags=job_comment
"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser={user}
PidFile={base}/run/slurmdbd.pid
LogFile={base}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
CommunicationParameters=NoInAddrAny
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket={cores} ThreadsPerCore=1 RealMemory=4000 {more}\n"
)
CORES = 4


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def needed(*more: str) -> None:
    """Skip the test where Slurm, or more of it, is not installed."""
    missing = [name for name in PROGRAMS + more if _which(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed here: no {', '.join(missing)}")
    if "slurmrestd" in more and os.getuid() != 0:
        pytest.skip("slurmrestd refuses the user that slurmctld runs as, and only root can start it as another")


def wait_for(holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `holds()` is true."""
    stop = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < stop, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class Cluster:
    """A running Slurm: partitions `batch` (default), `low` and `cheap` (whose jobs are preempted by others: requeued, or
    cancelled), `whole` (which gives whole nodes); nodes n1, n2, … of 4 cores, 2 GPUs.

    `accounting`: with slurmdbd and a database. `cloud`: so many nodes c1, … of partition `cloud`, which sleep until a job
    needs them. `min_job_age`: seconds for which slurmctld remembers what has ended. `max_array`: indices of arrays are below it.
    `kill_wait`: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self, nodes: int = 2, accounting: bool = False, cloud: int = 0, min_job_age: int = 300, rest: bool = False,
        max_array: int = 1001, kill_wait: int = 2,
    ) -> None:  # fmt: skip
        self.base = Path(tempfile.mkdtemp(prefix="cpc-slurm-"))
        self.base.chmod(0o755)
        self.nodes = tuple(f"n{number + 1}" for number in range(nodes))
        self.accounting = accounting
        self._rest = rest
        self._cloud = tuple(f"c{number + 1}" for number in range(cloud))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in (
            "run",
            "log",
            "state",
            "bin",
            "munge",
            "jobs",
            *(f"spool/{one}" for one in self.nodes + self._cloud),
        ):
            (self.base / name).mkdir(parents=True)
        (self.base / "munge").chmod(0o711)
        self._ports = free_ports(5 + nodes + cloud)
        self._configure(min_job_age, max_array, kill_wait)
        self.env = {
            "PATH": f"{os.environ['PATH']}:{_SBIN}", "SLURM_CONF": str(self.conf), "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C",
        }  # fmt: skip

    @property
    def conf(self) -> Path:
        """slurm.conf."""
        return self.base / "slurm.conf"

    @property
    def jobs(self) -> Path:
        """A directory for what jobs write."""
        return self.base / "jobs"

    def _configure(self, min_job_age: int, max_array: int, kill_wait: int) -> None:
        import getpass

        host = socket.gethostname().partition(".")[0]
        names = {
            "base": self.base, "host": host, "ports": self._ports, "min_job_age": min_job_age, "user": getpass.getuser(),
            "max_array": max_array, "kill_wait": kill_wait,
        }  # fmt: skip
        text = CONFIG
        if self.accounting:
            text += STORED
        if self._cloud:
            text += POWER
        if self._rest:
            text += TOKENS
            (self.base / "jwt.key").write_bytes(secrets.token_bytes(32))
            (self.base / "jwt.key").chmod(0o600)
        text = text.format(**names)
        ports = iter(self._ports[5:])
        for name in self.nodes:
            text += NODE.format(
                name=name, host=host, port=next(ports), cores=CORES, more="Gres=gpu:fake:2 State=UNKNOWN"
            )
        for name in self._cloud:
            text += NODE.format(name=name, host=host, port=next(ports), cores=2, more="State=CLOUD")
        span = f"n[1-{len(self.nodes)}]"
        text += (
            f"PartitionName=batch Nodes={span} Default=YES MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=off\n"
        )
        text += f"PartitionName=low Nodes={span} MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=requeue\n"
        text += f"PartitionName=cheap Nodes={span} MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=cancel\n"
        text += f"PartitionName=whole Nodes={span} MaxTime=60 DefaultTime=10 PriorityTier=10 OverSubscribe=EXCLUSIVE\n"
        if self._cloud:
            text += (
                f"PartitionName=cloud Nodes=c[1-{len(self._cloud)}] DefaultTime=10 PriorityTier=10 PreemptMode=off\n"
            )
        self.conf.write_text(text)
        (self.base / "cgroup.conf").write_text("CgroupAutomount=no\n")
        (self.base / "gres.conf").write_text(f"NodeName={span} Name=gpu Type=fake File=/dev/tty[1-2]\n")
        dbd = self.base / "slurmdbd.conf"
        dbd.write_text((DATABASE + (TOKENS if self._rest else "")).format(**names))
        dbd.chmod(0o600)
        key = self.base / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        for name, does in (("resume", "echo start"), ("suspend", "echo stop")):
            script = self.base / "bin" / name
            script.write_text(
                '#!/bin/sh\nfor n in $(scontrol show hostnames "$1"); do '
                f"{does} $n >> {self.base}/run/power; done\n".replace("scontrol", f"SLURM_CONF={self.conf} scontrol")
            )
            script.chmod(0o755)

    # --- daemons ---

    def _spawn(self, name: str, *argv: str, **more: str) -> None:
        program = _which(argv[0])
        assert program is not None
        log = (self.base / "log" / f"{name}.out").open("ab")
        with log:
            self._running[name] = subprocess.Popen(
                [program, *argv[1:]], env=self.env | more, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.base,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """All of it; returns when the nodes are idle."""
        self.start_munge()
        if self.accounting:
            self._start_database()
            self.start_dbd()
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)
        if self._rest:
            self.start_rest()
        wait_for(lambda: self.idle() == len(self.nodes), f"the nodes are idle; see {self.base}/log")

    @property
    def rest_url(self) -> str:
        """Where slurmrestd is."""
        return f"http://127.0.0.1:{self._ports[4]}"

    def start_rest(self) -> None:
        """slurmrestd refuses to run as root or as SlurmUser; so it runs as nobody, and takes tokens only."""
        plugins = "openapi/v0.0.38" + (
            ",openapi/dbv0.0.38" if self.accounting else ""
        )  # without slurmdbd it would not start
        setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
        self._spawn(
            "slurmrestd", *setpriv, "slurmrestd", "-f", str(self.conf), "-a", "rest_auth/jwt", "-s", plugins,
            f"127.0.0.1:{self._ports[4]}", SLURM_JWT="daemon",
        )  # fmt: skip
        wait_for(lambda: self._listens(4), "slurmrestd listens")

    def token(self, lifespan: int = 86400) -> str:
        """A JWT for the user that runs the tests."""
        import getpass

        out = self.command("scontrol", "token", f"username={getpass.getuser()}", f"lifespan={lifespan}")
        return out.strip().removeprefix("SLURM_JWT=")

    def start_munge(self) -> None:
        self._start_munge("munged", self.base / "munge")

    def _start_munge(self, name: str, place: Path) -> None:
        self._spawn(
            name, "munged", "--foreground", "--force", f"--key-file={place}/key", "--num-threads=2",
            f"--socket={place}/socket", f"--pid-file={place}/pid", f"--log-file={self.base}/log/{name}.log",
            f"--seed-file={place}/seed",
        )  # fmt: skip
        wait_for((place / "socket").exists, "munged listens")

    @contextlib.contextmanager
    def other_munge(self) -> Iterator[Path]:
        """A munged with a key that the cluster does not have; where it listens."""
        place = self.base / "munge" / "other"
        place.mkdir()
        place.chmod(0o711)
        key = place / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self._start_munge("other munged", place)
        try:
            yield place / "socket"
        finally:
            self.kill("other munged")
            shutil.rmtree(place)

    def _start_database(self) -> None:
        data = self.base / "mysql"
        data.mkdir()
        user = ["--user=mysql"] if os.getuid() == 0 else []
        if user:
            shutil.chown(data, "mysql")
        install = _which("mariadb-install-db")
        assert install is not None
        subprocess.run(
            [install, "--no-defaults", *user, f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env,
        )  # fmt: skip
        sock = data / "s"
        self._spawn(
            "mariadbd", "mariadbd", "--no-defaults", *user, f"--datadir={data}", f"--socket={sock}",
            "--bind-address=127.0.0.1", f"--port={self._ports[3]}", f"--pid-file={data}/pid",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        grants = "create database if not exists slurm_acct; " + "; ".join(
            f"grant all on slurm_acct.* to slurm@'{host}' identified by 'slurm'" for host in ("localhost", "127.0.0.1")
        )
        client = ["mariadb", "--no-defaults", "-uroot", "-S", str(sock), "-e", grants]
        wait_for(
            lambda: subprocess.run(client, capture_output=True, env=self.env).returncode == 0, "the database answers"
        )

    def start_dbd(self) -> None:
        self._spawn("slurmdbd", "slurmdbd", "-D")
        wait_for(lambda: self._listens(2), "slurmdbd listens")
        self.command("sacctmgr", "--immediate", "add", "cluster", "lab", fails=True)

    def start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D")
        wait_for(lambda: self._listens(0), f"slurmctld listens; see {self.base}/log")

    def start_node(self, name: str) -> None:
        self._spawn(name, "slurmd", "-D", "-N", name, *(["-b"] if name.startswith("c") else []))

    def _listens(self, which: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[which]), 1.0):
            return True
        return False

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon (munged, slurmdbd, slurmctld, mariadbd, or a node's slurmd) and wait for its end."""
        process = self._running.pop(name)
        process.send_signal(how)
        process.wait(20)

    def cpu(self, name: str) -> float:
        """Seconds of processor time that a daemon has had."""
        words = Path(f"/proc/{self._running[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """One daemon hangs: it is there, and does nothing."""
        self._running[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._running[name].send_signal(signal.SIGCONT)

    def kill_node(self, name: str) -> None:
        """A node dies: its slurmd, the steps that run there, and their processes, all at once."""
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kill(name)
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, node: str) -> Iterator[int]:
        """The processes of jobs on a node, and the slurmstepds above them."""
        own, mine = f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.conf}".encode()
        for pid in self._ours(mine):
            with contextlib.suppress(OSError):
                if own in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                    if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                        yield parent
                    yield pid

    def _ours(self, mark: bytes) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        yield int(entry.name)

    def stop(self) -> None:
        """All of it, with whatever its jobs have left, and its directory."""
        order = ("slurmrestd", "slurmctld", *self.nodes, *self._cloud, "slurmdbd", "mariadbd", "munged")
        for name in order:
            if name in self._running:
                with contextlib.suppress(ProcessLookupError):
                    self._running[name].kill()
        for process in self._running.values():
            process.wait(20)
        for pid in self._ours(f"SLURM_CONF={self.conf}".encode()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.base, ignore_errors=True)

    def lose_state(self) -> None:
        """What slurmctld has kept on disk is gone, as after a crash that came too early."""
        for path in (self.base / "state").iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)

    @contextlib.contextmanager
    def changed(self, name: str, value: object) -> Iterator[None]:
        """With another value in slurm.conf, for the commands that are run meanwhile; the daemons have read theirs."""
        before = self.conf.read_text()
        self.conf.write_text(re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", before))
        yield
        self.conf.write_text(before)

    # --- asking ---

    def command(self, *argv: str, fails: bool = False) -> str:
        """What one of Slurm's commands printed."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        assert fails or done.returncode == 0, done.stderr
        return done.stdout

    def idle(self) -> int:
        """How many of the nodes are idle."""
        out = self.command("sinfo", "--noheader", "--partition=batch", "--states=idle", "--format=%D", fails=True)
        return int(out.split()[0]) if out.split() else 0
