"""How one attempt's process comes into being, and in words why it could not. The only way in which attempts start.

`subprocess.Popen` without a `preexec_fn` uses vfork: measured at 1,700 starts of /bin/true a second on one core where
fork and exec from the same small process made 800. What must hold before the first instruction of the program is
inherited (limits), done by Popen's own C code (session, directory, files), or, for a control group, done in the child.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cpc.worker.cgroups import Group

GIB = 1 << 30


class NotStarted(Exception):
    """The program could not be started; the words say why."""


def address_space(memory: int) -> int:
    """RLIMIT_AS for a limit of `memory` bytes. Programs map far more than they touch (threads, shared libraries), so
    this only stops one big grab between two looks of the guardian, which holds what is really used to the limit."""
    return 2 * memory + 4 * GIB


def start(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, files: Sequence[str], memory: int, group: Group | None
) -> int:
    """The process id of a new session's leader that runs `argv`. `files`: paths of stdin ("" none), stdout, stderr.

    `memory` in bytes is enforced by `group` if there is one. NotStarted tells in words what is wrong.
    """
    if not argv or not argv[0]:
        raise NotStarted("there is no command to start")
    _check_directory(cwd)
    opened: list[int] = []
    former = None
    try:
        for name, path in zip(("stdin", "stdout", "stderr"), files, strict=True):
            opened.append(_open(name, path, cwd))
        if memory and group is None:
            former = resource.getrlimit(resource.RLIMIT_AS)
            wanted = _below(address_space(memory), former[1])
            resource.setrlimit(resource.RLIMIT_AS, (wanted, former[1]))
        process = subprocess.Popen(
            argv,
            stdin=opened[0],
            stdout=opened[1],
            stderr=opened[2],
            cwd=cwd,
            env=env,
            start_new_session=True,
            preexec_fn=None if group is None else group.enter,  # noqa: PLW1509 - the guardian has one thread
        )
        process.returncode = 0  # the guardian reaps; Popen must not
    except (OSError, ValueError, subprocess.SubprocessError, MemoryError) as error:
        raise NotStarted(_why(error, argv[0], cwd, env)) from None
    finally:
        if former is not None:
            resource.setrlimit(resource.RLIMIT_AS, former)
        for fd in opened:
            os.close(fd)
    if former is not None:
        _harden(process.pid, _below(address_space(memory), former[1]))
    return process.pid


def _below(wanted: int, ceiling: int) -> int:
    return wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)


def _harden(pid: int, limit: int) -> None:
    """Lower the hard limit too: a program could raise its soft limit again."""
    with contextlib.suppress(OSError, ValueError):  # ended already, or became another user's: the soft limit holds
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def _check_directory(cwd: str) -> None:
    if not os.path.isdir(cwd):
        gone = "is not a directory" if os.path.lexists(cwd) else "is gone"
        raise NotStarted(f"the run directory {cwd} {gone}")


def _open(name: str, path: str, cwd: str) -> int:
    place = os.path.join(cwd, path) if path else os.devnull
    flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        return os.open(place, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError as error:
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
