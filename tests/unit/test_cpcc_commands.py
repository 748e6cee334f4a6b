"""cpcc as people use it: the original's commands and messages, one line for each refusal, the right exit code."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client.commands.status import event_line
from cpc.client.output import when
from cpc.core.views import EventView
from cpc.wire import bundle
from tests.helpers.cpcc_person import Person
from tests.helpers.small_server import SmallServer
from tests.helpers.small_server_world import NOW, Output


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


@pytest.fixture
def cpcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Person:
    return Person(tmp_path, monkeypatch, capsys)


@pytest.fixture
def alice(api: SmallServer, cpcc: Person) -> Person:
    return cpcc.join(api)


# --- servers and people ---


def test_times_in_events_are_times_for_people() -> None:
    details = {"name": "lab", "expires": NOW, "size": NOW}
    event = EventView(
        number=7, time=NOW, kind="bundle.made", actor="server", version=1, project="", subject="", details=details
    )
    line = event_line(event)
    day = when(NOW).replace(" ", "T")
    assert line.endswith(f"name=lab expires={day} size={NOW}")


def test_a_server_is_added_only_when_somebody_has_compared_its_fingerprint(api: SmallServer, cpcc: Person) -> None:
    where = ("127.0.0.1", str(api.port))
    assert "fingerprint" in cpcc("add-server", *where, code=1).err
    assert "another fingerprint" in cpcc.refused("add-server", "--fingerprint", "00" * 32, *where)
    assert "no server" in cpcc.refused("projects")
    cpcc("add-server", "-n", "lab", "--fingerprint", api.authority.fingerprint, *where)
    assert "already exists" in cpcc.refused("add-server", "-n", "lab", "--yes", *where)
    assert cpcc("list-server").out == f"Servers:\nlab (default):\n   host: 127.0.0.1\n   port: {api.port}\n"


def test_what_is_remembered_is_readable_by_its_owner_only(alice: Person) -> None:
    for path in alice.home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(alice.home.stat().st_mode) & 0o077 == 0


def test_a_damaged_memory_is_named_with_what_to_do(alice: Person) -> None:
    (alice.home / "clients.json").write_text('{"servers": [')
    assert "clients.json" in alice.refused("projects")


def test_several_servers_are_told_apart(api: SmallServer, alice: Person, tmp_path: Path) -> None:
    with SmallServer(tmp_path, "srv-2") as other:
        alice("add-server", "-n", "second", "--yes", other.host, str(other.port))
        assert alice("server-info", "--json").data["id"] == "srv-2"
        alice("use-server", "lab")
        assert alice("server-info", "--json").data["id"] == "srv-1"
        assert "nosuch" in alice.refused("use-server", "nosuch")


def test_a_login_lasts_until_logout(api: SmallServer, cpcc: Person) -> None:
    cpcc("add-server", "--fingerprint", api.authority.fingerprint, api.host, str(api.port))
    assert "log in" in cpcc.refused("projects")
    assert "wrong user name or password" in cpcc.refused("login", "-stdin", "alice", stdin="bad\n")
    assert cpcc("login", "--stdin", "alice", stdin="pw1\n").out == "Logged in as alice\n"
    assert cpcc("whoami").out == "alice (Regular user)\n"
    cpcc("logout")
    assert "log in" in cpcc.refused("whoami")


def test_users_are_made_raised_lowered_and_deleted(api: SmallServer, cpcc: Person) -> None:
    admin = cpcc.join(api, "cpc-admin", "root")
    assert admin("add-user", "--stdin", "bob", stdin="pw\n").out == "Created user bob\n"
    assert "super user" in admin("promote-user", "bob").out
    assert "regular user" in admin("demote-user", "bob").out
    assert admin("users").out.splitlines()[0] == "Users:"
    assert admin("delete-user", "bob").out == "Deleted user bob\n"
    assert "bob" in admin.refused("delete-user", "bob")


def test_what_a_regular_user_may_not_do_is_refused_by_the_server(alice: Person) -> None:
    for words in (("add-user", "--stdin", "eve"), ("stop-server",), ("readconf",), ("drain", "w1", "disk"), ("audit",)):
        assert "not a super user" in alice.refused(*words, stdin="pw\n")


def test_a_bundle_is_a_login_and_an_address(api: SmallServer, cpcc: Person) -> None:
    path = cpcc.place / "alice.cnx"
    pem = api.authority.certificate_pem.decode()
    made = bundle.Bundle(
        role="client", name="laptop", server="srv-1", server_name="lab", authority=pem,
        client_addresses=((api.host, api.port),), token="alice-token",
    )  # fmt: skip
    bundle.write(made, path)
    assert cpcc("whoami", "-c", str(path)).out == "alice (Regular user)\n"
    assert cpcc("-c", str(path), "jobs", "-p", "villin", "--quiet").out == ""
    assert "nosuch.cnx" in cpcc.refused("projects", "-c", "nosuch.cnx")


# --- projects ---


def test_projects_come_and_go(api: SmallServer, alice: Person) -> None:
    assert alice("start", "demo").out == "Project created: demo\n"
    assert alice("pwd").out == "Working project: demo\n"
    assert "already" in alice.refused("start", "demo")
    assert alice("set-default", "villin").out == "Changed to project: villin\n"
    assert alice("get-default").out == "Working project: villin\n"
    assert alice("p", "--quiet").out == "villin\ndemo\n"
    assert "demo" in alice("rm", "demo").out
    assert "nosuch" in alice.refused("cd", "nosuch")
    assert alice("pwd").out == "Working project: villin\n"


def test_no_project_is_said_in_one_line(api: SmallServer, cpcc: Person) -> None:
    cpcc("add-server", "--yes", api.host, str(api.port))
    cpcc("login", "-stdin", "alice", stdin="pw1\n")
    assert cpcc.refused("pwd").lower().startswith("no project selected")
    assert cpcc.refused("jobs").lower().startswith("no project selected")


def test_access_is_granted_and_taken_back(api: SmallServer, alice: Person) -> None:
    alice("grant-access", "cpc-admin", "--role", "viewer")
    assert {one.user: one.role for one in api.world.projects["villin"].members}["cpc-admin"] == "viewer"
    alice("revoke-access", "cpc-admin")
    assert [one.user for one in api.world.projects["villin"].members] == ["alice"]


def test_the_project_may_be_named_anywhere(api: SmallServer, alice: Person) -> None:
    alice("start", "demo")
    for words in (("-p", "villin", "submit", "--", "a"), ("submit", "-p", "villin", "--", "a", "-p", "demo")):
        number = alice(*words, "--quiet").out if "--" not in words else alice(*words).out
        assert "villin" in number
    assert [job.project for job in api.world.jobs.values()] == ["villin", "villin"]
    assert api.world.specs["58"].argv == ("a", "-p", "demo"), "nothing is taken after --"
    assert "-p" in alice.refused("jobs", "-p", code=2)


# --- jobs ---


def test_a_submission_says_everything_about_the_job(api: SmallServer, alice: Person) -> None:
    (alice.place / "in.gro").write_text("water\n")
    (alice.place / "numbers").write_text("1 2 3\n")
    said = alice(
        "submit", "-n", "2", "--max-cores", "8", "--gpus", "1", "--memory", "2G", "--walltime", "1:30:00", "--priority",
        "-3", "--executable", "gromacs/mdrun", "--versions", ">=2022", "--label", "fast", "--input", "in.gro:conf.gro",
        "--output", "*.xtc", "--checkpoint", "*.cpt", "--env", "A=b=c", "--stdin", "numbers", "--max-failures", "3",
        "--max-losses", "9", "--name", "villin run", "--need", "licence=2", "--", "-deffnm", "a b", "$HOME;*",
    )  # fmt: skip
    assert "57" in said.out
    spec = api.world.specs["57"]
    assert spec.argv == ("-deffnm", "a b", "$HOME;*")
    assert (spec.need.cores, spec.need.gpus, spec.need.memory, spec.need.other) == (2, 1, 2 << 30, {"licence": 2})
    assert (spec.max_cores, spec.walltime, spec.priority) == (8, 5400.0, -3)
    assert (spec.executable, spec.versions, spec.labels) == ("gromacs/mdrun", ">=2022", ("fast",))
    assert (spec.outputs, spec.checkpoint, spec.env) == (("*.xtc",), ("*.cpt",), {"A": "b=c"})
    assert (spec.max_failures, spec.max_losses, spec.name) == (3, 9, "villin run")
    inputs = {entry.path: api.world.files[entry.content.digest.hex()] for entry in spec.inputs}
    assert inputs == {"conf.gro": b"water\n", spec.stdin: b"1 2 3\n"}


def test_arrays_come_from_a_count_or_a_csv(api: SmallServer, alice: Person) -> None:
    (alice.place / "p.csv").write_text("seed,temp\n1,300\n2,310\n")
    assert alice("submit", "--from-csv", "p.csv", "--quiet", "--", "sim", "{seed}", "{temp}").out == "57\n"
    assert api.world.jobs["57[1]"].command == "sim 2 310"
    alice("submit", "--array", "3", "--after", "57", "--pairwise", "--", "x", "{index}", code=0)
    assert api.world.specs["58"].after[0].pairwise
    alice("submit", "--after-end", "57[0]", "--", "x")
    assert api.world.specs["59"].after[0].on == "end"


def test_a_dry_run_stores_nothing_and_says_what_would_hinder(api: SmallServer, alice: Person) -> None:
    assert "no worker has gromacs/mdrun" in alice("submit", "--dry-run", "--", "x").out
    assert not api.world.jobs


@pytest.mark.parametrize(
    ("words", "code", "about"),
    [
        (("submit", "--"), 2, "command"),
        (("submit", "--priority", "99", "--", "x"), 2, "99"),
        (("submit", "--memory", "lots", "--", "x"), 1, "lots"),
        (("submit", "--walltime", "soon", "--", "x"), 1, "soon"),
        (("submit", "--env", "A", "--", "x"), 2, "A"),
        (("submit", "--input", "nosuch", "--", "x"), 1, "nosuch"),
        (("submit", "--from-csv", "nosuch", "--", "x"), 1, "nosuch"),
        (("submit", "--nosuch", "--", "x"), 2, "nosuch"),
        (("submit", "--input", "../x:../../etc/passwd", "--", "x"), 1, "passwd"),
        (("job", "abc"), 1, "abc"),
        (("bogus",), 2, "bogus"),
        (("job",), 2, "ID"),
    ],
)
def test_a_wrong_submission_is_one_line_and_nothing_is_done(
    api: SmallServer, alice: Person, words: tuple[str, ...], code: int, about: str
) -> None:
    (alice.place.parent / "x").write_text("")
    said = alice(*words, code=code)
    assert about in said.err
    assert said.err.startswith("cpcc: ")
    assert said.err.count("\n") == 1
    assert not api.world.jobs


def test_jobs_are_listed_shown_and_explained(api: SmallServer, alice: Person) -> None:
    alice("submit", "--name", "first", "--", "md", "-x")
    alice("submit", "--array", "2", "--", "sim")
    api.world.start("57")
    assert alice("jobs", "--quiet").out.split() == ["58[1]", "58[0]", "57"]
    assert alice("jobs", "--state", "running", "--quiet").out.split() == ["57"]
    assert "md -x" in alice("job", "57").out
    assert "2 waiting" in alice("job", "58").out
    queue = alice("q").out
    assert queue.index("Queued") < queue.index("58[0]") < queue.index("Running") < queue.index("57 ")
    assert alice("r").out.startswith("Running:")
    assert alice("h").out.startswith("Heartbeat items:")
    assert "needs gromacs/mdrun ≥ 2023; worker w1 has 2022.5" in alice("why", "58[0]").out
    assert "1 worker" in alice("s").out
    assert "w1" in alice("workers").out


def test_a_job_is_moved_through_its_life(api: SmallServer, alice: Person) -> None:
    alice("submit", "--", "x")
    api.world.start("57")
    alice("command-failed", "57")
    assert api.world.jobs["57"].state == "waiting"
    assert "not running" in alice.refused("command-failed", "57")
    alice("priority", "57", "-5")
    assert api.world.jobs["57"].priority == -5
    alice("cancel", "57")
    alice("retry", "57")
    assert "not ended" in alice.refused("forget", "57")
    api.world.end("57")
    alice("forget", "57")
    assert not api.world.jobs


def test_wait_tells_whether_all_have_succeeded(api: SmallServer, alice: Person) -> None:
    for _ in range(2):
        alice("submit", "--", "x")
    api.world.end("57")
    api.world.end("58", state="failed", exit_code=2)
    alice("wait", "57")
    alice("wait", "57", "58", code=1)
    assert "99" in alice.refused("wait", "99")


def test_results_are_fetched_to_where_they_belong(api: SmallServer, alice: Person) -> None:
    alice("submit", "--array", "2", "--", "x")
    for index in range(2):
        api.world.end(f"57[{index}]", outputs=[Output(b"out/a.txt", b"%d" % index)])
    alice("fetch", "57[1]", "-o", "one")
    assert (alice.place / "one/out/a.txt").read_bytes() == b"1"
    alice("fetch", "57", "-o", "all")
    assert sorted(path.read_bytes() for path in (alice.place / "all").rglob("a.txt")) == [b"0", b"1"]
    (alice.place / "one/out/a.txt").write_text("mine")
    assert "--force" in alice.refused("fetch", "57[1]", "-o", "one")
    alice("fetch", "57[1]", "-o", "one", "--force")
    assert "nosuch" in alice.refused("fetch", "57[1]", "nosuch")


def test_logs_are_shown_as_they_are(api: SmallServer, alice: Person) -> None:
    alice("submit", "--", "x")
    api.world.logs["57", "stdout"] = "step 1 ⚛\n".encode() * 3
    api.world.logs["57", "stderr"] = b"warning\n"
    api.world.end("57")
    assert alice("logs", "57").out == "step 1 ⚛\n" * 3
    assert alice("logs", "-f", "57").out == "step 1 ⚛\n" * 3
    assert alice("logs", "57", "--stderr").out == "warning\n"


# --- output ---


def test_a_hostile_name_cannot_steer_the_terminal(api: SmallServer, alice: Person) -> None:
    alice("submit", "--", "\x1b[2Jgone\r\n")
    for words in (("jobs",), ("job", "57"), ("queue",)):
        said = alice(*words)
        assert "\x1b" not in said.out
        assert "\r" not in said.out


def test_what_reads_our_output_may_leave(api: SmallServer, alice: Person) -> None:
    import subprocess
    import sys

    alice("submit", "--array", "3000", "--quiet", "--", "x" * 80)
    command = f"{sys.executable} -m cpc.client.main jobs --all | head -1"
    found = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, env=os.environ, check=False
    )
    assert found.stdout.startswith("job")
    assert found.stderr == ""


def test_cpcc_starts_without_anything_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, cpc.client.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"twisted", "cryptography", "sqlalchemy", "OpenSSL", "asyncio", "http.client", "ssl"} & set(loaded)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_each_shell(cpcc: Person, shell: str) -> None:
    assert "cpcc" in cpcc("completion", shell).out


def test_a_dead_server_is_named_with_likely_causes(api: SmallServer, alice: Person) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    said = alice.refused("add-server", "-n", "dead", "127.0.0.1", str(port))
    assert f"127.0.0.1 port {port}" in said
    assert "port" in said.partition("(")[2]
