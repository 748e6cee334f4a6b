"""The script of an allocation: what the shell makes of it, whatever is in a pool's settings; and commands without a reactor."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from cpc.api.scheduler import NotConnected, Tools
from cpc.core.allocation import Wanted
from cpc.core.chance import SeededChance
from cpc.core.clock import SystemClock
from cpc.core.errors import BadInput, NotFound, TooLarge, Unavailable
from cpc.core.resources import Amounts
from cpc.plugins.schedulers.slurm import Slurm
from cpc.pools.allocation import Allocation, State
from cpc.pools.facts import Pool
from cpc.server.offline import wait
from cpc.server.pools import offline, script
from cpc.server.pools.means import Means
from cpc.worker.given import own
from tests.helpers.fake_batch import SYSTEMS, BatchSystem, FakeBatch
from tests.simulation.clock import VirtualReactor

POOL = Pool(number=1, name="h.p-c", scheduler="fake", each=Amounts(cores=3, memory=1 << 30), walltime=3600.0)


def tools() -> Tools:
    return Tools(offline.run, offline.http, SystemClock(), SeededChance(1))


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> FakeBatch:
    monkeypatch.setitem(SYSTEMS, "main", BatchSystem(VirtualReactor()))
    return FakeBatch(tools())


def allocation(pool: Pool = POOL, **more: object) -> Allocation:
    made = Allocation(
        token="cpc-1-1-1",
        pool=1,
        state=State.ASKED,
        asked_at=0.0,
        nodes=pool.nodes,
        each=pool.each,
        walltime=pool.walltime,
    )
    return replace(made, **more)


class Rig:
    """Runs a script with a worker that writes down how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.worker = directory / "odd 'name' of a worker"
        self.worker.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > args\ncat > stdin\nenv > env\nexit "${END:-0}"\n')
        self.worker.chmod(0o755)

    def run(self, wanted: Wanted, **env: str) -> int:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.directory), **env}
        done = subprocess.run(
            ["bash", "-s"], input=wanted.script, text=True, cwd=self.directory, env=environment, timeout=30, check=False
        )
        return done.returncode

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()


def test_the_worker_gets_the_bundle_on_stdin_and_what_it_needs_as_words(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    bundle = '{"a": "$HOME `id` \\" \'",\n "b": 1}'
    pool = replace(POOL, labels=("fast", "ib"), prologue="export FROM_PROLOGUE=1", wrap="nice -n 1")
    wanted = script.wanted(
        pool, Means(worker=str(rig.worker)), allocation(), scheduler, bundles=(bundle,), project="my.project"
    )
    assert rig.run(wanted) == 0
    assert rig.read("stdin") == bundle + "\n"
    words = rig.read("args").splitlines()
    assert words[:4] == ["-c", "-", "-wd", f"{tmp_path}/cpc-worker-{os.getuid()}-h.p-c"]
    options = dict(zip(words[4:-3:2], words[5:-3:2], strict=True))
    left = int(options["--until"].removeprefix("+"))
    assert 3600 - pool.margin + 40 <= left <= 3600 - pool.margin + 45
    assert options["--labels"] == "fast,ib"
    assert options["-p"] == "my.project"
    assert options["--memory"] == str(1 << 30)
    assert words[-3:] == ["smp", "-n", "3"]
    assert "FROM_PROLOGUE=1" in rig.read("env")


def test_the_script_ends_with_the_workers_exit_code(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    wanted = script.wanted(POOL, Means(worker=str(rig.worker)), allocation(), scheduler)
    assert rig.run(wanted, END="3") == 3


def test_a_signal_reaches_the_worker_and_its_end_is_waited_for(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    rig.worker.write_text(
        '#!/bin/bash\ntrap "echo told > told; exit 5" TERM\ncat > /dev/null\necho here > here\n'
        "while :; do read -t 0.05 <> <(:); done\n"
    )
    text = script.wanted(POOL, Means(worker=str(rig.worker)), allocation(), scheduler).script
    process = subprocess.Popen(["bash", "-s"], stdin=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ})
    try:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        while not (tmp_path / "here").exists():
            assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 5
        assert rig.read("told") == "told\n"
    finally:
        process.kill()


class OnEveryNode(FakeBatch):
    """Starts a worker on each of its nodes with a command that a SIGTERM would end at once."""

    def on_every_node(self, wanted: Wanted) -> str:
        return "env NODES=2"

    def end_every_node(self) -> str:
        return "echo asked > asked; touch go"


def test_workers_on_several_nodes_are_told_by_the_batch_systems_own_words(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    rig.worker.write_text(
        "#!/bin/bash\necho $NODES > here.new; mv here.new here; until [ -e go ]; do sleep 0.02; done\n"
    )
    pool = replace(POOL, nodes=2)
    wanted = script.wanted(pool, Means(worker=str(rig.worker)), allocation(pool), OnEveryNode(tools()))
    process = subprocess.Popen(["bash", "-s"], stdin=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ})
    try:
        assert process.stdin is not None
        process.stdin.write(wanted.script)
        process.stdin.close()
        while not (tmp_path / "here").exists():
            assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 0, "the worker was not killed"
        assert (rig.read("here"), rig.read("asked")) == ("2\n", "asked\n")
    finally:
        process.kill()


def test_no_worker_is_started_when_no_time_is_left(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    pool = replace(POOL, prologue="SECONDS=3599")
    assert rig.run(script.wanted(pool, Means(worker=str(rig.worker)), allocation(), scheduler)) == 0
    assert not (tmp_path / "args").exists()


def test_on_slurm_one_worker_is_started_on_each_node_and_all_read_the_bundle() -> None:
    slurm = Slurm(tools())
    pool = replace(POOL, nodes=4)
    wanted = script.wanted(pool, Means(), allocation(pool), slurm, bundles=("{}",))
    line = next(line for line in wanted.script.splitlines() if "cpc-worker -c" in line)
    assert line.startswith("srun --nodes=")
    assert line.endswith('<&"$bundle" {bundle}<&- &')
    assert wanted.nodes == 4
    inside = replace(pool, platform="slurm")
    line = next(
        line for line in script.wanted(inside, Means(), allocation(inside), slurm).script.splitlines() if "-c -" in line
    )
    assert line.startswith("cpc-worker -c -"), "one worker has all nodes"
    assert "slurm <&" in line


def test_direct_use_takes_one_job(scheduler: FakeBatch) -> None:
    assert " --jobs 1 " in script.wanted(POOL, Means(), allocation(direct=True), scheduler).script
    assert "--jobs" not in script.wanted(POOL, Means(), allocation(), scheduler).script


@pytest.mark.parametrize(
    ("pool", "means"),
    [
        (replace(POOL, prologue="a\rb"), Means()),
        (replace(POOL, environment={"1": "x"}), Means()),
        (replace(POOL, queue="-x"), Means()),
        (POOL, Means(output="a\nb")),
        (POOL, Means(directory="x")),
    ],
)
def test_what_no_batch_system_could_take_is_refused(pool: Pool, means: Means, scheduler: FakeBatch) -> None:
    with pytest.raises(BadInput):
        script.wanted(pool, means, allocation(), scheduler)


def test_one_of_a_series_takes_its_own_bundle_and_one_that_is_not_wanted_ends_at_once(
    tmp_path: Path, scheduler: FakeBatch
) -> None:
    rig = Rig(tmp_path)
    mine = allocation(token="cpc-1-1-7s-2")
    pool = replace(POOL, prologue='set -x; echo "$CPC_ALLOCATION" > prologue')
    wanted = script.wanted(
        pool, Means(worker=str(rig.worker)), mine, scheduler, bundles=('{"key": "first"}', "", '{"key": "third"}')
    )
    assert (wanted.token, wanted.count) == ("cpc-1-1-7s", 3)
    for index, key in ((0, "first"), (2, "third")):
        assert rig.run(wanted, CPC_ALLOCATION="cpc-1-1-7s", CPC_ALLOCATION_INDEX=str(index)) == 0
        assert rig.read("stdin") == f'{{"key": "{key}"}}\n'
        assert f"CPC_ALLOCATION=cpc-1-1-7s-{index}\n" in rig.read("env")
        assert rig.read("prologue") == f"cpc-1-1-7s-{index}\n"
        assert key not in rig.read("env") + rig.read("args")
    (tmp_path / "stdin").unlink()
    for index in (1, 3):
        assert rig.run(wanted, CPC_ALLOCATION="cpc-1-1-7s", CPC_ALLOCATION_INDEX=str(index)) == 0
        assert not (tmp_path / "stdin").exists()


def test_a_shell_that_traces_tells_no_bundle(tmp_path: Path, scheduler: FakeBatch) -> None:
    rig = Rig(tmp_path)
    pool = replace(POOL, prologue="exec 2> trace; set -x")
    for one in (allocation(), allocation(token="cpc-1-1-7s-0")):
        wanted = script.wanted(pool, Means(worker=str(rig.worker)), one, scheduler, bundles=('{"key": "hush"}',))
        assert rig.run(wanted, CPC_ALLOCATION="x", CPC_ALLOCATION_INDEX="0") == 0
        assert "hush" in rig.read("stdin")
        assert "worker" in rig.read("trace")
        assert "hush" not in rig.read("trace")


# --- commands without a reactor ---


def test_a_command_is_run_to_its_end_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    ran = wait(offline.run(["sh", "-c", 'cat; echo "$1" "$SECRET_OF_OURS" "$LC_ALL" >&2; exit 7', "sh", "$(id)"], "in"))
    assert (ran.code, ran.out, ran.err) == (7, "in", "$(id)  C\n")


def test_a_command_that_is_not_there_takes_too_long_or_says_too_much_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotFound, match="nosuch"):
        wait(offline.run(["nosuch"]))
    with pytest.raises(Unavailable, match="did not end within"):
        wait(offline.run(["sleep", "60"], timeout=0.2))
    monkeypatch.setattr(offline, "MAX_OUTPUT", 100)
    with pytest.raises(TooLarge):
        wait(offline.run(["head", "-c", "1000", "/dev/zero"]))
    assert wait(offline.run(["sh", "-c", "kill -9 $$"])).code == 137


class Page(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("X-Asked", f"{self.path} {self.headers['X-Own']}")
        self.end_headers()
        self.wfile.write(body.upper())

    def log_message(self, *_: object) -> None:
        return None


def test_an_http_server_is_asked_without_a_reactor(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        port = server.server_address[1]
        answer = wait(offline.http("POST", f"http://127.0.0.1:{port}/a?b=c", {"X-Own": "d"}, b"body"))
        thread.join()
    assert (answer.status, answer.body, answer.headers["x-asked"]) == (201, b"BODY", "/a?b=c d")
    with pytest.raises(NotConnected):
        wait(offline.http("GET", f"http://127.0.0.1:{port}/", timeout=5.0))
    with pytest.raises(NotConnected):
        wait(offline.http("GET", f"unix://{tmp_path}/nosuch:/x"))
    for url in ("unix:///x", "ftp://x/", "http://[x/"):
        with pytest.raises(BadInput):
            wait(offline.http("GET", url))


def test_a_work_directory_that_somebody_else_has_made_is_not_used(tmp_path: Path) -> None:
    mine, planted, link = tmp_path / "mine", tmp_path / "planted", tmp_path / "link"
    mine.mkdir()
    planted.mkdir()
    user = os.geteuid()
    own(str(mine), user)
    if user:
        other = user + 1  # to this one, what we have made is somebody else's
    else:
        other = user
        os.chown(planted, 65534, -1)
    link.symlink_to(planted)
    for path in (planted, link):
        with pytest.raises(BadInput, match="belongs to another user"):
            own(str(path), other)
