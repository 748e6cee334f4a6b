"""The ensemble that chaos befalls: a server, its database, two workers behind proxies, and somebody who submits.

The ensemble also is what a supervisor would be: a program that ended itself is started again.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from cpc.client import Client
from cpc.core.errors import Unavailable
from cpc.core.views import WorkerView
from cpc.wire import bundle as bundles
from cpc.worker import tree
from tests.chaos import loom
from tests.chaos.books import Books
from tests.chaos.ledger import Ledger
from tests.chaos.person import Person
from tests.chaos.postgresql import PostgreSQL
from tests.chaos.proxy import Proxy
from tests.chaos.story import Story
from tests.helpers.mounts import Mount
from tests.helpers.network_of_processes import Network, Worker, until
from tests.helpers.real_programs import PATIENCE

MIB = 1 << 20
SERVER_DISK = 400 * MIB
WORKER_DISK = 160 * MIB
MIN_FREE = 24 * MIB
HEARTBEAT = 2.0


class Lab(Network):
    """A network whose programs keep their temporary files in one place, to be looked at."""

    def environment(self, home: Path | None = None, **more: str) -> dict[str, str]:
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        return super().environment(home, TMPDIR=str(temporary), **more)


class Machine:
    """Where a worker runs: its work directory, perhaps on a small disk, and its way to the server."""

    def __init__(self, lab: Lab, name: str, mount: Mount | None, work: Path) -> None:
        self.lab = lab
        self.name = name
        self.mount = mount
        self.work = work
        self.proxy = Proxy(lab.port)
        self.bundle = lab.directory / f"{name}.cnx"
        bundles.write(
            msgspec.structs.replace(bundles.read(lab.bundle), addresses=(("127.0.0.1", self.proxy.port),)), self.bundle
        )
        self.worker: Worker | None = None

    @property
    def seen(self) -> Path:
        """The work directory, as it is seen from outside."""
        return self.mount.seen if self.mount else self.work

    def start(self) -> None:
        """Start a worker here; returns at once."""
        within = self.mount.within if self.mount else ()
        self.worker = self.lab.start_worker("--grace", "2s", bundle=self.bundle, work=self.work, within=within)

    @property
    def running(self) -> Worker:
        """Its worker, which runs."""
        assert self.worker is not None
        return self.worker

    @property
    def view(self) -> WorkerView | None:
        """How the server sees it, while it is joined."""
        return self.lab.view(self.running)

    def keeper(self) -> int:
        """Process id, 0 while there is none."""
        return next(iter(tree.children(self.running.pid)), 0)

    def guardian(self) -> int:
        """Process id, 0 while there is none."""
        keeper = self.keeper()
        return next(iter(tree.children(keeper)), 0) if keeper else 0

    @property
    def spooled(self) -> int:
        """Bytes in its spool: each result adds to them, and none is taken off for a while."""
        found = 0
        for path in self.seen.glob("*/spool.log"):
            with contextlib.suppress(FileNotFoundError):  # its worker has just left
                found += path.stat().st_size
        return found


class Ensemble:
    """Made and healthy; `close` ends everything that it has started."""

    def __init__(self, directory: Path, kind: str, seed: int, story: Story) -> None:
        self.directory = directory
        self.kind = kind
        self.rng = Random(f"chaos {kind} {seed}")
        self.story = story
        self.ledger = Ledger()
        self.missing = ""  # why there are no disks that can be filled
        self._mounts: list[Mount] = []
        self._temporary = tempfile.TemporaryDirectory(prefix="cpc-chaos-", ignore_cleanup_errors=True)
        self.notes = directory / "notes"
        self.notes.mkdir(parents=True)
        self.database = PostgreSQL() if kind == "postgresql" else None
        self.server_mount = self._mount("server", SERVER_DISK)
        run = self.server_mount.directory if self.server_mount else directory / "run"
        self.lab = Lab(
            directory / "lab", self.database.url if self.database else "", run_directory=run,
            within=self.server_mount.within if self.server_mount else (), heartbeat_time=f"{HEARTBEAT:g}",
            checkpoint_interval="1", min_free_space=str(MIN_FREE),
        )  # fmt: skip
        self._event = 0
        self.expected_end = False  # whether the server may have ended by itself
        self.machines = []
        for name in ("m0", "m1"):
            mount = self._mount(name, WORKER_DISK) if name == "m0" else None
            work = mount.directory if mount else directory / name
            work.mkdir(exist_ok=True)
            self.machines.append(Machine(self.lab, name, mount, work))
            self.machines[-1].start()
        self.people = Proxy(self.lab.client_port)
        self.person = Person(
            self._through, Random(self.rng.getrandbits(64)), self.ledger, story, directory, self.notes
        )  # fmt: skip
        self.client = self.lab.client
        loom.build(self.client, self.lab.place.parent.parent / "lib")
        self.healthy()

    def _mount(self, name: str, size: int) -> Mount | None:
        place = Path(self._temporary.name) / name
        place.mkdir()
        made = Mount(place, size)
        if made.why_not:
            self.missing = made.why_not
            return None
        self._mounts.append(made)
        return made

    def _through(self) -> Client:
        made = self.lab.connect()
        made.transport.port = self.people.port
        made.project = "p"
        return made

    @property
    def run_directory(self) -> Path:
        """The server's, as it is seen from outside."""
        return self.server_mount.seen if self.server_mount else self.lab.run_directory

    def books(self) -> Books:
        """The server's records."""
        run = self.lab.run_directory
        return Books(self.database.url if self.database else f"sqlite:///{run}/copernicus.db", run, self.lab.within)

    # --- being well ---

    def tell(self, line: str) -> None:
        """A line of the story."""
        self.story.tell(line)

    def until(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> Any:
        """Wait for a visible state, also over a restart of the server."""
        return self.lab.until(holds, what, seconds)

    def hold(self, holds: Callable[[], object], seconds: float) -> bool:
        """Wait for a visible state that need not come: the fault goes on no longer than `seconds`."""
        try:
            until(holds, "", seconds)
        except AssertionError:
            return False
        return True

    def supervise(self) -> None:
        """Start what has ended."""
        server = self.lab.server
        assert server is not None
        if not server.running:
            last = (server.said.strip().splitlines() or [""])[-1]
            self.tell(f"the server had ended itself ({server.process.returncode}): {last[:150]}")
            assert self.expected_end, f"the server has ended, and nothing was done to what it stands on: {last}"
            self.lab.start()
        for machine in self.machines:
            if not machine.running.running:
                self.tell(f"{machine.name}: the worker had ended ({machine.running.process.returncode})")
                machine.start()

    def healthy(self, seconds: float = PATIENCE) -> None:
        """Everything runs, the workers are joined and take jobs, and everything that was submitted is acknowledged."""
        began = self.story.seconds
        self.until(self._well, "everything is well again", seconds)
        if (lasted := self.story.seconds - began) > 5:
            self.tell(f"    well again after {lasted:.0f} s")
        self.expected_end = False

    def _well(self) -> bool:
        self.supervise()
        if not self.person.idle:
            return False
        views = [machine.view for machine in self.machines]
        return all(view is not None and view.state in ("idle", "busy") for view in views)

    def open_steps(self) -> int:
        """Steps of the network that have not ended, as the server says."""
        return sum(bool(self.client.network(loom.PROJECT).item(name).running) for name in ("spin", "weave"))

    def another_is_lost(self) -> bool:
        """Whether the server has taken a worker for lost since this was asked for the last time."""
        try:
            found = self.client.events(self._event, kind="worker.lost")
        except Unavailable:
            return False
        self._event = max((event.number for event in found), default=self._event)
        return bool(found)

    def open_jobs(self) -> int:
        """Jobs that have not ended, as the server says."""
        counts = self.client.status().jobs
        return sum(counts.get(state, 0) for state in ("waiting", "blocked", "running"))

    # --- the end ---

    def close(self) -> None:
        """End everything. What has spoken of a defect is an AssertionError."""
        self.person.close()
        for proxy in (self.people, *(machine.proxy for machine in self.machines)):
            proxy.close()
        for machine in self.machines:
            if machine.running.running:
                for pid in tree.below([machine.running.pid]):
                    tree.send(pid, signal.SIGCONT)
        if self.lab.server is not None and self.lab.server.running:
            self.lab.server.send(signal.SIGCONT)
        try:
            self.lab.close()
        finally:
            for mount in self._mounts:
                mount.close()
            if self.database is not None:
                self.database.close()
            self._temporary.cleanup()

    def remove(self) -> None:
        """Remove what it has left, when nobody needs it to understand a failure."""
        shutil.rmtree(self.directory, ignore_errors=True)
