"""`--json` and `--quiet`: every command that prints data has a documented shape, and says nothing else on stdout."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.client.main import ALIASES, COMMANDS
from cpc.core.errors import BadInput, NotFound
from cpc.core.network_views import Changed, ExplainView, NetworkView, TransactionView
from cpc.core.pool_views import PoolForgotten, PoolPlan
from cpc.core.views import FileView, LogView, MemberView, Page, Submitted
from tests.helpers import fake_pools
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import FakeApi, Raw, fake_api

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeApi]:
    with fake_api(tmp_path_factory.mktemp("door")) as running:
        _script(running)
        yield running


@pytest.fixture
def cpcc(api: FakeApi, tmp_path: Path) -> Cpcc:
    api.configure(tmp_path / "home")
    return Cpcc(tmp_path / "home")


def _script(api: FakeApi) -> None:
    user = sample.user("alice", super_user=True)
    api.on("GET", "/whoami", user)
    api.on("GET", "/users", [user, sample.user("bob")])
    api.on("PATCH", "/users/bob", sample.user("bob", super_user=True))
    api.on("PUT", "/projects/villin/members/bob", MemberView(user="bob", role="viewer"))
    api.on("GET", "/projects", [sample.project()])
    api.on("GET", "/projects/villin", sample.project())
    api.on("PATCH", "/projects/villin", sample.project())
    api.on("POST", "/projects", sample.project("fresh"))
    api.on("GET", "/status", sample.status(api.info))
    api.on("GET", "/jobs", [sample.job("57", state="running", worker="w1", started=sample.NOW)])
    api.on("GET", "/projects/villin/jobs", [sample.job("57"), sample.job("58[0]", state="failed", ended=sample.NOW)])
    api.on("GET", "/projects/villin/arrays", [sample.array()])
    api.on("POST", "/projects/villin/jobs", Submitted(id="57", size=1))
    api.on("GET", "/jobs/57", sample.detail(state="succeeded", history=(sample.attempt(),), tail="the end"))
    api.on("GET", "/jobs/58", sample.array(succeeded=2, failed=1))
    api.on("GET", "/jobs/57/why", sample.why())
    api.on("POST", "/jobs/57/cancel", Raw(b'{"cancelled": 1}'))
    api.on("POST", "/jobs/57/retry", Submitted(id="57", size=1))
    api.on("GET", "/jobs/57/logs", LogView(stream="stdout", offset=0, data="hello\n", end=True, next=6))
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    url = "/api/v1/jobs/57/outputs/x.txt"
    file = FileView(path="x.txt", kind="file", size=5, digest=digest, mode=0o644, target="", url=url)
    api.on("GET", "/jobs/57/outputs", [file])
    api.on("GET", "/jobs/57/outputs/x.txt", Raw(b"hello"))
    api.on("GET", "/pools", [fake_pools.pool_view()])
    api.on("GET", "/pools/hpc", fake_pools.pool_view())
    api.on("POST", "/pools", fake_pools.pool_view())
    api.on(
        "POST", "/pools/plan", PoolPlan(call="sbatch --parsable", script="#!/bin/bash\n", checks=(fake_pools.CHECK,))
    )
    api.on("PATCH", "/pools/hpc", fake_pools.pool_view())
    api.on("POST", "/pools/hpc/pause", fake_pools.pool_view(state="paused"))
    api.on("POST", "/pools/hpc/resume", fake_pools.pool_view())
    gone = PoolForgotten(pool="hpc", scheduler="theirs", left=(fake_pools.allocation_view(),))
    api.on("POST", "/pools/hpc/forget", gone)
    api.on("GET", "/pools/hpc/why", fake_pools.why_view())
    api.on("GET", "/pools/hpc/doctor", [fake_pools.CHECK])
    api.on("POST", "/pools/hpc/probe", fake_pools.probe_view(done=True, checks=(fake_pools.DOUBT,)))
    api.on("GET", "/allocations", [fake_pools.allocation_view()])
    api.on("GET", "/allocations/7", fake_pools.allocation_view())
    api.on("POST", "/allocations/7/cancel", fake_pools.allocation_view(state="leaving"))
    api.on("GET", "/nodes", [fake_pools.node_view()])
    api.on("POST", "/nodes/n1/drain", fake_pools.node_view(state="draining"))
    api.on("POST", "/nodes/n1/resume", fake_pools.node_view(state="idle"))
    api.on("GET", "/workers", [sample.worker()])
    api.on("GET", "/workers/w1", sample.worker())
    api.on("POST", "/workers/w1/drain", sample.worker(state="draining", note="new disk"))
    api.on("POST", "/workers/w1/resume", sample.worker())
    api.on("GET", "/heartbeats", [sample.heartbeat()])
    api.on("GET", "/events", lambda call: Page(items=(sample.event(1),) if call.query["after"] == "0" else ()))
    api.on("GET", "/audit", [sample.event(1, "user.created", name="bob")])
    api.on("GET", "/bundles", [sample.bundle()])
    api.on("GET", "/custody", [sample.custody()])
    api.on("DELETE", "/custody/0123456789", sample.custody())
    api.on("GET", "/tokens", [sample.token()])
    api.on("GET", "/settings", [sample.setting()])
    api.on("PUT", "/settings/heartbeat_time", sample.setting(value="60"))
    _script_networks(api)


def _script_networks(api: FakeApi) -> None:
    def on(method: str, what: str, answer: Any) -> None:
        api.on(method, f"/projects/villin/{what}", answer)

    api.on("GET", "/modules", [sample.module()])
    on("POST", "edits", Changed(lines=("Set sum:in.a to 3",)))
    on("POST", "transaction", TransactionView(level=1))
    on("GET", "transaction", TransactionView(level=1, edits=("Set sum:in.a to 3",), changes=("sum:out.c: 3 to 7",)))
    on("POST", "transaction/commit", Changed(lines=("Set sum:in.a to 3",)))
    on("DELETE", "transaction", TransactionView(level=1))
    on("GET", "item", sample.top(sample.instance()))
    on("GET", "value", sample.value("sum:out.c", 7.0))
    on("GET", "instance-log", LogView(stream="log", offset=0, data="hello\n", end=True, next=6))
    on("GET", "network", NetworkView(path="", instances=(sample.instance(),), count=1))
    on("GET", "explain", ExplainView(path="run:out.conf", step=sample.step()))
    on("GET", "info", sample.info())
    on("GET", "archive", Raw(gzip.compress(b"saved")))


#: command line → kind, a text that people see, what --quiet prints
CASES = [
    ("list-server", "servers", "lab (default):", "lab"),
    ("server-info", "server-info", "Server id:", "5e4fe2a1-0000-4000-8000-000000000001"),
    ("ping", "ping", "OK", ""),
    ("version", "version", "Server version: 3.0.0 (lab)", None),
    ("whoami", "user", "alice (Super user)", "alice"),
    ("users", "users", "Users:\n   alice (Super user)\n   bob (Regular user)", "alice\nbob"),
    ("promote-user bob", "user", "bob is now a super user", "bob"),
    ("grant-access bob viewer", "member", "Granted access to user bob on project villin as viewer", "bob"),
    ("start fresh", "project", "Project created: fresh", "fresh"),
    ("cd villin", "project", "Changed to project: villin", "villin"),
    ("pwd", "current-project", "Working project: villin", "villin"),
    ("projects", "projects", "Projects:\n   name    owner  files", "villin"),
    ("set-quota villin 50G", "project", "50.0 GiB", "villin"),
    ("status", "status", "Project villin (current project):\n   2 commands in queue\n   1 command running", ""),
    ("status villin", "status", "   2 commands in queue", ""),
    ("queue", "queue", "Queued\n", "57\n57"),
    ("running", "jobs", "Running:\n", "57"),
    ("heartbeats", "heartbeats", "Heartbeat items:\n", "57"),
    ("jobs", "jobs", "mdrun -s topol.tpr", "57\n58[0]"),
    ("jobs --arrays", "arrays", "sim {seed}", "58"),
    ("job 57", "job", "the end of its output:\nthe end", "succeeded"),
    ("job 58", "array", "2 succeeded, 1 failed", "succeeded 2\nfailed 1"),
    ("submit -- true", "submitted", "Submitted job 57 to project villin", "57"),
    ("wait 57", "ended", "Job 57 has succeeded", ""),
    ("cancel 57", "cancelled", "Cancelled 1 job.", ""),
    ("retry 57", "retried", "1 job of 57 waits again.", "57"),
    (
        "why 57",
        "why",
        "57 is waiting:\n   - needs gromacs/mdrun >= 2024; worker w1 has 2023.1  (cpcc workers w1)",
        None,
    ),
    ("logs 57", "log", "hello\n", "hello"),
    ("fetch 57 --list", "files", "x.txt", "x.txt"),
    ("workers", "workers", "6/8", "w1"),
    ("workers w1", "worker", "gromacs/mdrun 2023.1", "w1"),
    ("drain w1 new disk", "worker", "Worker w1 is draining: new disk", "w1"),
    ("resume w1", "worker", "Worker w1 gets jobs again.", "w1"),
    ("pools", "pools", "hpc   slurm      active", "hpc"),
    ("pools hpc", "pool", "2 running", "hpc"),
    ("pool add hpc slurm --cores 4 conf=/etc/slurm.conf", "pool", "Pool hpc is there", "hpc"),
    (
        "pool add hpc slurm --dry-run",
        "pool-plan",
        "sbatch --parsable\n\n    #!/bin/bash\n\nok   munge",
        "sbatch --parsable",
    ),
    ("pool set hpc --idle 5m", "pool", "15m 00s", "hpc"),
    ("pool set hpc --no-env --no-program --env A= --project-limit p=", "pool", "15m 00s", "hpc"),
    ("pool pause hpc new fan", "pool", "Pool hpc is paused; 3 allocation(s) of it go on.", "hpc"),
    ("pool resume hpc", "pool", "Pool hpc is asked for workers again.", "hpc"),
    ("pool rm --forget hpc", "forgotten", "7   4711  cpc-00000000-1-7  running", "4711"),
    ("why hpc", "why", "Pool hpc is active:\n   - hpc: no job waits", "idle"),
    ("doctor hpc", "checks", "ok   munge: credentials are made and accepted", ""),
    (
        "doctor hpc --node n1",
        "checks",
        "warn clocks: the clock of n1 is 40s behind this machine's\n       set both by NTP",
        "",
    ),
    ("allocations hpc --live", "allocations", "12 jobs of commands wait", "7"),
    ("allocation show 7", "allocation", "cpc-00000000-1-7", "7"),
    ("allocation cancel 7 wrong", "allocation", "Allocation 7 of pool hpc is being cancelled.", "7"),
    ("nodes", "nodes", "16.0 GiB     -1.0 GiB", "n1"),
    ("drain --pool hpc n1 new fan", "node", "Node n1 is draining; 1 job(s) of ours run there: 57", "n1"),
    ("resume --pool hpc n1", "node", "Node n1 is idle; its workers get jobs again.", "n1"),
    ("events", "events", "job.started", "1"),
    ("audit", "audit", "user.created", "1"),
    ("bundles", "bundles", "cluster", "cluster"),
    ("custody", "custody", "57 attempt 1", "0123456789"),
    ("custody-drop 0123456789", "custody-dropped", "Gave up 1 result", "0123456789"),
    ("custody-drop --all", "custody-dropped", "Gave up 1 result", "0123456789"),
    ("tokens", "tokens", "script", "script"),
    ("config", "settings", "heartbeat_time", "heartbeat_time=120"),
    ("config heartbeat_time", "setting", "120", "120"),
    ("config heartbeat_time 60", "setting", "heartbeat_time = 60", "60"),
    ("list-modules", "modules", "float  3.0.0    Floating point numbers", "float"),
    ("import float", "changed", "Set sum:in.a to 3", "Set sum:in.a to 3"),
    ("info float", "info", "library float 3.0.0\n Numbers\n functions:\n    add\n        Adds: c=a+b.", None),
    ("ls", "item", "Network villin:\nFunction instances:\n   sum (active)", "sum"),
    ("get sum:out.c", "value", "sum:out.c: 7", "7"),
    ("set sum:in.a 3", "changed", "Set sum:in.a to 3", "Set sum:in.a to 3"),
    ("transact", "transaction", "Beginning transaction level 1", "1"),
    ("diff", "transaction", "   sum:out.c: 3 to 7", "sum:out.c: 3 to 7"),
    ("commit", "changed", "Set sum:in.a to 3", "Set sum:in.a to 3"),
    ("rollback", "transaction", "Canceling transaction level 1", "1"),
    ("log sum", "instance-log", "hello\n", "hello"),
    ("graph -o {directory}/net.svg", "network", "Drew 1 instance into ", "{directory}/net.svg"),
    ("explain run:out.conf", "explained", "by job 57, attempt 2, worker w1 on node1", "run:out.conf"),
    ("save villin {directory}/v.tar.gz --force", "saved", "Saved villin to ", "{directory}/v.tar.gz"),
    ("completion fish", "completion", "_CPCC_COMPLETE", ""),
]


@pytest.mark.parametrize(("line", "kind", "shown", "quiet"), CASES)
def test_each_command_speaks_to_people_programs_and_scripts(
    cpcc: Cpcc, tmp_path: Path, line: str, kind: str, shown: str, quiet: str | None
) -> None:
    words = line.format(directory=tmp_path).split()
    people = cpcc(*words)
    assert people.code == 0, people.err
    assert shown in people.out
    program = cpcc("--json", *words)
    said = json.loads(program.out)
    assert (said["copernicus"], said["kind"]) == (1, kind)
    script = cpcc("--quiet", *words)
    assert script.err == ""
    if quiet is not None:
        assert script.out.strip() == quiet.format(directory=tmp_path)


def test_a_name_that_is_neither_of_two_things_is_said_to_be_neither(api: FakeApi, cpcc: Cpcc) -> None:
    for act in ("drain", "resume"):
        api.on("POST", f"/workers/n9/{act}", NotFound("there is no worker 'n9'", "see `cpcc workers`"))
        api.on("POST", f"/nodes/n9/{act}", NotFound("no pool has a node n9", "see `cpcc nodes`"))
        said = cpcc(act, "n9", *(("new", "fan") if act == "drain" else ()))
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("cpcc: there is no worker 'n9', and no pool has a node n9 (")
    api.on("GET", "/jobs/hcp/why", BadInput("'hcp' is not an id", "ids look like 57"))
    api.on("GET", "/pools/hcp/why", NotFound("there is no pool 'hcp'"))
    said = cpcc("why", "hcp")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("cpcc: there is no pool 'hcp', and that is no job's id (")
    api.on("GET", "/jobs/99/why", NotFound("there is no job 99"))
    api.on("GET", "/pools/99/why", NotFound("there is no pool '99'"))
    assert "there is no job 99" in cpcc("why", "99").err


def test_a_node_that_is_still_down_after_it_was_resumed_is_said_to_be_resumed(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("POST", "/workers/n8/resume", NotFound("there is no worker 'n8'"))
    api.on("POST", "/nodes/n8/resume", fake_pools.node_view(name="n8", state="down"))
    assert "n8 is resumed, and still down for its batch system" in cpcc("resume", "n8").out


def test_what_is_doubtful_about_a_pool_is_one_line_of_its_own(api: FakeApi, cpcc: Cpcc) -> None:
    words = "the server listens on 127.0.0.1 only: workers on n1 cannot reach it (cpc-server config listen ADDRESS)"
    api.on("POST", "/pools", fake_pools.pool_view(name="far", warnings=(words,)))
    added = cpcc("pool", "add", "far", "slurm")
    assert (added.code, added.out.strip()) == (0, "Pool far is there; it is asked for workers as jobs need them.")
    assert added.err.strip() == f"warning: {words}"
    api.on("POST", "/pools", fake_pools.pool_view())
    assert cpcc("pool", "add", "hpc", "slurm").err == ""
    bodies: list[dict[str, Any]] = []
    api.on("PATCH", "/pools/hpc", lambda call: bodies.append(json.loads(call.body)) or fake_pools.pool_view())
    cpcc("pool", "set", "hpc", "--no-env", "--env", "A=", "--env", "B=2", "--project-limit", "p=", "--program", "x 1")
    (body,) = bodies
    assert body["clear"] == ["environment"]
    assert body["settings"]["environment"] == {"A": None, "B": "2"}
    assert body["settings"]["project_limits"] == {"p": None}
    assert body["settings"]["programs"] == ["x 1"]
    api.on("PATCH", "/pools/hpc", fake_pools.pool_view())


def documented() -> set[str]:
    text = (ROOT / "docs/reference/json.md").read_text()
    return set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))


def used() -> set[str]:
    """The first argument of every `out.data` and `out.line` in the commands."""
    found = set()
    for path in (ROOT / "cpc/client/commands").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("data", "line")
            ):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found | {"events", "audit"}  # these two go through one function


def test_every_kind_is_documented_and_every_documented_kind_exists() -> None:
    assert used() == documented()


def test_every_command_exists_and_has_a_help_text(tmp_path: Path) -> None:
    cpcc = Cpcc(tmp_path)
    for name in [*COMMANDS, *ALIASES]:
        said = cpcc(name, "--help")
        assert said.code == 0, name
        assert len(said.out.splitlines()) > 3, name
    original = ("cs", "list-nodes", "connect-node", "set-pri", "change-node-priority", "q", "h", "rm", "get-file")
    assert set(original) <= {*COMMANDS, *ALIASES}, "what users of the original have in their fingers"
    assert cpcc("help", "submit").out == cpcc("submit", "--help").out
