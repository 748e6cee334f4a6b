"""A whole system on this machine for one measurement: server, worker and client, in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from benchmarks import usage
from cpc.client.client import Client
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.spec import JobSpec
from cpc.core.views import ArrayView, JobDetail

T = TypeVar("T")
PROJECT = "bench"
USER = "cpc-admin"
PASSWORD = secrets.token_hex(12)
FIRST_PORT = 25000
PATIENCE = 60.0
_HERE = Path(sys.executable).parent
_ROOT = Path(__file__).resolve().parents[1]


class System:
    """A running system. `server`, `worker` and `guardian` are process ids, 0 for what there is not. `host`: how the server
    calls its machine."""

    def __init__(self, directory: Path, postgresql: bool = False, slots: int = 2, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.slots = slots
        self.host = host
        self.worker = self.guardian = self.server = self.database = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._postgresql = None
        self._url = ""
        self._client: Client | None = None
        self.port = _free_ports()
        if postgresql:
            from tests.helpers.postgres import Server

            self._postgresql = Server(directory / "postgresql")
            self._url = self._postgresql.database()
            pid_file = directory / "postgresql" / "postmaster.pid"
            self.database = int(pid_file.read_text().split()[0]) if pid_file.exists() else 0

    def start(self, worker: bool) -> None:
        """Set the server up, start it, log in; with `worker`, start that too and run a first job."""
        self.server = self._start_server()
        self._client = _until(self._meet, "the server answers")
        self.client.login(USER, PASSWORD)
        self.client.create_project(PROJECT)
        self.client.project = PROJECT
        if worker:
            self._start_worker()

    @property
    def bundle(self) -> Path:
        """The worker bundle."""
        return self.directory / "servers/default/worker.cnx"

    @property
    def url(self) -> str:
        """The database."""
        return self._url or f"sqlite:///{self.directory}/run/copernicus.db"

    def set(self, name: str, value: str) -> None:
        """Change a setting of the server."""
        command = [str(_HERE / "cpc-server"), "config", name, value]
        subprocess.run(command, check=True, capture_output=True, env=self._environment())

    def end_server(self, kill: bool = False) -> None:
        """Stop the server, or kill it as a power loss would."""
        process = next(each for each in self._processes if each.pid == self.server)
        self._processes.remove(process)
        if kill:
            process.kill()
            process.wait()
        else:
            _end(process, PATIENCE)
        self.server = 0

    def start_server(self) -> float:
        """Start it again; seconds until it answers."""
        begin = time.perf_counter()
        self.server = self._spawn([str(_HERE / "cpc-server"), "start", "--foreground"], "server")
        meeting = _until(self._meet, "the server answers", 0.01)
        seconds = time.perf_counter() - begin
        meeting.close()
        return seconds

    def add_worker(self, name: str) -> int:
        """Start one more; its process."""
        work = self.directory / f"{name}-work"
        work.mkdir()
        command = [str(_HERE / "cpc-worker"), "-c", str(self.bundle), "-wd", str(work), "-n", str(self.slots), "smp"]
        return self._spawn(command, name)

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for a visible state."""
        _until(lambda: holds() or None, what)

    def stop(self) -> None:
        """End everything that was started."""
        if self._client is not None:
            self._client.close()
        for process in reversed(self._processes):
            _end(process)
        if self._postgresql is not None:
            self._postgresql.stop()

    # --- for the measurements ---

    def meter(self) -> usage.Meter:
        """CPU of each process: server, agent, guardian (itself), and jobs with everything else below the guardian."""
        alone = {"server": self.server}
        if self.worker:
            alone |= {"agent": self.worker, "guardian": self.guardian}
        trees = {"database": self.database} if self.database else {}
        return usage.Meter(alone, trees)

    @property
    def client(self) -> Client:
        """Logged in, in a project of its own."""
        assert self._client is not None
        return self._client

    def submit(self, **fields: object) -> str:
        """Submit, by default /bin/true; the id."""
        return self.client.submit_spec(JobSpec(**{"argv": ("/bin/true",), **fields})).id  # type: ignore[arg-type]

    def wait(self, job: str, seconds: float = 600.0) -> None:
        """Until the job, or every job of the array, has succeeded; AssertionError when one has not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.client.wait(job, 60.0)
            states = found.jobs if isinstance(found, ArrayView) else {found.state: 1}
            if not any(states.get(each) for each in ("blocked", "waiting", "running")):
                assert {state for state, count in states.items() if count} == {"succeeded"}, states
                return
        raise AssertionError(f"{job} did not end within {seconds} s")

    def detail(self, job: str) -> JobDetail:
        """Everything about one job."""
        found = self.client.job(job)
        assert isinstance(found, JobDetail)
        return found

    # --- processes ---

    def _start_server(self) -> int:
        setup = ["setup", "--host", self.host, "--port", str(self.port), "--client-port", str(self.port + 1)]
        setup += ["--database", self._url] if self._url else []
        done = subprocess.run(
            [str(_HERE / "cpc-server"), *setup, "--password-stdin", str(self.directory / "run")],
            input=f"{PASSWORD}\n", text=True, capture_output=True, check=False, env=self._environment(),
        )  # fmt: skip
        if done.returncode:
            raise CopernicusError(f"cpc-server setup failed: {done.stderr}")
        return self._spawn([str(_HERE / "cpc-server"), "start", "--foreground"], "server")

    def _meet(self) -> Client | None:
        self._check()
        with contextlib.suppress(Unavailable):
            return Client.meet("127.0.0.1", self.port + 1)[0]
        return None

    def _start_worker(self) -> None:
        self.worker = self.add_worker("worker")
        self.wait(self.submit(array=2 * self.slots))
        below = [each.pid for each in usage.tree(self.worker) if each.pid != self.worker]
        # The keeper is the agent's child, the guardian the keeper's; see cpc.worker.guardian.
        keepers = [pid for pid in below if (found := usage.look(pid)) and found.parent == self.worker]
        self.guardian = next(pid for pid in below if (found := usage.look(pid)) and found.parent in keepers)

    def _spawn(self, command: list[str], name: str) -> int:
        with (self.directory / f"{name}.out").open("ab") as output:
            self._processes.append(subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=_ROOT, start_new_session=True,
                env=self._environment(),
            ))  # fmt: skip
        return self._processes[-1].pid

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CPC_HOME": str(self.directory)}

    def _check(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                said = "\n".join(path.read_text()[-2000:] for path in self.directory.glob("*.out"))
                raise CopernicusError(f"a process of the system has ended with {process.returncode}: {said}")


@contextlib.contextmanager
def system(worker: bool = True, postgresql: bool = False, slots: int = 2) -> Iterator[System]:
    """A fresh system, warmed up; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="cpc-bench-"))
    made = System(directory, postgresql, slots)
    try:
        made.start(worker)
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _until(find: Callable[[], T | None], what: str, tick: float = 0.05) -> T:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = find()
        if found is not None:
            return found
        time.sleep(tick)
    raise CopernicusError(f"within {PATIENCE:.0f} s it did not come true that {what}")


def _free_ports() -> int:
    """The first of two neighbouring ports that nobody uses."""
    for port in range(FIRST_PORT + os.getpid() % 5000 * 2, 40000, 2):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise CopernicusError("no two free ports were found")


def _end(process: subprocess.Popen[bytes], grace: float = 20.0) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
