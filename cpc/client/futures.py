"""Jobs as futures: `concurrent.futures` conventions on top of the client, so that `as_completed` and `wait` work too."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpc.client import transfer
from cpc.client.client import Client
from cpc.client.watcher import Watcher
from cpc.core.digest import Content
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.spec import Input, JobSpec, Table
from cpc.core.views import JobDetail, JobView


class JobFailed(Exception):
    """The job ended without success; `job` says how."""

    def __init__(self, job: JobView) -> None:
        super().__init__(f"job {job.id} has {job.state}: {job.reason or job.outcome or ''}".rstrip(": "))
        self.job = job


class JobResult:
    """A job that has succeeded. May be used by several threads."""

    def __init__(self, calls: _Calls, job: JobView) -> None:
        self._calls = calls
        self.job = job

    @property
    def exit_code(self) -> int | None:
        """Of its program."""
        return self.job.exit_code

    @property
    def stdout(self) -> str:
        """What it wrote, whole."""
        return self.read("stdout").decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return self.read("stderr").decode("utf-8", "replace")

    def outputs(self) -> tuple[str, ...]:
        """The paths it left."""
        with self._calls.lock:
            return tuple(file.path for file in self._calls.client.outputs(self.job.id))

    def read(self, path: str) -> bytes:
        """One output."""
        with self._calls.lock:
            return transfer.read(self._calls.client, self.job.id, path)

    def fetch(self, directory: Path | str, patterns: Iterable[str] = ()) -> list[Path]:
        """Outputs into a directory."""
        with self._calls.lock:
            return transfer.fetch(self._calls.client, self.job.id, directory, patterns)


class JobFuture(concurrent.futures.Future[JobResult]):
    """One job. `cancel` ends it on the server, also while it runs; `result` raises JobFailed when it did not succeed."""

    def __init__(self, calls: _Calls, watcher: Watcher, job: str) -> None:
        super().__init__()
        self.job = job
        self._calls = calls
        self._watcher = watcher
        self._ending = threading.Lock()
        self._cancelling = False

    def cancel(self) -> bool:
        """Cancel the job; False when it has ended already, or the server refuses."""
        if self.done():
            return self.cancelled()
        self._cancelling = True  # the watcher may see the end before the server's answer is here
        try:
            with self._calls.lock:
                self._calls.client.cancel(self.job)
        except CopernicusError:
            return self.cancelled()
        self._watcher.forget(self.job)
        with self._ending:
            self._end_cancelled()
            return self.cancelled()

    def _end_cancelled(self) -> None:
        if not self.done() and super().cancel():
            self.set_running_or_notify_cancel()

    def running(self) -> bool:
        """Whether a worker has it now."""
        if self.done():
            return False
        with self._calls.lock:
            found = self._calls.client.job(self.job)
        return isinstance(found, JobDetail) and found.state == "running"

    def settle(self, found: JobView | CopernicusError) -> None:
        """The end that the watcher has seen; nothing when it was cancelled here meanwhile."""
        with self._ending:
            if self.done():
                return
            if self._cancelling and not isinstance(found, CopernicusError) and found.state == "cancelled":
                self._end_cancelled()
                return
            self.set_running_or_notify_cancel()
        if isinstance(found, CopernicusError):
            self.set_exception(found)
        elif found.state == "succeeded":
            self.set_result(JobResult(self._calls, found))
        else:
            self.set_exception(JobFailed(found))


class _Calls:
    """A client that several threads share, one after the other."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lock = threading.RLock()


class Executor:
    """Submits to one project and follows what it has submitted, with one thread however many jobs there are.

    >>> with Executor(Client.from_config()) as jobs:
    ...     future = jobs.submit(["echo", "hello"])
    ...     print(future.result().stdout)
    """

    def __init__(self, client: Client, project: str | None = None) -> None:
        self._calls = _Calls(client.another())
        self._calls.client.project = project or client.project
        self._watcher = Watcher(client.another(), self._calls.client.project)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def upload(self, path: Path | str) -> Content:
        """Have a file on the server, to be named in several jobs' inputs."""
        with self._calls.lock:
            return transfer.upload(self._calls.client, path)

    def submit(self, argv: Sequence[str], *, inputs: Iterable[str | Path | Input] = (), **fields: Any) -> JobFuture:
        """One job; `inputs` are files to upload (or `Input`s), other fields those of JobSpec."""
        spec = JobSpec(argv=tuple(map(str, argv)), inputs=self._inputs(inputs), **fields)
        if spec.array:
            raise BadInput("a future stands for one job", "submit an array with map")
        return self._follow([self._submit(spec)])[0]

    def map(
        self, argv: Sequence[str], rows: Iterable[Mapping[str, object]], *,
        inputs: Iterable[str | Path | Input] = (), **fields: Any,
    ) -> list[JobFuture]:  # fmt: skip
        """One array with a job for each row; `{name}` in `argv` becomes the row's value. Futures in the rows' order."""
        table = _table(list(rows))
        if not table.rows:
            return []
        spec = JobSpec(
            argv=tuple(map(str, argv)), inputs=self._inputs(inputs), array=len(table.rows), table=table, **fields
        )  # fmt: skip
        array = self._submit(spec)
        return self._follow([f"{array}[{index}]" for index in range(len(table.rows))])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Follow no more; the jobs go on, unless `cancel_futures`. With `wait`, until all have ended."""
        if cancel_futures:
            for future in self._watcher.pending():
                future.cancel()
        self._watcher.stop(wait)

    def _submit(self, spec: JobSpec) -> str:
        with self._calls.lock:
            return self._calls.client.submit_spec(spec).id

    def _follow(self, jobs: list[str]) -> list[JobFuture]:
        futures = [JobFuture(self._calls, self._watcher, job) for job in jobs]
        self._watcher.add(futures)
        return futures

    def _inputs(self, given: Iterable[str | Path | Input]) -> tuple[Input, ...]:
        found = []
        for one in given:
            if isinstance(one, Input):
                found.append(one)
            else:
                found.append(Input(Path(one).name, self.upload(one), executable=os.access(one, os.X_OK)))
        return tuple(found)


def _table(rows: list[Mapping[str, object]]) -> Table:
    columns = tuple(rows[0]) if rows else ()
    for number, row in enumerate(rows):
        if set(row) != set(columns):
            odd = ", ".join(sorted(map(str, set(row) ^ set(columns))))
            raise BadInput(f"row {number} has other names than row 0: {odd}", "give every row the same names")
    return Table(columns, tuple(tuple(_value(row[name]) for name in columns) for row in rows))


def _value(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        raise BadInput("a value of a row is bytes", "values become arguments: give text or numbers")
    return str(value)
