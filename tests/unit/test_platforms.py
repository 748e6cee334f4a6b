"""Platforms: what they offer, and what each attempt is given."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from cpc.api import Amounts, Found, Gpu, Node
from cpc.core.errors import BadInput, NotFound, Unavailable
from cpc.plugins.platforms.cray import Cray
from cpc.plugins.platforms.mpi import Mpi
from cpc.plugins.platforms.slurm import GENTLY, LOST, Slurm
from cpc.plugins.platforms.smp import Smp
from cpc.wire.messages import Lease, Task
from cpc.worker import platforms
from cpc.worker.platforms import platform_class, platform_names
from cpc.worker.programs import Programs

NODE = Node("n1", 8, 16 << 30, 12 << 30, (Gpu("0"), Gpu("GPU-abc"), Gpu("2")))
PLAIN = Node("n1", 8, 16 << 30, 12 << 30)


@pytest.fixture
def mpirun(tmp_path: Path) -> dict[str, str]:
    """An environment whose mpirun records its arguments and its host file, then runs the program once."""
    path = tmp_path / "bin" / "mpirun"
    path.parent.mkdir()
    path.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$RECORD"\n'
        'while [ $# -gt 0 ]; do case $1 in\n-np|--map-by) shift 2;; -hostfile) cp "$2" "$RECORD.hosts"; shift 2;;\n'
        '*) exec "$@";; esac; done\n'
    )
    path.chmod(0o755)
    return {"PATH": f"{path.parent}:/usr/bin:/bin", "RECORD": str(tmp_path / "record")}


def hosts(tmp_path: Path, text: str) -> str:
    path = tmp_path / "hosts"
    path.write_text(text)
    return str(path)


def lines(directory: Path) -> list[str]:
    return (directory / "hostfile").read_text().splitlines()


def test_smp_offers_the_node() -> None:
    assert Smp(NODE, {}).total() == Amounts(cores=8, gpus=3, memory=16 << 30)
    few = Smp(NODE, {"cores": 4, "cores_per_job": 2})
    assert (few.total().cores, few.cores_per_job) == (4, 2)


def test_smp_gives_each_attempt_gpus_of_its_own_and_hides_the_others() -> None:
    smp = Smp(NODE, {})
    assert smp.acquire("a", Amounts(cores=1, gpus=2), "/").env == {"CUDA_VISIBLE_DEVICES": "0,GPU-abc"}
    assert smp.acquire("b", Amounts(cores=1), "/").env == {"CUDA_VISIBLE_DEVICES": ""}
    with pytest.raises(Unavailable, match="2 GPUs were granted, 1 are free"):
        smp.acquire("c", Amounts(cores=1, gpus=2), "/")
    smp.release("a")
    smp.release("a")
    smp.release("nobody")
    assert smp.acquire("d", Amounts(cores=1, gpus=3), "/").env == {"CUDA_VISIBLE_DEVICES": "0,GPU-abc,2"}
    assert Smp(PLAIN, {}).acquire("a", Amounts(cores=1), "/").env == {}
    amd = Node("n", 1, 1, 1, (Gpu("0", "amd"), Gpu("1", "amd")))
    assert Smp(amd, {}).acquire("a", Amounts(gpus=1), "/").env == {"ROCR_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cores": 0}, "-n 0"),
        ({"cores": -3}, "-n -3"),
        ({"cores": 2, "cores_per_job": 3}, "-s 3: there are 2 cores"),
        ({"cores_per_job": -1}, "-s -1"),
        ({"host_file": "x"}, "platform smp has no option host_file"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        Smp(NODE, options)
    assert words in str(refused.value)


def test_mpi_without_a_host_file_uses_this_node(mpirun: dict[str, str], tmp_path: Path) -> None:
    mpi = Mpi(NODE, {"cores": 6}, mpirun)
    assert mpi.total() == Amounts(cores=6, gpus=3, memory=16 << 30)
    place = mpi.acquire("a", Amounts(cores=4, gpus=1), str(tmp_path))
    assert place.variables == {"MPIRUN": ("mpirun", "-np", "4")}
    assert place.env == {"MPIRUN": "mpirun -np 4", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert not (tmp_path / "hostfile").exists()


def test_mpi_reserves_hosts_for_each_attempt(mpirun: dict[str, str], tmp_path: Path) -> None:
    mpi = Mpi(NODE, {"host_file": hosts(tmp_path, "# cluster\na\nb # big\n\nc\n"), "cores_per_host": 4}, mpirun)
    assert mpi.total() == Amounts(cores=12, memory=16 << 30)
    runs = [tmp_path / name for name in ("r1", "r 2", "r3", "r4")]
    for run in runs:
        run.mkdir()
    place = mpi.acquire("1", Amounts(cores=8), str(runs[0]))
    assert place.variables["MPIRUN"] == ("mpirun", "-np", "8", "-hostfile", f"{runs[0]}/hostfile")
    assert lines(runs[0]) == ["a"] * 4 + ["b"] * 4
    place = mpi.acquire("2", Amounts(cores=3), str(runs[1]))
    assert lines(runs[1]) == ["c"] * 3
    assert shlex.split(place.env["MPIRUN"])[-1] == f"{runs[1]}/hostfile"
    with pytest.raises(Unavailable, match="2 cores were granted, 1 are free"):
        mpi.acquire("3", Amounts(cores=2), str(runs[2]))
    mpi.release("1")
    mpi.acquire("3", Amounts(cores=1), str(runs[2]))
    assert lines(runs[2]) == ["c"], "the tightest host that fits"
    mpi.acquire("4", Amounts(cores=8), str(runs[3]))
    for key in "234":
        mpi.release(key)
    mpi.acquire("5", Amounts(cores=12), str(runs[0]))
    assert len(lines(runs[0])) == 12


def test_mpi_reads_slots_where_no_cores_per_host_are_given(mpirun: dict[str, str], tmp_path: Path) -> None:
    text = "a slots=2\nb:3\nc max_slots=4\na\nnode-7.lab.org slots = 5 max_slots=6\n"
    mpi = Mpi(NODE, {"host_file": hosts(tmp_path, text)}, mpirun)
    assert mpi.cores == 2 + 3 + 1 + 1 + 5
    assert mpi.describe()[1] == "hosts: a:3 b:3 c:1 node-7.lab.org:5"
    assert Mpi(NODE, {"host_file": hosts(tmp_path, text), "cores": 3}, mpirun).total().cores == 3


def test_a_program_runs_through_the_stand_in_mpirun(mpirun: dict[str, str], tmp_path: Path) -> None:
    mpi = Mpi(
        NODE, {"host_file": hosts(tmp_path, "a\nb"), "cores_per_host": 2}, mpirun | {"MPIRUN": "mpirun --map-by core"}
    )
    place = mpi.acquire("a", Amounts(cores=3), str(tmp_path))
    command = place.variables["MPIRUN"]
    assert isinstance(command, tuple)
    said = subprocess.run(
        [*command, "echo", "two words"],
        env=os.environ | mpirun | dict(place.env),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "two words\n"
    record = Path(mpirun["RECORD"])
    assert record.read_text().splitlines() == [
        "--map-by", "core", "-np", "3", "-hostfile", f"{tmp_path}/hostfile", "echo", "two words",
    ]  # fmt: skip
    assert Path(f"{record}.hosts").read_text() == "a\na\nb\n"


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("", {}, "names no hosts"),
        ("# nothing\n", {}, "names no hosts"),
        ("ok\n-oProxyCommand=evil\n", {}, "line 2: '-oProxyCommand=evil' is not a host name"),
        ("a;rm\n", {}, "line 1"),
        ("a\n", {"cores_per_host": 0}, "-cph 0"),
        ("a\n", {"cores": 2}, "-n 2: the host file has 1 cores"),
        ("a slots=0\n", {}, "names no hosts"),
    ],
)
def test_host_files_that_make_no_sense_are_refused(
    mpirun: dict[str, str], tmp_path: Path, text: str, more: dict[str, int], words: str
) -> None:
    with pytest.raises(BadInput) as refused:
        Mpi(NODE, {"host_file": hosts(tmp_path, text), **more}, mpirun)
    assert words in str(refused.value)


def test_mpi_says_what_is_missing(mpirun: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        Mpi(NODE, {"host_file": str(tmp_path / "none")}, mpirun)
    with pytest.raises(BadInput, match="-cph needs a host file"):
        Mpi(NODE, {"cores_per_host": 2}, mpirun)
    with pytest.raises(BadInput, match="mpirun was not found"):
        Mpi(NODE, {}, {"PATH": str(tmp_path)})
    with pytest.raises(BadInput, match="is not a command"):
        Mpi(NODE, {}, mpirun | {"MPIRUN": "'"})


def test_a_host_file_that_cannot_be_written_reserves_nothing(mpirun: dict[str, str], tmp_path: Path) -> None:
    mpi = Mpi(NODE, {"host_file": hosts(tmp_path, "a\nb\n")}, mpirun)
    with pytest.raises(Unavailable, match="cannot be written"):
        mpi.acquire("a", Amounts(cores=2), str(tmp_path / "gone"))
    mpi.acquire("b", Amounts(cores=2), str(tmp_path))


def test_platforms_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform_names()[:4] == ("smp", "mpi", "slurm", "cray")
    assert platform_class("mpi") is Mpi
    with pytest.raises(NotFound, match="no platform 'nosuch'"):
        platform_class("nosuch")
    values = {"good": f"{__name__}:Good", "bad": f"{__name__}:hosts", "gone": "no_such_package:X"}
    points = [metadata.EntryPoint(name, value, platforms.GROUP) for name, value in values.items()]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group, name="": [one for one in points if name in ("", one.name)]
    )
    assert platform_names() == ("smp", "mpi", "slurm", "cray", "good", "bad", "gone")
    assert platform_class("good") is Good
    with pytest.raises(BadInput, match="not a subclass"):
        platform_class("bad")
    with pytest.raises(BadInput, match=r"platform gone \(no_such_package:X\) cannot be loaded"):
        platform_class("gone")


class Good(Smp):
    name = "good"


def test_every_declared_platform_is_a_built_in() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, place in platforms.BUILT_IN.items():
        assert f'{name} = "{place}"' in declared
        assert platform_class(name).name == name


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on three nodes."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n[08-09],big",
        "SLURM_JOB_CPUS_PER_NODE": "4(x2),16", "SLURM_MEM_PER_NODE": "1000",
    }  # fmt: skip


def test_slurm_offers_all_nodes_of_the_allocation(allocation: dict[str, str]) -> None:
    slurm = Slurm(NODE, {}, allocation)
    assert slurm.total() == Amounts(cores=24, memory=3000 << 20)
    assert slurm.describe() == ("allocation: 12 on n08:4 n09:4 big:16",)
    assert Slurm(NODE, {"cores": 5}, allocation).total().cores == 5
    one = {**allocation, "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "8"}
    assert Slurm(NODE, {}, one).total() == Amounts(cores=8, gpus=3, memory=1000 << 20)
    assert Slurm(NODE, {}, one).acquire("a", Amounts(cores=1, gpus=1), "/").env["CUDA_VISIBLE_DEVICES"] == "0"
    del one["SLURM_MEM_PER_NODE"]
    assert Slurm(NODE, {}, one | {"SLURM_MEM_PER_CPU": "100"}).total().memory == 800 << 20
    assert Slurm(NODE, {}, one).total().memory == NODE.memory


def test_slurm_starts_each_program_where_its_cores_are(allocation: dict[str, str], tmp_path: Path) -> None:
    slurm = Slurm(NODE, {}, allocation)
    small = slurm.acquire("a", Amounts(cores=3), str(tmp_path))
    assert small.prefix[-3:] == ("--ntasks=1", "--nodes=1", "--nodelist=n08")
    assert slurm.acquire("b", Amounts(cores=4), str(tmp_path)).prefix[-1] == "--nodelist=n09"
    large = slurm.acquire("c", Amounts(cores=17), str(tmp_path))
    assert lines(tmp_path) == ["big"] * 16 + ["n08"]
    assert shlex.split(large.env["MPIRUN"])[-4:] == [
        "--ntasks=17", "--nodes=2", "--distribution=arbitrary", f"--nodelist={tmp_path}/hostfile"
    ]  # fmt: skip
    with pytest.raises(Unavailable, match="1 cores were granted, 0 are free on the hosts"):
        slurm.acquire("d", Amounts(cores=1), str(tmp_path))
    slurm.release("c")
    slurm.release("c")
    assert slurm.acquire("e", Amounts(cores=16), str(tmp_path)).prefix[-1] == "--nodelist=big"


def test_slurm_shares_out_the_gpus_of_all_nodes_with_the_cores_beside_them(
    allocation: dict[str, str], tmp_path: Path
) -> None:
    slurm = Slurm(NODE, {}, allocation | {"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert slurm.total() == Amounts(cores=24, gpus=6, memory=3000 << 20)
    assert slurm.describe()[0].endswith("big:16, 2 GPUs each")

    def given(key: str, **granted: int) -> str:
        env = slurm.acquire(key, Amounts(**granted), str(tmp_path)).env
        assert "CUDA_VISIBLE_DEVICES" not in env
        return env["CPC_STEP_GPUS"]

    assert given("a", cores=1, gpus=1) == "n08:0"
    assert given("b", cores=1, gpus=1) == "n08:1", "the tightest node that has both"
    assert given("c", cores=1) == "-", "none of them"
    with pytest.raises(Unavailable, match="1 cores with 3 GPUs were granted, and no hosts have both"):
        slurm.acquire("e", Amounts(cores=1, gpus=3), str(tmp_path))
    assert given("d", cores=2, gpus=2) == "n09:0,1"
    slurm.release("a")
    slurm.release("d")
    assert given("e", cores=6, gpus=4) == "big:0,1 n09:0,1"
    assert lines(tmp_path) == ["big"] * 5 + ["n09"], "each has a core beside its GPUs"
    assert given("f", cores=1, gpus=1) == "n08:0"
    for key in "bcef":
        slurm.release(key)
    assert sorted(given("g", cores=24, gpus=6).split()) == ["big:0,1", "n08:0,1", "n09:0,1"]
    slurm.release("g")
    assert slurm.total().gpus == 6


@pytest.mark.parametrize(
    ("told", "gpus"),
    [
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_GPUS_PER_NODE": "2"}, 6),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_GPUS": "6"}, 6),
        ({"SLURM_GPUS_ON_NODE": "2", "SLURM_GPUS": "a100:5"}, 0),
        ({"SLURM_GPUS_ON_NODE": "1", "SLURM_GPUS_PER_TASK": "1", "SLURM_NTASKS": "3"}, 3),
        ({"SLURM_GPUS_ON_NODE": "1", "SLURM_GPUS_PER_TASK": "1", "SLURM_NTASKS": "4"}, 0),
        ({"SLURM_GPUS_ON_NODE": "x"}, 0),
        ({}, 0),
    ],
)
def test_gpus_count_only_where_each_node_has_as_many(
    allocation: dict[str, str], told: dict[str, str], gpus: int
) -> None:
    assert Slurm(NODE, {}, allocation | told).total().gpus == gpus


def test_slurm_does_not_start_where_there_is_no_allocation(allocation: dict[str, str]) -> None:
    for broken, words in (
        ({"SLURM_JOB_ID": ""}, "no Slurm allocation here"),
        ({"PATH": "/nowhere"}, "srun was not found"),
        ({"SLURM_JOB_NODELIST": "n[1-"}, "SLURM_JOB_NODELIST"),
        ({"SLURM_JOB_CPUS_PER_NODE": "4"}, "cannot be understood"),
        ({"SLURM_JOB_CPUS_PER_NODE": "x(y)"}, "cannot be understood"),
    ):
        with pytest.raises(BadInput, match=words):
            Slurm(NODE, {}, allocation | broken)
    with pytest.raises(BadInput, match="the allocation has 24 cores"):
        Slurm(NODE, {"cores": 25}, allocation)


def test_a_program_that_begins_with_mpirun_has_no_other_start_before_it(
    allocation: dict[str, str], tmp_path: Path
) -> None:
    slurm = Slurm(NODE, {}, allocation)
    found = (
        Found("mpi", "1", "mpi", ("$MPIRUN", "prog")),
        Found("plain", "1", "smp", ("prog", "-c", "$NCORES")),
    )
    programs = Programs(slurm, found)
    for name, wanted in (
        ("mpi", ("--nodelist=n08", "prog", "x")),
        ("plain", ("--nodelist=n09", "prog", "-c", "4", "x")),
    ):
        task = Task(
            lease=Lease(1, 1, 1), project=1, executable=name, version="1", argv=("x",), granted=Amounts(cores=4)
        )
        argv = programs.command(task, name, str(tmp_path)).argv
        assert argv[:3] == ("/bin/sh", GENTLY, str(tmp_path))
        assert argv[-len(wanted) :] == wanted
        assert argv.count("/bin/sh") == 1


def test_gently_passes_sigterm_on_and_ends_as_its_program(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    # What the real one does with its options, with SIGUSR1, and with a program that is killed.
    srun.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n"$@" & c=$!\ntrap "kill -USR1 $c" USR1\n'
                    "wait $c; code=$?\nwhile kill -0 $c 2>/dev/null; do wait $c; code=$?; done\nexit $code\n")  # fmt: skip
    srun.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    start = ["/bin/sh", GENTLY, str(tmp_path), "--overlap", "--ntasks=1"]
    done = subprocess.run(
        [*start, "sh", "-c", 'printf "<%s>" "$@"; exit 7', "0", "a b", "", "-x"], env=env, capture_output=True
    )
    assert (done.returncode, done.stdout) == (7, b"<a b><><-x>")
    say = [*start, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES/${ROCR_VISIBLE_DEVICES-unset}/${CPC_STEP_GPUS-unset}"]
    for told, seen in (("n1:0,2 n2:1", "4,GPU-c"), ("n2:0", ""), ("-", ""), ("", "4,5,GPU-c")):
        more = {"SLURMD_NODENAME": "n1", "CUDA_VISIBLE_DEVICES": "4,5,GPU-c"} | (
            {"CPC_STEP_GPUS": told} if told else {}
        )
        assert subprocess.run(say, env=env | more, capture_output=True, text=True).stdout == f"{seen}/unset/unset\n"
    body = 'trap "echo told; exit 5" TERM; echo up; while :; do sleep 0.02; done'
    running = subprocess.Popen([*start, "sh", "-c", body], env=env, stdout=subprocess.PIPE, start_new_session=True)
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    os.killpg(running.pid, signal.SIGTERM)
    assert running.communicate(timeout=20) == (b"told\n", None)
    assert running.returncode == 5


@pytest.mark.parametrize(
    ("srun", "tasks", "ends", "code"),
    [
        ("", 1, "exit 0", 0),
        ("", 1, "exit 213", 213),
        ("", 1, "exit 3", 3),
        ("exit 0", 1, "exit 0", LOST),  # what srun says when a node dies
        ("exit $SLURM_EXIT_ERROR", 1, "exit 0", LOST),  # it could not start anything
        ("for i in 0 1 2; do run $i; done; exit 0", 3, "exit 0", 0),
        ("for i in 0 2; do run $i; done; exit 0", 3, "exit 0", LOST),
        ("for i in 0 1 2; do run $i; done; exit 213", 3, "[ $SLURM_PROCID = 1 ] && exit 213; exit 9", 213),
    ],
)
def test_a_program_whose_end_nobody_has_seen_did_not_end_well(
    srun: str, tasks: int, ends: str, code: int, tmp_path: Path
) -> None:
    # The real one starts $1 $2 …, after its options, as each of its tasks; here that is /bin/sh -c THERE task ENDS sh -c BODY.
    text = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nsaved() { ' + (srun or "run 0") + "; }\n"
    text += (
        'run() { SLURM_PROCID=$1 /bin/sh -c "$there" task "$ends" sh -c "$body"; }\nthere=$3 ends=$5 body=$8\nsaved\n'
    )
    (tmp_path / "srun").write_text(text)
    (tmp_path / "srun").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    start = ["/bin/sh", GENTLY, str(tmp_path), f"--ntasks={tasks}"]
    done = subprocess.run([*start, "sh", "-c", ends], env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("nobody knows how these tasks have ended" in done.stderr) == (code == LOST)
    assert [path.name for path in tmp_path.iterdir()] == ["srun"]


def test_cray_starts_with_aprun_and_must_be_told_its_cores(tmp_path: Path) -> None:
    aprun = tmp_path / "aprun"
    aprun.write_text("#!/bin/sh\n")
    aprun.chmod(0o755)
    env = {"PATH": str(tmp_path)}
    cray = Cray(NODE, {"cores": 64}, env)
    assert cray.total() == Amounts(cores=64, memory=NODE.memory)
    place = cray.acquire("a", Amounts(cores=48), "/")
    assert (place.prefix, place.variables) == ((), {"MPIRUN": ("aprun", "-n", "48")})
    with pytest.raises(Unavailable, match="32 cores were granted, 16 are free in the reservation"):
        cray.acquire("b", Amounts(cores=32), "/")
    cray.release("a")
    cray.acquire("b", Amounts(cores=64), "/")
    assert Cray(NODE, {"cores": 1}, env | {"APRUN": "aprun -q"}).describe() == ("aprun: aprun -q",)
    for options, environ, words in (
        ({}, env, "must be told how many cores"),
        ({"cores": 4}, {"PATH": "/nowhere"}, "aprun was not found"),
        ({"cores": 4}, env | {"APRUN": "'"}, "is not a command"),
    ):
        with pytest.raises(BadInput, match=words):
            Cray(NODE, options, environ)
