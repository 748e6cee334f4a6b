"""Jobs as futures: `concurrent.futures` conventions on top of the client, so that `as_completed` and `wait` work too."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cpc.client import transfer
from cpc.client.client import Client
from cpc.core.digest import Content
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.spec import Input, JobSpec, Table
from cpc.core.views import ArrayView, JobDetail

OVER = ("succeeded", "failed", "cancelled")


class JobFailed(Exception):
    """The job ended without success; `job` has everything about it."""

    def __init__(self, job: JobDetail) -> None:
        super().__init__(f"job {job.id} has {job.state}: {job.reason or job.outcome or ''}".rstrip(": "))
        self.job = job


class JobResult:
    """A job that has succeeded."""

    def __init__(self, client: Client, job: JobDetail) -> None:
        self._client = client
        self.job = job

    @property
    def exit_code(self) -> int | None:
        """Of its program."""
        return self.job.exit_code

    @property
    def stdout(self) -> str:
        """What it wrote, whole."""
        return transfer.read(self._client, self.job.id, "stdout").decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return transfer.read(self._client, self.job.id, "stderr").decode("utf-8", "replace")

    def outputs(self) -> tuple[str, ...]:
        """The paths it left."""
        return tuple(file.path for file in self._client.outputs(self.job.id))

    def read(self, path: str) -> bytes:
        """One output."""
        return transfer.read(self._client, self.job.id, path)

    def fetch(self, directory: Path | str, patterns: Iterable[str] = ()) -> list[Path]:
        """Outputs into a directory."""
        return transfer.fetch(self._client, self.job.id, directory, patterns)


class JobFuture(concurrent.futures.Future[JobResult]):
    """One job. `cancel` ends it on the server, also while it runs; `result` raises JobFailed when it did not succeed."""

    def __init__(self, watcher: _Watcher, job: str) -> None:
        super().__init__()
        self.job = job
        self._watcher = watcher

    def cancel(self) -> bool:
        """Cancel the job; False when it has ended already."""
        if self.done():
            return False
        try:
            self._watcher.cancel(self.job)
        except CopernicusError:
            return False
        return super().cancel()

    def running(self) -> bool:
        """Whether a worker has it now."""
        found = self._watcher.look(self.job)
        return isinstance(found, JobDetail) and found.state == "running"


class Executor:
    """Submits to one project and follows what it has submitted, with one thread however many jobs there are.

    >>> with Executor(Client.from_config()) as jobs:
    ...     future = jobs.submit(["echo", "hello"])
    ...     print(future.result().stdout)
    """

    def __init__(self, client: Client, project: str | None = None) -> None:
        self._client = client
        self._project = project
        self._watcher = _Watcher(client.another())

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def upload(self, path: Path | str) -> Content:
        """Have a file on the server, to be named in several jobs' inputs."""
        return transfer.upload(self._client, path, self._project)

    def submit(self, argv: Sequence[str], *, inputs: Iterable[str | Path | Input] = (), **fields: Any) -> JobFuture:
        """One job; `inputs` are files to upload (or `Input`s), other fields those of JobSpec."""
        spec = JobSpec(argv=tuple(map(str, argv)), inputs=self._inputs(inputs), **fields)
        return self._watcher.add(self._client.submit_spec(spec, self._project).id)

    def map(
        self, argv: Sequence[str], rows: Sequence[dict[str, object]], *,
        inputs: Iterable[str | Path | Input] = (), **fields: Any,
    ) -> list[JobFuture]:  # fmt: skip
        """One array with a job for each row; `{name}` in `argv` becomes the row's value."""
        columns = tuple(rows[0]) if rows else ()
        table = Table(columns, tuple(tuple(str(row[name]) for name in columns) for row in rows))
        spec = JobSpec(
            argv=tuple(map(str, argv)), inputs=self._inputs(inputs), array=len(rows), table=table, **fields
        )  # fmt: skip
        array = self._client.submit_spec(spec, self._project).id
        return [self._watcher.add(f"{array}[{index}]") for index in range(len(rows))]

    def shutdown(self, wait: bool = True) -> None:
        """Follow no more; the jobs go on. With `wait`, until all have ended."""
        self._watcher.stop(wait)

    def _inputs(self, given: Iterable[str | Path | Input]) -> tuple[Input, ...]:
        found = []
        for one in given:
            if isinstance(one, Input):
                found.append(one)
            else:
                name = Path(one).name
                found.append(Input(name, self.upload(one), executable=os.access(one, os.X_OK)))
        return tuple(found)


class _Watcher:
    """One thread that waits at the server for the ends of jobs."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._calls = threading.Lock()  # the client is for one thread at a time
        self._other = client.another()
        self._futures: dict[str, JobFuture] = {}
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, job: str) -> JobFuture:
        future = JobFuture(self, job)
        with self._lock:
            self._futures[job] = future
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="copernicus-watcher", daemon=True)
                self._thread.start()
        self._news.set()
        return future

    def cancel(self, job: str) -> None:
        with self._calls:
            self._other.cancel(job)

    def look(self, job: str) -> JobDetail | ArrayView:
        with self._calls:
            return self._other.job(job)

    def stop(self, wait: bool) -> None:
        if wait:
            concurrent.futures.wait(list(self._futures.values()))
        self._stopping = True
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._client.close()
        self._other.close()

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                first = next(iter(self._futures), None)
            if first is None:
                self._news.wait()
                self._news.clear()
                continue
            self._wait_for(first)

    def _wait_for(self, job: str) -> None:
        """Wait for one; then see who else has ended meanwhile."""
        try:
            found = self._client.wait(job, 1.0 if self._stopping else 5.0)
        except Unavailable:
            return  # the client has tried for a while; the server is away longer: try again
        except CopernicusError as error:
            self._finish(job, error)
            return
        if isinstance(found, JobDetail) and found.state in OVER:
            self._finish(job, found)
            if "[" in job:
                self._others(job)

    def _others(self, job: str) -> None:
        """Elements of the same array that have ended meanwhile: one question for many."""
        array = job.partition("[")[0]
        with self._lock:
            mine = {name for name in self._futures if name.startswith(f"{array}[")}
        if not mine:
            return
        first = self._client.job(job)
        for one in self._client.jobs(first.project, states=",".join(OVER), array=array, limit=1 << 20):
            if one.id in mine:
                found = self._client.job(one.id)
                assert isinstance(found, JobDetail)
                self._finish(one.id, found)

    def _finish(self, job: str, found: JobDetail | CopernicusError) -> None:
        with self._lock:
            future = self._futures.pop(job, None)
        if future is None or future.cancelled() or not future.set_running_or_notify_cancel():
            return
        if isinstance(found, CopernicusError):
            future.set_exception(found)
        elif found.state == "succeeded":
            future.set_result(JobResult(self._client.another(), found))
        else:
            future.set_exception(JobFailed(found))
