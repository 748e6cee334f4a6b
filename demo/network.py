"""The demo's server, worker and project: every command it gives, in one place, as you would type it."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from cpc.client import Client
from cpc.client.network import Network as Project
from cpc.core.views import JobView

HEARTBEAT = 4  # seconds without a sign of life until a worker's jobs go back to the queue; 120 unless told otherwise
CHECKPOINTS = 1  # seconds between two checkpoints that a worker sends to the server; 900 unless told otherwise
PROJECT = "alanine"
#: Outputs of msm::adaptive, and the files that they are put into.
RESULTS = {
    "free_energy": "free_energy.png",
    "implied_timescales": "timescales.png",
    "network": "states.png",
    "model": "model.npz",
}


class DemoFailed(Exception):
    """A step of the demo did not work; the text says which and why."""


class Network:
    """Servers in a row and one worker on this machine, all their files in one temporary directory.

    The first server has the project, the last one the worker; between them are `hops` links. With none there is one server.
    """

    def __init__(self, home: Path, cores: int, hops: int, say: Callable[[str], None]) -> None:
        self.home, self.cores, self.say = home, cores, say
        self.worker: subprocess.Popen[bytes] | None = None
        self.homes = [home, *(home / f"server-{number}" for number in range(1, hops + 1))]
        self.serving: list[Path] = []
        self.log = home / "worker.log"

    def open(self) -> None:
        """Fresh servers, connected, and the worker."""
        before = 0  # the port of the server before
        for home in self.homes:
            before = self.serve(home, before)
        self.client = Client.from_bundle(self.home / "me.cnx")
        self.start_worker()

    def serve(self, home: Path, before: int) -> int:
        """One more server, which asks the one before to be connected; the port for people."""
        home.mkdir(exist_ok=True)
        port, client_port = free_ports(2)
        self.run(
            f"cpc-server setup --name demo --host 127.0.0.1 --port {port} --client-port {client_port}"
            f" --password-stdin {home}/server",
            at=home, stdin=secrets.token_urlsafe(),
        )  # fmt: skip
        self.run(f"cpc-server config heartbeat_time {HEARTBEAT}", at=home)
        self.run(f"cpc-server config checkpoint_interval {CHECKPOINTS}", at=home)
        self.serving.append(home)
        self.run("cpc-server start", at=home)
        self.run(f"cpc-server bundle --role client --user cpc-admin -o {home}/me.cnx", at=home)
        if before:
            other = self.homes[self.homes.index(home) - 1]
            self.cpcc(f"connect-server 127.0.0.1 {before} --yes", at=home)
            self.cpcc("trust --all --yes", at=other)
            asked = self.cpcc("--quiet connected-servers", at=home).split()[0]
            self.cpcc(f"peer {asked} --lend-on {len(self.homes)}", at=home)
        return client_port

    def start_worker(self) -> None:
        words = f"cpc-worker -n {self.cores} smp"  # with the bundle that setup has left in $CPC_HOME
        self.say(f"$ {self.short(words, self.homes[-1])} &")
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                self.argv(words), env=self.env(self.homes[-1]), cwd=self.home, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.say(f"$ kill -9 {self.worker.pid}")
        self.worker.kill()
        self.worker.wait()

    def build(self, folder: Path, settings: dict[str, str]) -> None:
        """The project: a molecule whose forces go to adaptive sampling. It begins when all of it is there."""
        self.cpcc(f"start {PROJECT}")
        self.cpcc("import openmm")
        self.cpcc("import msm")
        self.cpcc("instance openmm::build molecule")
        self.cpcc("instance msm::adaptive sampling")
        self.cpcc("connect molecule:out.system sampling:in.system")
        self.cpcc("transact")
        self.cpcc("setf molecule:in.structure alanine.pdb", cwd=folder)
        self.cpcc("set molecule:in.water obc2")
        self.cpcc("setf sampling:in.structure alanine.pdb", cwd=folder)
        for start in ("right.pdb", "left.pdb"):
            self.cpcc(f"setf sampling:in.starts[+] {start}", cwd=folder)
        for name, value in settings.items():
            self.cpcc(f"set sampling:in.{name} {value}")
        self.cpcc("commit")
        self.cpcc("activate")

    @property
    def project(self) -> Project:
        """The project as the SDK has it."""
        return self.client.network(PROJECT)

    def jobs(self, name: str) -> list[JobView]:
        """The jobs of this name, oldest first."""
        return sorted((job for job in self.client.jobs(PROJECT) if job.name == name), key=lambda job: int(job.id))

    def follow(self, job: str) -> Iterator[str]:
        """The lines that a running job prints, as it prints them."""
        text = ""
        with self.client.another() as client:
            for part in client.follow(job):
                *lines, text = (text + part.data).split("\n")
                yield from lines

    def check_worker(self) -> None:
        """DemoFailed, with its last words, when the worker has gone without being told to."""
        if self.worker is not None and self.worker.poll() is not None:
            words = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise DemoFailed("the worker ended: " + "\n".join(words))

    def why(self, job: str) -> str:
        return "; ".join(reason.text for reason in self.client.why(job).reasons)

    def fetch(self, target: Path) -> None:
        """What has come of it, into `target`."""
        self.cpcc(f"getf sampling:out.trajectories -o {target}/trajectories --force")
        for item, name in RESULTS.items():
            self.cpcc(f"getf sampling:out.{item} -f {target}/{name} --force")
        self.cpcc(f"graph sampling --by-instance --force -o {target}/sampling.svg")

    def close(self) -> None:
        """End the worker, then the server."""
        for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave anything running
            signal.signal(number, signal.SIG_IGN)
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(120)
            except subprocess.TimeoutExpired:
                self.worker.kill()
                self.worker.wait()
        while self.serving:
            try:
                self.run("cpc-server stop", at=self.serving.pop())
            except DemoFailed as failure:
                self.say(str(failure))

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def cpcc(self, words: str, *, at: Path | None = None, cwd: Path | None = None) -> str:
        """A command of the user, who is known by a bundle."""
        return self.run(f"cpcc -c {at or self.home}/me.cnx {words}", at=at, cwd=cwd)

    def run(self, words: str, *, at: Path | None = None, cwd: Path | None = None, stdin: str = "") -> str:
        """Run one command, where the server `at` is, and return what it printed. DemoFailed with its error when it fails."""
        self.say(f"$ {self.short(words, at)}")
        try:
            done = subprocess.run(
                self.argv(words), env=self.env(at), cwd=cwd or self.home, input=stdin, capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"no answer within 120 s: {self.short(words, at)}") from None
        if done.returncode:
            raise DemoFailed(f"{self.short(words, at)}\n{(done.stderr or done.stdout).strip()}")
        return done.stdout

    def argv(self, words: str) -> list[str]:
        """The command's words; the program is the one beside this Python."""
        program, *rest = shlex.split(words)
        return [str(Path(sys.executable).parent / program), *rest]

    def env(self, at: Path | None = None) -> dict[str, str]:
        """The environment where a server is."""
        # the jobs' pictures: what matplotlib keeps goes with everything else
        return {**os.environ, "CPC_HOME": str(at or self.home), "MPLCONFIGDIR": str(self.home / "matplotlib")}

    def short(self, words: str, at: Path | None = None) -> str:
        """The command as people type it, with where it is typed if that is not the first server."""
        where = "" if at in (None, self.home) else f"CPC_HOME={at} "
        return f"{where}{words}".replace(str(self.home), "$DEMO").replace(sys.executable, "python")


def free_ports(count: int) -> list[int]:
    """TCP ports on the loopback that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
