"""Answers of the API as a server would give them, for tests of the client."""

from __future__ import annotations

from typing import Any

from cpc.core import network_views, views
from cpc.core.resources import GIB, Amounts

NOW = 1_760_000_000_000_000


def job(id: str = "57", **changes: Any) -> views.JobView:
    return views.JobView(**{**_job(id), **changes})


def detail(id: str = "57", **changes: Any) -> views.JobDetail:
    more = {
        "spec": {"argv": ["mdrun"], "need": {"cores": 4, "memory": GIB}},
        "history": (),
        "checkpoint": None,
        "tail": "",
    }
    return views.JobDetail(**{**_job(id), **more, **changes})


def _job(id: str) -> dict[str, Any]:
    return {
        "id": id, "project": "villin", "name": "fold", "command": "mdrun -s topol.tpr", "state": "waiting",
        "priority": 0, "submitted": NOW, "submitter": "alice", "started": None, "ended": None, "outcome": None,
        "exit_code": None, "reason": "", "attempts": 0, "failures": 0, "losses": 0, "worker": "",
    }  # fmt: skip


def array(id: str = "58", size: int = 3, **jobs: int) -> views.ArrayView:
    return views.ArrayView(
        id=id, project="villin", name="sweep", command="sim {seed}", size=size, jobs=jobs or {"waiting": size},
        submitted=NOW, submitter="alice", priority=0,
    )  # fmt: skip


def attempt(number: int = 1, **changes: Any) -> views.AttemptView:
    fields: dict[str, Any] = {
        "number": number, "worker": "w1", "host": "node1", "granted": Amounts(cores=4), "started": NOW,
        "ended": NOW + 5_000_000, "outcome": "failed", "exit_code": 3, "message": "ended with exit code 3",
        "wall_seconds": 5.0, "cpu_seconds": 4.0, "max_memory": 1000, "late": False,
    }  # fmt: skip
    return views.AttemptView(**{**fields, **changes})


def worker(name: str = "w1", **changes: Any) -> views.WorkerView:
    fields: dict[str, Any] = {
        "id": "9", "name": name, "host": "node1", "bundle": "lab", "platform": "smp", "state": "busy", "note": "",
        "release": "3.0.0", "total": Amounts(cores=8, memory=32 * GIB), "free": Amounts(cores=2, memory=GIB),
        "programs": ("gromacs/mdrun 2023.1",), "labels": ("fast",), "project": "", "jobs": ("57",), "joined": NOW,
        "last_heard": 2.0, "time_left": None,
    }  # fmt: skip
    return views.WorkerView(**{**fields, **changes})


def project(name: str = "villin", **changes: Any) -> views.ProjectView:
    fields: dict[str, Any] = {
        "name": name, "id": "3", "owner": "alice", "created": NOW,
        "members": (views.MemberView(user="alice", role="owner"),), "jobs": {"waiting": 2, "running": 1, "failed": 4},
        "storage_used": 3 * GIB, "quota": 50 * GIB, "weight": 1.0,
    }  # fmt: skip
    return views.ProjectView(**{**fields, **changes})


def status(server: views.ServerView, **changes: Any) -> views.ServerStatus:
    fields: dict[str, Any] = {
        "server": server, "workers": 2, "workers_busy": 1, "jobs": {"waiting": 2, "running": 1}, "storage_used": GIB,
        "storage_free": 100 * GIB, "intake_paused": "", "warnings": ("there is no backup",),
    }  # fmt: skip
    return views.ServerStatus(**{**fields, **changes})


def event(number: int = 1, kind: str = "job.started", **details: Any) -> views.EventView:
    return views.EventView(
        number=number, time=NOW, actor="server", kind=kind, version=1, project="villin", subject="57",
        details=details or {"jobs": ["57"]},
    )  # fmt: skip


def user(name: str = "alice", super_user: bool = False, disabled: bool = False) -> views.UserView:
    return views.UserView(name=name, super_user=super_user, disabled=disabled, created=NOW)


def why(id: str = "57") -> views.WhyView:
    reasons = (
        views.Reason(kind="version", text="needs gromacs/mdrun >= 2024; worker w1 has 2023.1", step="cpcc workers w1"),
        views.Reason(kind="ahead", text="5 jobs are before it"),
    )
    return views.WhyView(id=id, state="waiting", reasons=reasons)


def heartbeat(job: str = "57") -> views.HeartbeatView:
    return views.HeartbeatView(job=job, attempt=1, worker="w1", expires_in=93.4)


def setting(name: str = "heartbeat_time", value: str = "120") -> views.SettingView:
    return views.SettingView(
        name=name, value=value, default="120", text="a worker that is silent so long is lost", restart=False
    )


def bundle(name: str = "cluster") -> views.BundleView:
    return views.BundleView(
        name=name, role="worker", user="", created=NOW, expires=0, revoked=False, used=2, last_used=NOW
    )


def custody(id: str = "0123456789") -> views.CustodyView:
    return views.CustodyView(
        id=id, owner="77777777-0000-4000-8000-000000000000", job="57", attempt=1, worker="w1", since=NOW, size=1 << 20,
        trouble="server 77777777 is not connected",
    )  # fmt: skip


def token(name: str = "script") -> views.TokenView:
    return views.TokenView(name=name, user="alice", scope="read", created=NOW, expires=NOW + 10**12)


# --- networks ---


def instance(name: str = "sum", function: str = "float::add", state: str = "active", **changes: Any) -> Any:
    fields: dict[str, Any] = {"name": name, "path": name, "function": function, "state": state, "own": state}
    return network_views.InstanceView(**{**fields, **changes})


def fields(*names: str, type: str = "float", **changes: Any) -> tuple[network_views.FieldView, ...]:
    return tuple(network_views.FieldView(name=name, type=type, **changes) for name in names)


def item(**changes: Any) -> network_views.ItemView:
    """An instance."""
    given: dict[str, Any] = {
        "kind": "instance", "name": "sum", "path": "sum", "function": "float::add", "state": "active",
        "own": "active", "inputs": fields("a", "b"), "outputs": fields("c", set=True), "cpu_seconds": 3.2,
        "cpu_seconds_within": 12.6,
    }  # fmt: skip
    return network_views.ItemView(**{**given, **changes})


def top(*instances: network_views.InstanceView, **changes: Any) -> network_views.ItemView:
    """The project."""
    states: dict[str, int] = {}
    for one in instances:
        states[one.state] = states.get(one.state, 0) + 1
    given: dict[str, Any] = {
        "kind": "project", "name": "villin", "path": "", "instances": instances, "count": len(instances),
        "states": states,
    }  # fmt: skip
    return network_views.ItemView(**{**given, **changes})


def value(path: str, value: Any, type: str = "float") -> network_views.ValueView:
    return network_views.ValueView(path=path, type=type, set=value is not None, value=value)


def step(**changes: Any) -> network_views.StepView:
    given: dict[str, Any] = {
        "instance": "run", "number": 3, "function": "gromacs::mdrun", "version": "3.0.0", "opened": NOW,
        "closed": NOW + 5_000_000, "state": "closed",
        "inputs": (network_views.LinkView(source="prep:out.tpr", target="run:in.tpr"),),
        "jobs": (
            network_views.JobRunView(job="57", attempt=2, worker="w1", host="node1", program="gromacs/mdrun 2022.5"),
        ),
    }  # fmt: skip
    return network_views.StepView(**{**given, **changes})


def module(name: str = "float", **changes: Any) -> network_views.ModuleView:
    return network_views.ModuleView(**{"name": name, "version": "3.0.0", "desc": "Floating point numbers", **changes})


def info() -> network_views.InfoView:
    """A module."""
    add = network_views.FunctionView(name="float::add", kind="inline", desc="Adds: c=a+b.", inputs=fields("a", "b"))
    numbers = network_views.TypeView(name="float::numbers", base="array", member="float")
    return network_views.InfoView(name="float", desc="Numbers", version="3.0.0", functions=(add,), types=(numbers,))
