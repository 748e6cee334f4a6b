"""A whole network as its users have it: cpc-server, cpc-worker and cpcc as real processes on 127.0.0.1.

Everything lies in one directory. Nothing waits by the clock: `until` waits for a state that can be seen, for so long at
most, and says what was seen instead. Processes are ended by their id; no word of a defect may be left in their output.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpc.client import Client
from cpc.client.transfer import read
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.spec import Dependency, Input, JobSpec
from cpc.core.views import ArrayView, JobDetail, WorkerView
from cpc.server.config import Place
from cpc.wire import bundle as bundles
from tests.helpers.ports import free_ports
from tests.helpers.real_programs import PATIENCE, Answer, Program, figures, gone, ssl_context, until

__all__ = ["Answer", "Network", "Person", "Program", "Worker", "gone", "ssl_context", "until"]

BIN = Path(sys.executable).parent
PASSWORD = "secret-secret"
ADMINISTRATOR = "cpc-admin"
ENDED = ("succeeded", "failed", "cancelled")
#: Seconds; no worker of a busy machine is silent for so long. Who waits for a silent one to be lost sets it to less meanwhile.
HEARTBEAT = 60.0


class Worker(Program):
    """A cpc-worker; `label` is its alone."""

    label: str = ""
    directory: Path


class Person:
    """Somebody with a home directory of their own, who uses cpcc and the SDK."""

    def __init__(self, network: Network, name: str, home: Path) -> None:
        self.network = network
        self.name = name
        self.home = home
        home.mkdir(exist_ok=True)
        self.run("add-server", "127.0.0.1", str(network.client_port), "--yes").done()
        self.run("login", "--stdin", name, stdin=PASSWORD).done()

    def run(self, *arguments: str, stdin: str = "", seconds: float = PATIENCE) -> Answer:
        """cpcc with these arguments."""
        return self.network.run("cpcc", *arguments, stdin=stdin, home=self.home, seconds=seconds)

    def client(self) -> Client:
        """The SDK with the same login."""
        return Client.from_config(self.home)


class Network:
    """A server with its workers and people. Made, set up and started; `close` ends everything that it has started."""

    def __init__(
        self, directory: Path, database: str = "", run_directory: Path | None = None, within: Sequence[str] = (),
        host: str = "", **settings: str,
    ) -> None:  # fmt: skip
        """`within`: words before each of the server's own commands, for another view of the file system. `host`: how the
        server calls its machine."""
        self.directory = directory
        self._begin(directory, run_directory, within)
        self.home.mkdir(parents=True)
        given = (*(("--database", database) if database else ()), *(("--host", host) if host else ()))
        self.port, self.client_port = free_ports(2)
        ports = ("--port", str(self.port), "--client-port", str(self.client_port))
        self.run("cpc-server", "setup", *ports, "-stdin", *given, str(self.run_directory), stdin=PASSWORD).done()
        self.start()
        self.meet()
        for name, value in {"heartbeat_time": f"{HEARTBEAT:g}", **settings}.items():
            self.client.set_setting(name, value)
        self.project("p")
        self.client.project = "p"
        self.admin.run("cd", "p").done()

    @classmethod
    def found(cls, directory: Path) -> Network:
        """One whose server was set up before and is not running: `start` it, then `meet` it."""
        network = cls.__new__(cls)
        network._begin(directory)
        config = Place(network.place).read()
        network.port, network.client_port = config.port, config.client_port
        return network

    def _begin(self, directory: Path, run_directory: Path | None = None, within: Sequence[str] = ()) -> None:
        self.directory = directory
        self.within = tuple(within)
        self.bin = BIN  # where the programs are that are started from now on
        self.home = directory / "home"
        self.run_directory = run_directory or directory / "run"
        self.server: Program | None = None
        self.workers: list[Worker] = []
        self._clients: list[Client] = []
        self._programs: list[Program] = []

    def meet(self) -> None:
        """The administrator logs in, with cpcc and the SDK."""
        self.admin = Person(self, ADMINISTRATOR, self.home)
        self.client = self.connect()

    @property
    def bundle(self) -> Path:
        """The worker bundle that setup has made."""
        return self.home / "client.cnx"

    @property
    def place(self) -> Path:
        """The server's directory of configuration, keys and log."""
        return self.home / "servers" / "default"

    # --- programs ---

    def environment(self, home: Path | None = None, **more: str) -> dict[str, str]:
        return {**os.environ, "CPC_HOME": str(home or self.home), "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **more}

    def run(
        self, program: str, *arguments: str, stdin: str = "", home: Path | None = None, seconds: float = PATIENCE
    ) -> Answer:
        """One of our programs, to its end."""
        done = subprocess.run(
            [*(self.within if program == "cpc-server" else ()), str(self.bin / program), *arguments],
            input=stdin.encode(), capture_output=True, cwd=self.directory,
            env=self.environment(home), timeout=seconds, check=False,
        )  # fmt: skip
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer

    def cpcc(self, *arguments: str, stdin: str = "", seconds: float = PATIENCE) -> Answer:
        """cpcc as the administrator."""
        return self.admin.run(*arguments, stdin=stdin, seconds=seconds)

    def begin(self, program: str, *arguments: str, home: Path | None = None) -> Program:
        """One of our programs, that goes on beside us."""
        output = self.directory / f"program-{len(self._programs)}"
        made = Program([str(self.bin / program), *arguments], self.directory, output, self.environment(home))
        self._programs.append(made)
        return made

    # --- the server ---

    def start(self) -> None:
        """Start the server; returns when it says that it is ready."""
        path = str(self.directory / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(path)
            listener.settimeout(0.1)
            self.server = Program(
                [*self.within, str(self.bin / "cpc-server"), "start", "--foreground"],
                self.directory, self.directory / "server.out", self.environment(NOTIFY_SOCKET=path),
            )  # fmt: skip
            until(lambda: self._ready(listener), "the server is ready", PATIENCE, self.story)
        os.unlink(path)

    def _ready(self, listener: socket.socket) -> bool:
        assert self.server is not None
        assert self.server.running, self.server.said
        try:
            return b"READY=1" in listener.recv(4096)
        except TimeoutError:
            return False

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self.server is not None and self.server.running

    def kill_server(self) -> None:
        """kill -9."""
        assert self.server is not None
        self.server.kill()

    def stop_server(self) -> None:
        """SIGTERM, and see that it ends well."""
        assert self.server is not None
        self.server.send(signal.SIGTERM)
        assert self.server.ended() == 0

    def connect(self) -> Client:
        """Another client of the administrator."""
        self._clients.append(Client.from_config(self.home))
        return self._clients[-1]

    # --- workers ---

    def worker(self, *options: str, cores: int = 2, bundle: Path | None = None, work: Path | None = None) -> Worker:
        """Start a worker in a directory of its own; returns when it has joined."""
        worker = self.start_worker(*options, cores=cores, bundle=bundle, work=work)
        self.until(lambda: self.view(worker), f"{worker.label} has joined")
        return worker

    def start_worker(
        self, *options: str, cores: int = 2, bundle: Path | None = None, work: Path | None = None,
        within: Sequence[str] = (),
    ) -> Worker:  # fmt: skip
        """The same, but returns at once. `within`: words before the command, for another view of the file system."""
        label = f"w{len(self.workers)}"
        directory = work or self.directory / label
        directory.mkdir(exist_ok=True)
        worker = Worker(
            [*within, str(self.bin / "cpc-worker"), "-c", str(bundle or self.bundle), "-n", str(cores),
             "-wd", str(directory),
             "--labels", label, *options, "smp"],
            directory, self.directory / f"{label}.out", self.environment(),
        )  # fmt: skip
        worker.label, worker.directory = label, directory
        self.workers.append(worker)
        return worker

    def view(self, worker: Worker) -> WorkerView | None:
        """How the server sees it, while it is joined."""
        found = (each for each in self.client.workers() if worker.label in each.labels)
        return next((each for each in found if each.state != "silent"), None)

    def name(self, worker: Worker) -> str:
        """What the server calls it."""
        view = self.view(worker)
        assert view is not None, f"{worker.label} is not joined"
        return view.name

    def dismiss(self, *workers: Worker) -> None:
        """End these workers (all, if none is named), and wait until the server knows: nobody else takes their jobs."""
        for worker in workers or tuple(self.workers):
            if worker.running:
                worker.send(signal.SIGCONT)
                worker.send(signal.SIGTERM)
        for worker in workers or tuple(self.workers):
            worker.ended()
            self.workers_gone(worker)

    def workers_gone(self, *workers: Worker) -> None:
        """Wait until the server counts them as gone."""
        for worker in workers:
            self.until(lambda worker=worker: not self.view(worker), f"{worker.label} has left")  # type: ignore[misc]

    @contextmanager
    def working(self, *options: str, cores: int = 2) -> Iterator[Worker]:
        """A worker for as long as the block lasts. A test that fails in it leaves no jobs to the next one."""
        worker = self.worker(*options, cores=cores)
        try:
            yield worker
        except BaseException:
            for job in self.client.all_jobs(states="waiting,blocked,running"):
                self.client.cancel(job.id)
            raise
        finally:
            if worker.running:
                self.dismiss(worker)

    # --- jobs ---

    def project(self, name: str) -> str:
        """A new project."""
        return self.client.create_project(name).name

    def submit(self, *argv: str, **fields: Any) -> str:
        """A job with this command; its id. Returns when the server has acknowledged it."""
        after = tuple(Dependency(each) if isinstance(each, str) else each for each in fields.pop("after", ()))
        inputs: tuple[Input, ...] = tuple(fields.pop("inputs", ()))
        return self.client.submit_spec(JobSpec(argv=argv, after=after, inputs=inputs, **fields)).id

    def shell(self, text: str, **fields: Any) -> str:
        """A job that runs this in a shell."""
        return self.submit("/bin/sh", "-c", text, **fields)

    def job(self, job: str) -> JobDetail:
        """A single job now."""
        found = self.client.job(job)
        assert isinstance(found, JobDetail), found
        return found

    def array(self, job: str) -> ArrayView:
        """An array now."""
        found = self.client.job(job)
        assert isinstance(found, ArrayView), found
        return found

    def end_of(self, job: str, seconds: float = PATIENCE) -> JobDetail:
        """The job when it has ended: one question that the server answers then."""
        end = time.monotonic() + seconds
        while True:
            found = self.client.wait(job, max(0.0, min(60.0, end - time.monotonic())))
            assert isinstance(found, JobDetail)
            if found.state in ENDED or time.monotonic() >= end:
                break
        assert found.state in ENDED, f"{job} has not ended within {seconds:g} s\n{self.story(job)}"
        return found

    def success_of(self, job: str, seconds: float = PATIENCE) -> JobDetail:
        """The same; an AssertionError unless it has succeeded."""
        found = self.end_of(job, seconds)
        assert found.state == "succeeded", f"{found.state}: {found.reason} {found.tail}\n{self.story(job)}"
        return found

    def end_of_array(self, job: str, seconds: float = PATIENCE) -> ArrayView:
        """The array when all its jobs have ended."""
        end = time.monotonic() + seconds
        while True:
            found = self.client.wait(job, max(0.0, min(60.0, end - time.monotonic())))
            assert isinstance(found, ArrayView)
            ended = sum(found.jobs.get(state, 0) for state in ENDED)
            if ended == found.size or time.monotonic() >= end:
                break
        assert ended == found.size, f"{found.jobs}\n{self.story()}"
        return found

    def running(self, job: str, seconds: float = PATIENCE) -> JobDetail:
        """The job as soon as it runs."""
        return self.in_state(job, "running", seconds)

    def in_state(self, job: str, state: str, seconds: float = PATIENCE) -> JobDetail:
        """The job as soon as it is in this state."""
        self.until(lambda: self.job(job).state == state, f"{job} is {state}", seconds)
        return self.job(job)

    def output(self, job: str, path: str = "stdout") -> bytes:
        """One output, whole."""
        return read(self.client, job, path)

    def pid(self, path: Path) -> int:
        """The process id that a job writes to `path` (in one go, with a line's end)."""
        return int(
            self.until(lambda: path.exists() and path.read_text().endswith("\n") and path.read_text(), path.name)
        )

    # --- watching ---

    def until(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> Any:
        """Wait for a visible state, also over a restart of the server."""

        def careful() -> object:
            try:
                return holds()
            except Unavailable:
                return None

        return until(careful, what, seconds, self.story)

    def figures(self) -> dict[str, float]:
        """What the server tells the monitoring."""
        return figures(self.client_port, bundles.read(self.bundle).authority)

    def requests(self) -> dict[str, float]:
        """Answered requests of people by route, as the server counts them for the monitoring."""
        found: dict[str, float] = {}
        for labels, value in self.figures().items():
            if not labels.startswith("http_requests_total{"):
                continue
            route = re.search(r'route="([^"]*)"', labels)
            assert route is not None
            found[route[1]] = found.get(route[1], 0.0) + value
        return found

    def story(self, job: str = "") -> str:
        """What can be said when something did not happen."""
        lines = []
        try:
            if job:
                lines += [repr(self.client.job(job)), repr(self.client.why(job))]
            lines += [f"worker: {each}" for each in self.client.workers()]
        except (CopernicusError, AttributeError) as error:
            lines.append(f"the server says: {error}")
        for path in (self.directory / "server.out", *(each.output for each in self.workers[-4:])):
            if path.exists():
                lines += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-25:]]
        return "\n".join(lines)

    # --- the end ---

    def close(self) -> None:
        """End everything; an AssertionError if anything has spoken of a defect."""
        for client in self._clients:
            client.close()
        for program in (*self.workers, *self._programs):
            if program.running:
                program.kill()
        if self.server is not None and self.server.running:
            self.server.kill()
        for output in (self.directory / "server.out", *(each.output for each in self.workers)):
            text = output.read_text(errors="replace") if output.exists() else ""
            assert "Traceback" not in text, f"{output.name}:\n{text}"
            assert "Unhandled" not in text, f"{output.name}:\n{text}"
