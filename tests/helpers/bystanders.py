"""Somebody who minds their own business beside an attack: submits jobs, fetches results, and counts."""

from __future__ import annotations

import threading
from pathlib import Path

from cpc.client import Client
from cpc.client.transfer import read
from cpc.core.spec import JobSpec
from cpc.core.views import JobDetail
from tests.helpers.network_of_processes import Network, until
from tests.helpers.real_programs import PATIENCE


class Bystander:
    """In a thread of its own, with a worker of its own; `done` counts jobs whose result was fetched and right."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._client: Client = network.connect()
        self._client.project = "p"
        self._worker = network.worker()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.done = 0
        self.trouble = ""

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self._network.dismiss(self._worker)
        assert not self.trouble, self.trouble

    def _go(self) -> None:
        try:
            while not self._stop.is_set():
                word = f"word {self.done}"
                job = self._client.submit_spec(JobSpec(argv=("/bin/echo", word))).id
                found = self._client.wait(job)
                assert isinstance(found, JobDetail)
                assert found.state == "succeeded", found.state
                assert read(self._client, job, "stdout") == f"{word}\n".encode()
                self.done += 1
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"

    def goes_on(self, jobs: int = 2) -> None:
        """Returns when so many more jobs have been done, from submission to result."""
        before = self.done
        until(lambda: self.trouble or self.done >= before + jobs, f"{jobs} jobs beside the attack")
        assert not self.trouble, self.trouble


class Memory:
    """What a process has in memory, by the kernel's word."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")

    def begin(self) -> None:
        """From here on the peak is counted."""
        (self._process / "clear_refs").write_text("5")
        self._before = self._figure("VmRSS")

    def growth(self) -> int:
        """Bytes of the peak above what there was at the beginning."""
        return self._figure("VmHWM") - self._before

    def _figure(self, name: str) -> int:
        for line in (self._process / "status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"the kernel does not tell {name}")
