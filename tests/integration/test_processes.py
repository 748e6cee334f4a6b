"""Starting attempts: each told of once, held to its limits, and what cannot start said in words."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor

from cpc.core.errors import BadInput
from cpc.worker import cgroups
from cpc.worker.limits import Limits
from cpc.worker.processes import Exit, GuardedProcesses, Launch
from tests.helpers.processes import PYTHON, begin, gone, launch, pid_in, until

MIB = 1 << 20
EAT = "import sys\nblocks = []\nfor i in range(int(sys.argv[1])):\n    blocks.append(bytearray(1 << 20))\n"
EAT_AND_WAIT = EAT + "import time\ntime.sleep(1000)\n"


@pytest_twisted.async_yield_fixture
async def processes(tmp_path: Path) -> AsyncIterator[GuardedProcesses]:
    guarded = GuardedProcesses(reactor, tmp_path, Limits(interval=0.05, grace=0.5))
    yield guarded
    await guarded.close()


@pytest_twisted.async_yield_fixture
async def watched(tmp_path: Path) -> AsyncIterator[GuardedProcesses]:
    guarded = GuardedProcesses(reactor, tmp_path, Limits(memory="watch", interval=0.05, grace=0.5))
    yield guarded
    await guarded.close()


@pytest_twisted.ensureDeferred
async def test_five_hundred_quick_launches_are_each_told_once(processes: GuardedProcesses, tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    codes: Counter[int | None] = Counter()
    all_told: defer.Deferred[None] = defer.Deferred()

    def on_exit(exit: Exit) -> None:
        told[exit.key] += 1
        codes[exit.code] += 1
        if len(told) == 500:
            all_told.callback(None)

    for number in range(500):
        processes.start(launch(tmp_path / f"run{number}", "true" if number % 2 else "false"), on_exit)
    assert len(processes.running()) == 500
    await all_told
    await begin(processes, launch(tmp_path / "last", "true"))
    assert set(told.values()) == {1}
    assert codes == {0: 250, 1: 250}
    assert processes.running() == ()


@pytest_twisted.ensureDeferred
async def test_a_process_gets_its_arguments_files_directory_and_environment(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "in").write_text("from stdin\n")
    script = 'read line; printf "%s|" "$line" "$PWD" "$HELLO" "$@"; echo oops >&2; exit 7'
    exit = await begin(
        processes,
        Launch("key 1", ("sh", "-c", script, "sh", "a b", "", "c'd\"e"), {**os.environ, "HELLO": "hi"}, str(run), "in"),
    )
    assert exit.code == 7
    assert (run / "stdout").read_text() == f"from stdin|{run}|hi|a b||c'd\"e|"
    assert (run / "stderr").read_text() == "oops\n"


@pytest_twisted.ensureDeferred
async def test_a_process_leads_a_session_and_starts_with_default_signals(
    processes: GuardedProcesses, tmp_path: Path
) -> None:
    script = (
        "import os; print(os.getsid(0) == os.getpgid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd')))\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigIgn', 'SigBlk'))])"
    )
    await begin(processes, launch(tmp_path / "run", "/usr/bin/env", *PYTHON, "-c", script))
    first, second = (tmp_path / "run" / "stdout").read_text().splitlines()
    assert first == "True ['0', '1', '2', '3']"  # 3: the listing itself
    blocked, ignored = (int(mask, 16) for mask in second.strip("[]").replace("'", "").split(", "))
    assert blocked == 0
    python_ignores = (1 << (signal.SIGPIPE - 1)) | (1 << (signal.SIGXFSZ - 1))
    # The C library keeps 32 and 33 to itself: whoever started the tests may have them ignored, and nobody can change it.
    reserved = (1 << 31) | (1 << 32)
    assert ignored & ~(python_ignores | reserved) == 0


@pytest_twisted.ensureDeferred
async def test_what_an_attempt_used_is_measured_with_its_children(processes: GuardedProcesses, tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: bytearray(64 << 20)"
    exit = await begin(processes, launch(tmp_path / "run", "sh", "-c", '"$@"; true', "sh", *PYTHON, "-c", burn))
    assert exit.code == 0
    assert 0.3 <= exit.cpu_seconds < 5
    assert exit.wall_seconds >= 0.25
    assert 64 * MIB <= exit.max_memory < 200 * MIB


@pytest_twisted.ensureDeferred
async def test_an_attempt_over_its_walltime_is_asked_then_ended(processes: GuardedProcesses, tmp_path: Path) -> None:
    asked = begin(processes, launch(tmp_path / "asked", "sleep", "1000", walltime=0.1))
    assert (await asked).code == -signal.SIGTERM
    script = "trap '' TERM; echo > deaf; sleep 1000"
    for walltime in (0.1, 1.0, 10.0):  # on a busy machine the first may be over before it is deaf
        exit = await begin(processes, launch(tmp_path / "deaf", "sh", "-c", script, walltime=walltime))
        if (tmp_path / "deaf/deaf").exists():
            break
    assert exit.code == -signal.SIGKILL
    assert exit.exceeded == "walltime"
    assert exit.wall_seconds >= walltime + 0.5


@pytest_twisted.ensureDeferred
async def test_a_stop_gives_time_to_finish_and_only_that(processes: GuardedProcesses, tmp_path: Path) -> None:
    script = "trap 'echo saved; exit 3' TERM; echo $$ > pid; while :; do sleep 0.01; done"
    polite = begin(processes, launch(tmp_path / "polite", "sh", "-c", script))
    deaf = begin(processes, launch(tmp_path / "deaf", "sh", "-c", "trap '' TERM; echo $$ > pid; sleep 1000"))
    for name, grace in (("polite", 1000.0), ("deaf", 0.3)):
        await until(reactor, lambda name=name: (tmp_path / name / "pid").exists(), "it runs")  # type: ignore[misc]
        processes.stop(name, grace)
    exit = await polite
    assert (exit.code, exit.exceeded, (tmp_path / "polite/stdout").read_text()) == (3, "", "saved\n")
    assert (await deaf).code == -signal.SIGKILL


@pytest_twisted.ensureDeferred
async def test_a_kill_ends_everything_at_once(processes: GuardedProcesses, tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; wait"
    ended = begin(processes, launch(tmp_path / "run", "sh", "-c", script))
    await until(reactor, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "it runs")
    pid = await pid_in(reactor, tmp_path / "pid")
    processes.kill("run")
    assert (await ended).code == -signal.SIGKILL
    assert gone(pid)


@pytest_twisted.ensureDeferred
async def test_memory_is_limited_by_a_control_group(processes: GuardedProcesses, tmp_path: Path) -> None:
    version, why = cgroups.possible()
    if version != 1:
        pytest.skip(f"no memory controller of control groups version 1 here: {why or 'version 2'}")
    places = cgroups.own_group()[0]
    exit = await begin(processes, launch(tmp_path / "run", *PYTHON, "-c", EAT, "500", memory=100 * MIB))
    if not processes.memory_limited_by.startswith("control groups"):
        pytest.skip(f"memory is limited by {processes.memory_limited_by}")
    assert exit.code == -signal.SIGKILL
    assert exit.exceeded == "memory"
    assert exit.max_memory >= 90 * MIB
    small = await begin(processes, launch(tmp_path / "run", *PYTHON, "-c", EAT, "50", memory=100 * MIB))
    assert (small.code, small.exceeded) == (0, "")
    guardian = processes.guardian_pid
    await processes.close()
    assert not [name for name in os.listdir(places) if f".{guardian}." in name]


@pytest_twisted.ensureDeferred
async def test_one_child_out_of_memory_ends_its_whole_attempt(processes: GuardedProcesses, tmp_path: Path) -> None:
    version, why = cgroups.possible()
    if not version:
        pytest.skip(f"no control groups here: {why}")
    command = ("sh", "-c", '"$@"; sleep 1000', "sh", *PYTHON, "-c", EAT, "500")
    exit = await begin(processes, launch(tmp_path / "run", *command, memory=100 * MIB))
    assert (exit.code, exit.exceeded) == (-signal.SIGKILL, "memory")


@pytest_twisted.ensureDeferred
async def test_memory_is_limited_by_watching_all_processes_together(watched: GuardedProcesses, tmp_path: Path) -> None:
    command = ("sh", "-c", '"$@" & "$@" & "$@" & wait', "sh", *PYTHON, "-c", EAT_AND_WAIT, "60")
    exit = await begin(watched, launch(tmp_path / "run", *command, memory=120 * MIB))
    assert watched.memory_limited_by.startswith("watching every 0.05 s")
    assert (exit.code, exit.exceeded) == (-signal.SIGKILL, "memory")
    assert exit.max_memory > 120 * MIB
    small = await begin(watched, launch(tmp_path / "run", *PYTHON, "-c", EAT, "50", memory=100 * MIB))
    assert (small.code, small.exceeded) == (0, "")


@pytest_twisted.ensureDeferred
async def test_one_big_grab_of_memory_is_refused_by_the_rlimit(watched: GuardedProcesses, tmp_path: Path) -> None:
    script = (
        "import mmap, resource, sys, time\n"
        "while len(sys.argv) > 1 and resource.getrlimit(resource.RLIMIT_AS)[1] != int(sys.argv[1]): time.sleep(0.01)\n"
        "print(*resource.getrlimit(resource.RLIMIT_AS))\n"
        "try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nexcept (OSError, ValueError): print('fixed')\n"
        "mmap.mmap(-1, 8 << 30)"
    )
    limit = 200 * MIB + (4 << 30)
    command = (*PYTHON, "-c", script, str(limit))  # the hard limit is set just after the start: it waits for that
    exit = await begin(watched, launch(tmp_path / "run", *command, memory=100 * MIB))
    first = (tmp_path / "run/stdout").read_text().splitlines()[0]
    assert first.startswith(f"{limit} ")
    assert exit.code == 1
    assert "Cannot allocate memory" in (tmp_path / "run/stderr").read_text()
    free = await begin(watched, launch(tmp_path / "free", *PYTHON, "-c", script))
    assert free.code == 0, "an attempt without a memory limit has none"


@pytest_twisted.ensureDeferred
async def test_no_core_files_are_written(processes: GuardedProcesses, tmp_path: Path) -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    await begin(processes, launch(tmp_path / "run", *PYTHON, "-c", script))
    assert (tmp_path / "run/stdout").read_text() == "0\n"
    assert resource.RLIMIT_CORE >= 0


def _missing(run: Path) -> Launch:
    return launch(run, "no-such-program")


def _missing_path(run: Path) -> Launch:
    return launch(run, "./no-such-program")


def _not_executable(run: Path) -> Launch:
    (run / "notes").write_text("text")
    return launch(run, "./notes")


def _directory(run: Path) -> Launch:
    return launch(run, str(run))


def _no_interpreter(run: Path) -> Launch:
    (run / "script").write_text("#!/no/such/shell\n")
    (run / "script").chmod(0o755)
    return launch(run, "./script")


def _not_a_program(run: Path) -> Launch:
    (run / "data").write_bytes(b"\x00\x01\x02")
    (run / "data").chmod(0o755)
    return launch(run, "./data")


def _directory_gone(run: Path) -> Launch:
    run.rmdir()
    return Launch(run.name, ("true",), {}, str(run))


def _stdin_missing(run: Path) -> Launch:
    return launch(run, "cat", stdin="input.txt")


def _stdout_unwritable(run: Path) -> Launch:
    (run / "stdout").mkdir()
    return launch(run, "true")


def _nul(run: Path) -> Launch:
    return launch(run, "echo", "a\0b")


def _empty(run: Path) -> Launch:
    return launch(run)


def _too_long(run: Path) -> Launch:
    return launch(run, "echo", "x" * (8 << 20))


def _far_too_long(run: Path) -> Launch:
    return launch(run, "echo", "x" * (17 << 20))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "the program no-such-program was not found in the search path"),
        (_missing_path, "the program ./no-such-program was not found"),
        (_not_executable, "./notes is not executable: permission denied"),
        (_directory, "is a directory, not a program"),
        (_no_interpreter, "the interpreter or loader that ./script asks for"),
        (_not_a_program, "./data is not a program this machine can run"),
        (_directory_gone, "the run directory {run} is gone"),
        (_stdin_missing, "the file for standard input, {run}/input.txt, does not exist"),
        (_stdout_unwritable, "{run}/stdout cannot be written for stdout: Is a directory"),
        (_nul, "cannot be passed to a program"),
        (_empty, "there is no command to start"),
        (_too_long, "longer than the system allows"),
        (_far_too_long, "longer than the system allows"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_start_says_why(processes: GuardedProcesses, tmp_path: Path, make, words: str) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    run.mkdir()
    exit = await begin(processes, make(run))
    assert exit.code is None
    assert words.format(run=run) in exit.error
    assert processes.running() == ()
    assert (await begin(processes, launch(tmp_path / "next", "true"))).code == 0


@pytest_twisted.ensureDeferred
async def test_a_guardian_that_cannot_run_is_said_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpc.worker.processes._PROGRAM", "raise SystemExit('broken {root} {channel} {life}')")
    guarded = GuardedProcesses(reactor, tmp_path)
    exit = await begin(guarded, launch(tmp_path / "run", "true"))
    assert f"see {tmp_path / 'guardian.log'}" in exit.error
    assert "broken" in (tmp_path / "guardian.log").read_text()
    monkeypatch.undo()
    assert (await begin(guarded, launch(tmp_path / "run", "true"))).code == 0
    await guarded.close()


@pytest_twisted.ensureDeferred
async def test_close_ends_and_tells_what_runs(tmp_path: Path) -> None:
    guarded = GuardedProcesses(reactor, tmp_path)
    ended = begin(guarded, launch(tmp_path / "run", "sleep", "1000"))
    await begin(guarded, launch(tmp_path / "quick", "true"))
    await guarded.close()
    assert (await ended).code == -signal.SIGKILL
    late = await begin(guarded, launch(tmp_path / "late", "true"))
    assert late.error == "the worker is leaving"
    await guarded.close()


@pytest_twisted.ensureDeferred
async def test_one_key_runs_once_at_a_time(processes: GuardedProcesses, tmp_path: Path) -> None:
    ended = begin(processes, launch(tmp_path / "run", "sleep", "1000"))
    with pytest.raises(ValueError, match="run is running already"):
        processes.start(launch(tmp_path / "run", "true"), lambda exit: None)
    processes.kill("run")
    await ended


def test_limits_that_make_no_sense_are_refused() -> None:
    for bad in (Limits(memory="magic"), Limits(interval=0), Limits(grace=-1)):  # type: ignore[arg-type]
        with pytest.raises(BadInput):
            bad.check()
