"""How one attempt's process comes into being, and in words why it could not. The only way in which attempts start.

`posix_spawn` shares the guardian's memory with the child until it is another program, so it costs the same however large
the guardian is: 1,700 starts of /bin/true a second on one core, where fork and exec made 800. What must hold before the
first instruction of the program is inherited (limits, directory) or done by posix_spawn (session, files, signals). Only
what a control group limits must be put there by the child itself, which takes the slow way of `subprocess.Popen`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cpc.worker.cgroups import Group

GIB = 1 << 30
_STREAMS = ("stdin", "stdout", "stderr")
_NOTHING = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # for all who have nothing to read
# All of them: for each signal that it is not told of, posix_spawn asks what is done with it now.
_DEFAULT_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class NotStarted(Exception):
    """The program could not be started; the words say why."""


def address_space(memory: int) -> int:
    """RLIMIT_AS for a limit of `memory` bytes. Programs map far more than they touch (threads, shared libraries), so
    this only stops one big grab between two looks of the guardian, which holds what is really used to the limit."""
    return 2 * memory + 4 * GIB


def start(
    argv: list[str], env: Mapping[str, str], cwd: str, files: Sequence[str], memory: int, group: Group | None
) -> int:
    """The process id of a new session's leader that runs `argv`. `files`: paths of stdin ("" none), stdout, stderr.

    `memory` in bytes is enforced by `group` if there is one. NotStarted tells in words what is wrong.
    """
    if not argv or not argv[0]:
        raise NotStarted("there is no command to start")
    streams: list[int] = []
    former = None
    try:
        _enter(cwd)
        for name, path in zip(_STREAMS, files, strict=True):
            streams.append(_open(name, path) if path else _NOTHING)
        if memory and group is None:
            former = resource.getrlimit(resource.RLIMIT_AS)
            wanted = _below(address_space(memory), former[1])
            resource.setrlimit(resource.RLIMIT_AS, (wanted, former[1]))
        pid = _spawn(argv, env, streams) if group is None else _spawn_into(group, argv, env, streams)
    except (OSError, ValueError, subprocess.SubprocessError, MemoryError) as error:
        raise NotStarted(_why(error, argv[0], cwd, env)) from None
    finally:
        if former is not None:
            resource.setrlimit(resource.RLIMIT_AS, former)
        for fd in streams:
            if fd != _NOTHING:
                os.close(fd)
        os.chdir("/")  # or the file system of the run directory could not be unmounted
    if former is not None:
        _harden(pid, _below(address_space(memory), former[1]))
    return pid


def _spawn(argv: list[str], env: Mapping[str, str], files: Sequence[int]) -> int:
    """Every descriptor but the three is closed on exec: Python opens them so."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(files)]
    error: OSError | None = None
    for path in _candidates(argv[0], env):
        try:
            return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigdef=_DEFAULT_SIGNALS)
        except (FileNotFoundError, NotADirectoryError) as missing:
            error = missing
        except PermissionError as denied:  # as a shell does it: one that may be run may come later in the path
            error = denied
    raise error or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])


def _candidates(program: str, env: Mapping[str, str]) -> Iterator[str]:
    if "/" in program:
        yield program
        return
    for directory in os.get_exec_path(env):
        path = os.path.join(directory, program)
        if os.path.exists(path):
            yield path


def _spawn_into(group: Group, argv: Sequence[str], env: Mapping[str, str], files: Sequence[int]) -> int:
    process = subprocess.Popen(
        argv, stdin=files[0], stdout=files[1], stderr=files[2], env=env, start_new_session=True,
        preexec_fn=group.enter,  # noqa: PLW1509 - the guardian has one thread
    )  # fmt: skip
    process.returncode = 0  # the guardian reaps; Popen must not
    return process.pid


def _below(wanted: int, ceiling: int) -> int:
    return wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)


def _harden(pid: int, limit: int) -> None:
    """Lower the hard limit too: a program could raise its soft limit again."""
    with contextlib.suppress(OSError, ValueError):  # ended already, or became another user's: the soft limit holds
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def _enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except (FileNotFoundError, NotADirectoryError):
        gone = "is not a directory" if os.path.lexists(cwd) else "is gone"
        raise NotStarted(f"the run directory {cwd} {gone}") from None


def _open(name: str, path: str) -> int:
    flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError as error:
        place = os.path.abspath(path)
        if name == "stdin" and isinstance(error, FileNotFoundError):
            raise NotStarted(f"the file for standard input, {place}, does not exist") from None
        verb = "read for standard input" if name == "stdin" else f"written for {name}"
        raise NotStarted(f"{place} cannot be {verb}: {error.strerror}") from None


def _why(error: Exception, program: str, cwd: str, env: Mapping[str, str]) -> str:
    if isinstance(error, MemoryError):
        return "the guardian has no memory left to start a process with"
    if isinstance(error, subprocess.SubprocessError):
        return f"{program} could not be put into its memory control group"
    if isinstance(error, ValueError):
        return f"the command or an environment variable cannot be passed to a program: {error}"
    assert isinstance(error, OSError)
    code = error.errno
    place = program if "/" in program else ""
    path = os.path.join(cwd, place) if place else ""
    if isinstance(error, FileNotFoundError):
        if not os.path.isdir(cwd):
            return f"the run directory {cwd} is gone"
        if path and os.path.exists(path):
            return f"the interpreter or loader that {program} asks for (its '#!' line) does not exist"
        where = "" if place else f" in the search path {env.get('PATH', os.defpath)}"
        return f"the program {program} was not found{where}"
    if isinstance(error, PermissionError):
        if path and os.path.isdir(path):
            return f"{program} is a directory, not a program"
        return f"{program} is not executable: permission denied"
    if isinstance(error, NotADirectoryError):
        return f"the program {program} was not found: part of its path is not a directory"
    words = {
        7: "the arguments and environment are longer than the system allows",
        8: f"{program} is not a program this machine can run (no '#!' line, or built for another one)",
        11: "the system allows no more processes for this user",
        12: "the system has no memory left to start a process with",
        26: f"{program} is open for writing, so it cannot be started",
    }
    return words.get(code or 0, f"{program} could not be started: {error.strerror or error}")
