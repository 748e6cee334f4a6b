"""The SDK's client: a method for every call of the public API, answered with the structures of `cpc.core.views`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cpc.client.calls import part, understood
from cpc.client.config import Config, Server, home
from cpc.client.pools import PoolCalls
from cpc.client.transport import Response, Transport
from cpc.client.trust import Pin
from cpc.core import network_views, views
from cpc.core.errors import Gone
from cpc.core.spec import Input, JobSpec

if TYPE_CHECKING:
    from cpc.client.futures import Executor, JobFuture
    from cpc.client.network import Network
    from cpc.client.peers import Peers


class Client(PoolCalls):
    """A connection to one server, for one thread at a time: use `another` for each. A context manager."""

    def __init__(self, transport: Transport, project: str = "") -> None:
        super().__init__(transport, project)
        self._executor: Executor | None = None

    # --- making one ---

    @classmethod
    def from_config(cls, directory: Path | str | None = None, server: str | None = None) -> Client:
        """The default server (or the named one) as cpcc has stored it in `directory` ($CPC_HOME)."""
        found = Config(home(str(directory) if directory else None)).find(server)
        return cls.of(found)

    @classmethod
    def of(cls, server: Server) -> Client:
        """A server of the configuration."""
        return cls(Transport(server.host, server.port, server.pin, server.token), server.project)

    @classmethod
    def from_bundle(cls, path: Path | str) -> Client:
        """A client bundle: address, identity and token in one file. The first of its addresses that answers is used."""
        from cpc.client import meeting

        return cls(meeting.by_bundle(path))

    @classmethod
    def meet(cls, host: str, port: int) -> tuple[Client, Pin]:
        """A server seen for the first time: who it says it is, to be compared by a person before it is trusted.

        It is spoken to a second time, and must then prove that it holds the key that it has named. A server behind a
        site's certificate gives a pin without an authority: its name and that certificate are what it is known by.
        """
        from cpc.client import meeting

        transport, pin = meeting.meet(host, port)
        return cls(transport), pin

    def another(self) -> Client:
        """A second connection, for another thread or a stream."""
        return Client(self.transport.another(), self.project)

    def close(self) -> None:
        """Close the connection (the next call opens a new one); follow no futures any more."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- jobs as futures ---

    def submit(
        self, argv: Sequence[str], *, inputs: Iterable[str | Path | Input] = (), **fields: Any
    ) -> JobFuture:  # fmt: skip
        """One job, followed: `client.submit(["echo", "hello"]).result().stdout`. See `Executor.submit`."""
        return self._following().submit(argv, inputs=inputs, **fields)

    def map(
        self, argv: Sequence[str], rows: Iterable[Mapping[str, object]], *,
        inputs: Iterable[str | Path | Input] = (), **fields: Any,
    ) -> list[JobFuture]:  # fmt: skip
        """One array with a job for each row, followed. See `Executor.map`."""
        return self._following().map(argv, rows, inputs=inputs, **fields)

    def _following(self) -> Executor:
        from cpc.client.futures import Executor

        if self._executor is None:
            self._executor = Executor(self)
        return self._executor

    # --- the server ---

    def server_info(self) -> views.ServerView:
        """Who the server is."""
        return self._get(views.ServerView, "/server")

    def status(self) -> views.ServerStatus:
        """How it is."""
        return self._get(views.ServerStatus, "/status")

    def stop_server(self) -> None:
        """Stop it."""
        self._call("POST", "/server/stop", {})

    def reload(self) -> None:
        """Have it read its settings and certificates again."""
        self._call("POST", "/server/reload", {})

    def settings(self) -> list[views.SettingView]:
        """All settings."""
        return self._all(views.SettingView, "/settings")

    def set_setting(self, name: str, value: str) -> views.SettingView:
        """Change one."""
        return self._change(views.SettingView, "PUT", f"/settings/{part(name)}", {"value": value})

    # --- people ---

    def login(self, user: str, password: str) -> views.Session:
        """Log in; this client then uses the token."""
        session = self._change(views.Session, "POST", "/login", {"user": user, "password": password})
        self.transport.token = session.token
        return session

    def logout(self) -> None:
        """End the session."""
        self._call("POST", "/logout", {})
        self.transport.token = ""

    def whoami(self) -> views.UserView:
        """Who this client speaks for."""
        return self._get(views.UserView, "/whoami")

    def users(self) -> list[views.UserView]:
        """All users."""
        return self._all(views.UserView, "/users")

    def add_user(self, name: str, password: str, super_user: bool = False) -> views.UserView:
        """Make a user."""
        body = {"name": name, "password": password, "super_user": super_user}
        return self._change(views.UserView, "POST", "/users", body)

    def change_user(self, name: str, **changes: object) -> views.UserView:
        """`super_user`, `disabled`, `password` (one's own with `old_password`)."""
        return self._change(views.UserView, "PATCH", f"/users/{part(name)}", changes)

    def delete_user(self, name: str) -> None:
        """Delete a user."""
        self._call("DELETE", f"/users/{part(name)}")

    def tokens(self) -> list[views.TokenView]:
        """One's own tokens."""
        return self._all(views.TokenView, "/tokens")

    def make_token(
        self, name: str, scope: str = "all", expires_in: float = 90 * 86400.0
    ) -> tuple[str, views.TokenView]:
        """A token for a script; the secret is only told now."""
        made = self._call("POST", "/tokens", {"name": name, "scope": scope, "expires_in": expires_in})
        return str(made["token"]), understood(made["view"], views.TokenView)

    def delete_token(self, name: str) -> None:
        """Revoke one of one's own tokens."""
        self._call("DELETE", f"/tokens/{part(name)}")

    # --- projects ---

    def projects(self) -> list[views.ProjectView]:
        """Those one may see."""
        return self._all(views.ProjectView, "/projects")

    def get_project(self, name: str | None = None) -> views.ProjectView:
        """One project."""
        return self._get(views.ProjectView, self._in(name))

    def create_project(self, name: str, quota: int = 0, weight: float = 1.0) -> views.ProjectView:
        """Make a project."""
        body = {"name": name, "quota": quota, "weight": weight}
        return self._change(views.ProjectView, "POST", "/projects", body)

    def change_project(self, name: str, **changes: object) -> views.ProjectView:
        """`quota` in bytes, `weight` of the fair share."""
        return self._change(views.ProjectView, "PATCH", self._in(name), changes)

    def delete_project(self, name: str) -> None:
        """Delete a project, its jobs and its files."""
        self._call("DELETE", self._in(name))

    def grant(self, user: str, role: str = "member", project: str | None = None) -> views.MemberView:
        """Give a user a role in a project."""
        path = f"{self._in(project)}/members/{part(user)}"
        return self._change(views.MemberView, "PUT", path, {"role": role})

    def revoke(self, user: str, project: str | None = None) -> None:
        """Take it away."""
        self._call("DELETE", f"{self._in(project)}/members/{part(user)}")

    def network(self, project: str | None = None) -> Network:
        """A project's dataflow network, and all that can be done with it."""
        from cpc.client.network import Network

        return Network(self, self.require_project(project))

    def peers(self) -> Peers:
        """Other servers, and all that can be done with them."""
        from cpc.client.peers import Peers

        return Peers(self.transport)

    def modules(self) -> list[network_views.ModuleView]:
        """The modules that projects on this server can import."""
        return self._all(network_views.ModuleView, "/modules")

    # --- jobs ---

    def submit_spec(self, spec: JobSpec, project: str | None = None, dry_run: bool = False) -> views.Submitted:
        """Store a job or array; when this returns it is on the server's disk."""
        body = {"spec": spec, "dry_run": dry_run}
        return self._change(views.Submitted, "POST", f"{self._in(project)}/jobs", body)

    def jobs(
        self, project: str | None = None, *, states: str = "", name: str = "", array: str = "", limit: int = 1000
    ) -> list[views.JobView]:
        """Jobs of a project, newest first; `states` with commas."""
        query = {"state": states, "name": name, "array": array}
        return self._some(views.JobView, f"{self._in(project)}/jobs", limit, **query)

    def jobs_page(
        self, project: str | None = None, *, states: str = "", array: str = "", after: str = "", limit: int = 1000
    ) -> tuple[list[views.JobView], str]:
        """One part of that list, at most 1000: those below `after`, and the `after` of the next part ("": no more)."""
        query = {"state": states, "array": array, "after": after, "limit": limit}
        page = self._get(views.Page, f"{self._in(project)}/jobs", **query)
        return understood(list(page.items), list[views.JobView]), page.next

    def all_jobs(self, *, states: str = "", project: str = "", limit: int = 1000) -> list[views.JobView]:
        """Jobs of all projects that one may see, newest first."""
        return self._some(views.JobView, "/jobs", limit, state=states, project=project)

    def arrays(self, project: str | None = None, limit: int = 100) -> list[views.ArrayView]:
        """Submissions of a project, newest first."""
        return self._some(views.ArrayView, f"{self._in(project)}/arrays", limit)

    def job(self, job: str) -> views.JobDetail | views.ArrayView:
        """Everything about a job; the counts of an array."""
        return _detail(self.transport.json("GET", f"/jobs/{part(job)}"))

    def wait(self, job: str, timeout: float = 60.0) -> views.JobDetail | views.ArrayView:
        """The job or array when it has ended, or after `timeout` seconds (at most 60)."""
        return _detail(self.transport.json("GET", f"/jobs/{part(job)}/wait", timeout=timeout))

    def cancel(self, job: str, reason: str = "") -> int:
        """Cancel; how many jobs that were."""
        return int(self._call("POST", f"/jobs/{part(job)}/cancel", {"reason": reason})["cancelled"])

    def retry(self, job: str) -> views.Submitted:
        """Failed and cancelled jobs wait again."""
        return self._change(views.Submitted, "POST", f"/jobs/{part(job)}/retry", {})

    def fail_attempt(self, job: str) -> None:
        """Declare a running attempt lost."""
        self._call("POST", f"/jobs/{part(job)}/fail-attempt", {})

    def prioritise(self, job: str, priority: int) -> None:
        """Another priority."""
        self._call("PATCH", f"/jobs/{part(job)}", {"priority": priority})

    def forget(self, job: str) -> None:
        """Remove a finished job or array and its files."""
        self._call("DELETE", f"/jobs/{part(job)}")

    def why(self, job: str) -> views.WhyView:
        """Why a job is not running."""
        return self._get(views.WhyView, f"/jobs/{part(job)}/why")

    def outputs(self, job: str, attempt: int | None = None) -> list[views.FileView]:
        """What it left."""
        return self._all(views.FileView, f"/jobs/{part(job)}/outputs", attempt=attempt)

    def log(self, job: str, stream: str = "stdout", offset: int = 0, limit: int = 1 << 20) -> views.LogView:
        """Part of its output."""
        path = f"/jobs/{part(job)}/logs"
        return self._get(views.LogView, path, stream=stream, offset=offset, limit=limit)

    def follow(self, job: str, stream: str = "stdout", offset: int = 0) -> Iterator[views.LogView]:
        """Its output as it comes, to the end."""
        from cpc.client.watch import Stream

        for _, data in Stream(self, f"/jobs/{part(job)}/logs/follow", {"stream": stream, "offset": offset}, "log"):
            yield msgspec.json.decode(data, type=views.LogView)

    def announce(self, content: dict[str, Any], project: str | None = None) -> views.UploadView:
        """Begin an upload, or go on with it: `digest`, `size` and `chunks` in hex. For `cpc.client.transfer`."""
        return self._change(views.UploadView, "POST", f"{self._in(project)}/uploads", content)

    # --- workers, bundles, events ---

    def workers(self) -> list[views.WorkerView]:
        """Workers that are joined, or were lately."""
        return self._all(views.WorkerView, "/workers")

    def worker(self, name: str) -> views.WorkerView:
        """One of them."""
        return self._get(views.WorkerView, f"/workers/{part(name)}")

    def drain(self, worker: str, reason: str, finish: bool = True) -> views.WorkerView:
        """No more jobs for it; without `finish` its jobs are checkpointed and handed back."""
        body = {"reason": reason, "finish": finish}
        return self._change(views.WorkerView, "POST", f"/workers/{part(worker)}/drain", body)

    def resume(self, worker: str) -> views.WorkerView:
        """Jobs again."""
        return self._change(views.WorkerView, "POST", f"/workers/{part(worker)}/resume", {})

    def heartbeats(self) -> list[views.HeartbeatView]:
        """Running attempts and when their leases end."""
        return self._all(views.HeartbeatView, "/heartbeats")

    def bundles(self) -> list[views.BundleView]:
        """Connection bundles."""
        return self._all(views.BundleView, "/bundles")

    def make_bundle(
        self, name: str, role: str, user: str = "", expires_in: float = 0.0
    ) -> tuple[str, views.BundleView]:
        """A new bundle: the text of its file, and what is kept of it."""
        made = self._call("POST", "/bundles", {"name": name, "role": role, "user": user, "expires_in": expires_in})
        return str(made["bundle"]), understood(made["view"], views.BundleView)

    def revoke_bundle(self, name: str) -> None:
        """Everything that was set up with it is refused from now on."""
        self._call("DELETE", f"/bundles/{part(name)}")

    def custody(self) -> list[views.CustodyView]:
        """Results of other servers' jobs that this server keeps until it can reach them."""
        return self._all(views.CustodyView, "/custody")

    def drop_custody(self, name: str) -> views.CustodyView:
        """Give one up; the job will run again."""
        return understood(self._call("DELETE", f"/custody/{part(name)}"), views.CustodyView)

    def events(self, after: int = 0, *, project: str = "", kind: str = "", limit: int = 100) -> list[views.EventView]:
        """What happened, in order."""
        return self._some(views.EventView, "/events", limit, after=after, project=project, kind=kind)

    def watch(
        self, after: int | None = None, *, project: str = "", job: str = "", kind: str = ""
    ) -> Iterator[views.EventView]:
        """Events as they happen, without loss or repeat, also over lost connections. Without `after`, from now on."""
        from cpc.client.watch import Stream

        number = self.last_event(project) if after is None else after
        query: dict[str, object] = {"after": number, "project": project, "job": job, "kind": kind}
        for _, data in Stream(self, "/events/stream", query):
            yield msgspec.json.decode(data, type=views.EventView)

    def last_event(self, project: str = "") -> int:
        """A number after which no event has happened yet. Found by halving: the log cannot be asked for its end."""

        def after(number: int) -> views.Page | None:
            try:
                return self._get(views.Page, "/events", after=number, project=project, limit=1)
            except Gone:
                return None

        def more(number: int) -> bool:
            page = after(number)
            return page is None or bool(page.items or page.next)

        first = after(0)
        low = int(first.items[0]["number"] if first.items else first.next or 0) if first else 0
        step = 256
        while more(low + step):
            low, step = low + step + 1, 4 * step
        high = low + step
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if more(middle) else (low, middle)
        return low

    def audit(self, user: str = "", after: int = 0, limit: int = 1 << 30) -> list[views.EventView]:
        """Privileged acts, oldest first."""
        return self._some(views.EventView, "/audit", limit, after=after, user=user)

    def stream(self, path: str, query: dict[str, object], last: str) -> Response:
        """A body that does not end by itself: for `cpc.client.watch`."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        return self.transport.request("GET", path, None, headers, **query)


def _detail(found: Any) -> views.JobDetail | views.ArrayView:
    return understood(found, views.JobDetail | views.ArrayView)  # type: ignore[arg-type]
