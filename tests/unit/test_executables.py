"""Executables: found, asked for their versions, started with every argument kept; broken descriptions named."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cpc.api import Executable, Found, fill, fill_all
from cpc.core.clock import SystemClock
from cpc.core.errors import NotFound
from cpc.core.resources import Amounts
from cpc.plugins.executables.gromacs import Gmx, Mdrun
from cpc.plugins.executables.python import Deeptime, OpenMM, Python
from cpc.plugins.platforms.smp import Smp
from cpc.wire.messages import Task
from cpc.worker import executable_files, executables
from cpc.worker.executables import discover, pick, search_path
from cpc.worker.search import PathSearch
from tests.helpers.real_programs import gone, until

ARCH = executable_files.ARCH


@pytest.fixture
def files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the built-in classes, which take a second to ask every Python for what it has."""
    monkeypatch.setattr(executables, "BUILT_IN", ())


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def looking_in(*directories: Path) -> PathSearch:
    return PathSearch({"PATH": os.pathsep.join(map(str, directories))})


def one(found: tuple[Found, ...], name: str) -> Found:
    (it,) = [each for each in found if each.name == name]
    return it


def test_the_built_in_ones_are_found_and_work(tmp_path: Path) -> None:
    found = discover([], "smp")
    python = one(found, "python")
    assert python.why_not == ""
    said = subprocess.run(
        python.command(["-c", "import sys; print(sys.argv[1:])", "a b", ""], {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "['a b', '']\n"
    sleep = one(found, "benchmark/sleep")
    assert (sleep.version, sleep.why_not) == ("1.0", "")
    subprocess.run(sleep.command(["0.01"], {}), check=True)
    assert one(discover([], "mpi"), "benchmark/sleep").platform == "mpi"
    assert not [each for each in discover([], "mpi") if each.name == "python"]


def test_every_declared_entry_point_is_a_built_in() -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for kind in (*executables.BUILT_IN,):
        assert f'"{kind.__module__}:{kind.__name__}"' in declared


def test_gromacs_is_asked_what_it_is(tmp_path: Path) -> None:
    threads = "GROMACS version:    2022.5-Debian_2022.5_2\nMPI library:        thread_mpi"
    script(tmp_path / "gmx", f"echo '{threads}'")
    (found,) = Mdrun().find("smp", looking_in(tmp_path))
    assert found.version == "2022.5"
    assert found.command(["-s", "my run.tpr"], {"NCORES": "4"}) == (
        str(tmp_path / "gmx"), "mdrun", "-nt", "4", "-s", "my run.tpr",
    )  # fmt: skip
    (missing,) = Mdrun().find("mpi", looking_in(tmp_path))
    assert "built with thread_mpi" in missing.why_not

    script(tmp_path / "gmx_mpi", "echo 'GROMACS version: 2023-beta\nMPI library:  MPI'")
    (parallel,) = Mdrun().find("mpi", looking_in(tmp_path))
    assert parallel.version == "2023-beta"
    assert parallel.command([], {"MPIRUN": ("mpirun", "-np", "8")})[:5] == (
        "mpirun", "-np", "8", str(tmp_path / "gmx_mpi"), "mdrun",
    )  # fmt: skip
    assert Mdrun().find("smp", looking_in(tmp_path))[0].version == "2022.5"


def test_gromacs_that_is_missing_or_broken_says_so(tmp_path: Path) -> None:
    (found,) = Mdrun().find("smp", looking_in(tmp_path))
    assert found.why_not == "none of gmx_mpi, gmx, mdrun, mdrun_mpi, gmx_d is in the search path"
    script(tmp_path / "gmx", "echo 'libcuda.so not found' >&2; exit 127")
    (found,) = Mdrun().find("smp", looking_in(tmp_path))
    assert "libcuda.so not found" in found.why_not


def test_the_tools_of_gromacs_are_announced_beside_mdrun_and_on_smp_only(tmp_path: Path) -> None:
    (found,) = Gmx().find("smp", looking_in(tmp_path))
    assert found.why_not == "none of gmx, gmx_mpi, gmx_d is in the search path"
    script(tmp_path / "gmx", "echo 'not today' >&2; exit 1")
    (found,) = Gmx().find("smp", looking_in(tmp_path))
    assert found.why_not == f"{tmp_path}/gmx did not tell its version: not today"
    script(tmp_path / "gmx_mpi", "echo 'GROMACS version:    2024.1'")
    (found,) = Gmx().find("smp", looking_in(tmp_path))
    assert (found.name, found.version) == ("gromacs/gmx", "2024.1")
    assert found.command(["energy", "-f", "a b.edr"], {}) == (str(tmp_path / "gmx_mpi"), "energy", "-f", "a b.edr")
    assert Gmx().find("mpi", looking_in(tmp_path)) == ()


class Pythons:
    """A search that knows these interpreters only."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self._answers = answers

    def which(self, program: str) -> str | None:
        return program if program in self._answers else None

    def run(self, argv: tuple[str, ...]) -> tuple[int, str]:
        return self._answers[argv[0]]

    def pythons(self) -> tuple[str, ...]:
        return tuple(self._answers)


def test_openmm_runs_in_the_first_python_that_has_it() -> None:
    none = (1, "Traceback\nModuleNotFoundError: No module named 'openmm'\n")
    (found,) = OpenMM().find("smp", Pythons(python3=none, other=(0, "8.1.2\n")))
    assert (found.version, found.template) == ("8.1.2", ("other",))
    assert found.environment({"NCORES": "3"}) == {"OPENMM_CPU_THREADS": "3"}
    (found,) = OpenMM().find("smp", Pythons(python3=none))
    assert "No module named 'openmm'" in found.why_not
    (found,) = Deeptime().find("smp", Pythons(python3=none, other=(0, "0.4.5\n")))
    assert (found.name, found.version, found.template) == ("deeptime", "0.4.5", ("other",))
    assert Deeptime().find("mpi", Pythons(other=(0, "0.4.5\n"))) == ()
    (found,) = Python().find("smp", Pythons(python3=(-1, "")))
    assert found.why_not == "no Python that runs: python3: it printed nothing"


@pytest.mark.usefixtures("files_only")
def test_a_toml_file_describes_a_program(tmp_path: Path) -> None:
    (tmp_path / "tool.toml").write_text(
        'name = "lab/tool"\nprograms = ["tool2", "tool"]\ncommand = ["$PROGRAM", "-n", "${NCORES}"]\n'
        'version_command = ["$PROGRAM", "--version"]\nversion_pattern = "version ([0-9.]+)"\n'
        'platforms = ["smp", "mpi"]\nenv = { TOOL_DATA = "$EXECUTABLE_DIR/data" }\n'
    )
    bin = script(tmp_path / "bin/tool", "echo 'tool, version 3.14'").parent
    found = one(discover([tmp_path], "smp", looking_in(bin, Path("/usr/bin"))), "lab/tool")
    assert (found.version, found.why_not) == ("3.14", "")
    assert found.command(["x"], {"NCORES": "2"}) == (str(bin / "tool"), "-n", "2", "x")
    assert found.environment({}) == {"TOOL_DATA": f"{tmp_path}/data"}
    assert not [each for each in discover([tmp_path], "cray", looking_in(bin)) if each.name == "lab/tool"]
    missing = one(discover([tmp_path], "smp", looking_in(tmp_path)), "lab/tool")
    assert missing.why_not == "none of tool2, tool is in the search path"


@pytest.mark.usefixtures("files_only")
def test_an_original_executable_xml_still_loads(tmp_path: Path) -> None:
    place = tmp_path / "my programs" / "sleep"
    place.mkdir(parents=True)
    (place / "executable.xml").write_text(
        f'<?xml version="1.0"?><executable-list>'
        f'<executable name="benchmark/sleep" platform="smp" arch="{ARCH}" version="0.1">'
        f'<run in_path="yes" cmdline="$EXECUTABLE_DIR/go --label \'two words\' ${{NCORES}} $UNKNOWN"/>'
        f'<cmd-joinable match_args="yes"/></executable>'
        f'<executable name="benchmark/par" platform="mpi" arch="{ARCH}" version="1"><run cmdline="$MPIRUN par"/></executable>'
        f'<executable name="old" platform="smp" arch="irix_mips" version="1"><run cmdline="old"/></executable>'
        f"</executable-list>"
    )
    found = [each for each in discover([place.parent], "smp") if each.source == str(place / "executable.xml")]
    sleep, old = found
    assert sleep.version == "0.1"
    variables = {"NCORES": "4", "RUN_DIR": "/run 1", "CMD_ID": "7.1"}
    assert sleep.command(["$RUN_DIR/in put", "a 'b'", "${CMD_ID}"], variables) == (
        f"{place}/go", "--label", "two words", "4", "$UNKNOWN", "/run 1/in put", "a 'b'", "7.1",
    )  # fmt: skip
    assert old.why_not == f"it is for irix_mips, this is {ARCH}"
    par = one(discover([place.parent], "mpi"), "benchmark/par")
    assert par.command(["x y"], {"MPIRUN": ("mpirun", "-np", "$NCORES"), "NCORES": "8"}) == (
        "mpirun", "-np", "8", "par", "x y",
    )  # fmt: skip


@pytest.mark.usefixtures("files_only")
def test_an_original_plugin_script_is_asked_per_platform(tmp_path: Path) -> None:
    line = f'<executable name="lab/prog" platform="$3" arch="{ARCH}" version="4.5.3"><run cmdline="$0.real $2"/></executable>'
    script(tmp_path / "prog/plugin", f"cat <<EOF\n{line}\nEOF\necho noise >&2")
    script(tmp_path / "alone", f"cat <<EOF\n{line.replace('lab/prog', 'lab/alone')}\nEOF")
    found = discover([tmp_path], "mpi")
    assert one(found, "lab/prog").command((), {}) == (f"{tmp_path}/prog/plugin.real", "executable")
    assert one(found, "lab/alone").platform == "mpi"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<executable-list><executable name="&b;" platform="smp" version="1"><run cmdline="x"/></executable></executable-list>'
)
BROKEN = {
    "bomb/executable.xml": (BOMB, "DOCTYPE"),
    "file/executable.xml": (
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><executable-list>&f;</executable-list>', "DOCTYPE",
    ),
    "deep/executable.xml": ("<executable>" * 5000, "levels"),
    "cut/executable.xml": ("<executable-list>", "it is not XML"),
    "html/executable.xml": ("<html/>", "its root must be"),
    "none/executable.xml": ("<executable-list/>", "describes no executable"),
    "noversion/executable.xml": ('<executable name="a" platform="smp"/>', "has no version"),
    "norun/executable.xml": ('<executable name="a" platform="smp" version="1"/>', "needs one <run>"),
    "quote/executable.xml": (
        '<executable name="a" platform="smp" version="1"><run cmdline="a \'b"/></executable>', "No closing quotation",
    ),
    "name.toml": ('name = "../evil"\nversion = "1"\ncommand = ["x"]', "cannot be the name"),
    "syntax.toml": ("name = ", "not a description of an executable"),
    "extra.toml": ('name = "a"\nversion = "1"\ncommand = ["x"]\nshell = true', "shell"),
    "typed.toml": ('name = "a"\nversion = "1"\ncommand = "x y"', "command"),
    "twice.toml": ('name = "a"\nversion = "1"\nversion_command = ["x"]\ncommand = ["x"]', "either version or"),
    "neither.toml": ('name = "a"\ncommand = ["x"]', "either version or"),
    "empty.toml": ('name = "a"\nversion = "1"\ncommand = []', "empty"),
    "regex.toml": ('name = "a"\nversion_command = ["x"]\nversion_pattern = "("\ncommand = ["x"]', "regular expression"),
    "groups.toml": ('name = "a"\nversion_command = ["x"]\nversion_pattern = "x"\ncommand = ["x"]', "exactly one"),
    "words.toml": ('name = "a"\nversion = "latest"\ncommand = ["x"]', "is not a version"),
    "nested.toml": ("a = " + "[" * 100_000, "not a description"),
    "large.toml": ("#" * (1 << 21), "larger than 1 MiB"),
}  # fmt: skip


@pytest.mark.usefixtures("files_only")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_description_is_one_line_and_the_others_load(tmp_path: Path, name: str) -> None:
    text, words = BROKEN[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (tmp_path / "zz_good.toml").write_text('name = "good"\nversion = "1"\ncommand = ["true"]')
    found = discover([tmp_path], "smp")
    bad = one(found, str(path))
    assert words in bad.why_not
    assert "\n" not in bad.why_not
    assert len(bad.why_not) <= 500
    assert one(found, "good").why_not == ""


@pytest.mark.usefixtures("files_only")
def test_descriptions_that_are_no_text_or_unreadable_are_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "dir.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to("nowhere")
    found = discover([tmp_path], "smp")
    assert "not UTF-8" in one(found, str(tmp_path / "bytes.toml")).why_not
    assert "Is a directory" in one(found, str(tmp_path / "dir.toml")).why_not
    assert "No such file" in one(found, str(tmp_path / "gone.toml")).why_not


class Impatient(SystemClock):
    """Its time is over as soon as there is a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def monotonic(self) -> float:
        return super().monotonic() + (1000.0 if self._path.exists() else 0.0)


@pytest.mark.usefixtures("files_only")
def test_a_plugin_script_that_fails_hangs_or_floods_is_ended(tmp_path: Path) -> None:
    fails = script(tmp_path / "some/fails", "echo 'license server away' >&2; exit 3")
    floods = script(tmp_path / "some/floods", "yes")
    found = discover([tmp_path / "some"], "smp", PathSearch(dict(os.environ)))
    assert one(found, str(fails)).why_not == "the plugin ended with 3: license server away"
    assert "printed more than 1 MiB" in one(found, str(floods)).why_not
    path = tmp_path / "pid"
    hangs = script(tmp_path / "other/hangs", f"sleep 1000 & echo $! > {path}.new; mv {path}.new {path}; wait")
    found = discover([tmp_path / "other"], "smp", PathSearch(dict(os.environ), Impatient(path)))
    assert "did not answer within 60 s" in one(found, str(hangs)).why_not
    pid = int(path.read_text())
    until(lambda: gone(pid), "what it has started is ended")


def test_programs_are_asked_side_by_side_and_each_once(tmp_path: Path) -> None:
    """A worker starts as soon as the slowest has answered. Here each of the two waits for the other one."""
    inside = "<executable name='lab/{name}' version='1' platform='smp'><run cmdline='true'/></executable>"
    answer = f'echo "<executable-list>{inside}</executable-list>"'
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).mkdir()
        meet = f"echo >> {tmp_path}/{name}.here; until [ -e {tmp_path}/{other}.here ]; do :; done"
        script(tmp_path / name / "asks", f"{meet}\n{answer.format(name=name)}")
    search = looking_in()
    found = discover((tmp_path / "one", tmp_path / "two"), "smp", search)
    assert [one(found, name).why_not for name in ("lab/one", "lab/two")] == ["", ""]
    discover((tmp_path / "one", tmp_path / "two"), "smp", search)
    assert [(tmp_path / f"{name}.here").read_text() for name in ("one", "two")] == ["\n", "\n"]


def test_a_program_that_leaves_its_output_open_does_not_hold_the_worker_up(tmp_path: Path) -> None:
    script(tmp_path / "leaves", "sleep 1000 & echo done")
    assert PathSearch(dict(os.environ)).run((str(tmp_path / "leaves"),)) == (0, "done\n")


def test_what_a_program_says_at_its_very_end_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers and ends just when there was nothing to read."""
    go, path = tmp_path / "go", tmp_path / "pid"
    program = script(tmp_path / "slow", f"echo $$ > {path}; until [ -e {go} ]; do :; done; echo 1.2")
    look = select.select

    def nothing_yet(*descriptors: Any) -> Any:
        found = look(*descriptors) if go.exists() else ([], [], [])
        if not go.exists() and path.exists() and path.read_text().endswith("\n"):
            go.touch()
            os.waitid(os.P_PID, int(path.read_text()), os.WEXITED | os.WNOWAIT)
        return found

    monkeypatch.setattr(select, "select", nothing_yet)
    assert PathSearch(dict(os.environ)).run((str(program),)) == (0, "1.2\n")


class Nice(Executable):
    name = "nice"

    def find(self, platform, search):  # type: ignore[no-untyped-def]
        return (Found("nice", "1", platform, ("nice",)),)


class Raises(Executable):
    name = "raises"

    def find(self, platform, search):  # type: ignore[no-untyped-def]
        raise RuntimeError("line one\nline two")


class Silly(Executable):
    name = "silly"

    def find(self, platform, search):  # type: ignore[no-untyped-def]
        return ["not a tuple"]


@pytest.mark.usefixtures("files_only")
def test_plugins_of_installed_packages_are_asked_and_cannot_break_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [f"{__name__}:{name}" for name in ("Nice", "Raises", "Silly", "script")] + ["no_such_package:Kind"]
    points = [metadata.EntryPoint(value, value, executables.GROUP) for value in values]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == executables.GROUP else [])
    found = discover([], "smp")
    assert one(found, "nice").why_not == ""
    assert one(found, f"{__name__}:Raises").why_not == "RuntimeError: line one line two"
    assert "did not answer with a tuple" in one(found, f"{__name__}:Silly").why_not
    assert "not a subclass" in one(found, f"{__name__}:script").why_not
    assert "No module named" in one(found, "no_such_package:Kind").why_not
    assert one(found, "benchmark/sleep").why_not == ""


@pytest.mark.usefixtures("files_only")
def test_the_search_path_has_an_order_and_the_first_wins(tmp_path: Path) -> None:
    for name in ("setting", "environment", "home/executables"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "t.toml").write_text(f'name = "t-t"\nversion = "1"\ncommand = ["{name}"]')
    (tmp_path / "home/executables/u.toml").write_text('name = "t_t"\nversion = "2"\ncommand = ["u"]')
    path = search_path({"CPC_EXECUTABLES": str(tmp_path / "environment")}, tmp_path / "home", str(tmp_path / "setting"))
    assert [place.relative_to(tmp_path).as_posix() for place in path] == ["setting", "environment", "home/executables"]
    found = discover(path, "smp")
    assert [each.template for each in found if each.name in ("t-t", "t_t")] == [("setting",), ("u",)]
    chosen = pick(found, "t_t", "1")
    assert chosen is not None
    assert chosen.template == ("setting",)
    assert pick(found, "t-t", "3") is None
    assert search_path({}, tmp_path / "nothing") == ()
    gone = tmp_path / "gone"
    assert "cannot be read: No such file" in one(discover([gone], "smp"), str(gone)).why_not


def test_variables_are_replaced_inside_arguments_and_never_split_them() -> None:
    variables = {"A": "x $B", "B": "y z", "LOOP": "$LOOP!", "MANY": ("m", "-np", "$B")}
    assert fill("$A/${B} $C ${D} $$", variables) == "x y z/y z $C ${D} $$"
    assert fill("$LOOP", variables) == "$LOOP" + "!" * 10
    assert fill_all(["$MANY", "say $MANY", "$A"], variables) == ("m", "-np", "y z", "say m -np y z", "x y z")
    growing = {"X": "$X$X$X$X$X$X$X$X"}
    assert len(fill("$X" * 100, growing)) < 10 << 20


def test_programs_turn_tasks_into_commands(tmp_path: Path) -> None:
    from cpc.api import Gpu, Node
    from cpc.core.lease import Lease
    from cpc.worker.programs import Programs

    node = Node("h", 4, 1 << 30, 1 << 30, (Gpu("0"), Gpu("1")))
    found = Found("a/b", "1.0", "smp", ("prog", "-n", "$NCORES", "-d", "$RUN_DIR"), {"HOW": "$CMD_ID $NGPUS"})
    programs = Programs(Smp(node, {}), [found])
    lease = Lease(*([1] * len(Lease.__struct_fields__)))

    def task(executable: str, version: str, gpus: int) -> Task:
        granted = Amounts(cores=2, gpus=gpus)
        return Task(
            lease=lease, project=1, granted=granted, argv=("a b", "$NCORES"), executable=executable, version=version
        )

    command = programs.command(task("a_b".replace("_", "/"), "1.0", 1), "k", "/run")
    assert command.argv == ("prog", "-n", "2", "-d", "/run", "a b", "$NCORES")
    assert command.env == {"HOW": "k 1", "CUDA_VISIBLE_DEVICES": "0"}
    assert command.announced
    plain = programs.command(task("", "", 1), "k2", "/run")
    assert (plain.argv, plain.env, plain.announced) == (("a b", "$NCORES"), {"CUDA_VISIBLE_DEVICES": "1"}, False)
    programs.release("k")
    with pytest.raises(NotFound, match=r"a/b 2\.0 is not on this worker"):
        programs.command(task("a/b", "2.0", 0), "k3", "/run")
    assert programs.command(task("", "", 1), "k4", "/run").env["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.skipif(shutil.which("gmx") is None, reason="GROMACS (gmx) is not installed")
def test_a_real_gromacs_tells_its_version() -> None:
    (found,) = Mdrun().find("smp", PathSearch())
    assert found.version.split(".")[0].isdigit()


def test_the_workers_own_python_is_the_last_resort(tmp_path: Path) -> None:
    assert looking_in(tmp_path).pythons() == (sys.executable,)
