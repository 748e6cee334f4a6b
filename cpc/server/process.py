"""The server's process as its files tell of it: who holds the locks, which process it is, how it is asked to stop.

A lock says whether a server runs: the kernel lets it go when the process ends, however it ends. The process file says which
one it is, with the time it was started, so that a number which has been given to another process is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cpc.core.clock import Clock
from cpc.core.errors import BadInput, Conflict, CopernicusError
from cpc.server.config import Config, Lock, Place, write_secret
from cpc.store import database

_TICK = 0.1
_MOMENT = 20  # so many


def lock_file(place: Place) -> Path:
    """Held by the process that is this server."""
    return place.directory / "server.lock"


def run_lock_file(config: Config) -> Path:
    """Held by the process that uses the run directory."""
    return Path(config.run_dir) / "lock"


def kill_group(pid: int) -> None:
    """End a child at once, with all it has started if it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


class Hold:
    """All locks. Other processes that inherit them by a fork hold them too, until the last one ends."""

    def __init__(self, place: Place, config: Config | None) -> None:
        self._locks: list[Lock] = []
        try:
            self._locks.append(_server_lock(place))
            if config is not None:
                self._locks.append(run_lock(config))
                self._locks += database_locks(config)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have them."""
        while self._locks:
            self._locks.pop().release()


def _server_lock(place: Place) -> Lock:
    """Whoever only looks whether it is held has it for a moment, and so has what a killed server was just starting: those are
    waited for."""
    for _ in range(_MOMENT):
        try:
            return _lock(lock_file(place), *_whose(place))
        except Conflict:
            if _recorded(place):
                raise
            time.sleep(_TICK)
    return _lock(lock_file(place), *_whose(place))


def _whose(place: Place) -> tuple[str, str]:
    """What the lock is of, and what to do when it is held."""
    pid = _recorded(place)
    hint = f"it is running as process {pid}; stop it with `cpc-server stop`" if pid else "try again in a moment"
    return f"the server {place.directory.name}", hint


def run_lock(config: Config) -> Lock:
    """The run directory is ours alone."""
    what = f"the run directory {config.run_dir}"
    return _lock(run_lock_file(config), what, "each server needs a run directory of its own")


def database_locks(config: Config) -> list[Lock]:
    """The SQLite database is ours alone, wherever it lies; of PostgreSQL see `cpc.store.lock`."""
    if database.is_postgresql(config.database):
        return []
    path = database.sqlite_path(config.database)
    if not path.parent.is_dir():
        return []  # that will be told of in its own words
    return [_lock(path.with_name(path.name + ".lock"), f"the database {path}", "each server needs one of its own")]


def _lock(path: Path, what: str, hint: str) -> Lock:
    try:
        return Lock(path, what)
    except Conflict as error:
        raise Conflict(error.message, hint) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}", "check the owner of the directory") from error


@contextmanager
def held(place: Place, config: Config | None) -> Iterator[None]:
    """Nobody else uses the server meanwhile; Conflict when somebody does."""
    hold = Hold(place, config)
    try:
        yield
    finally:
        hold.release()


def is_running(place: Place) -> bool:
    """Whether a process is this server, or a command works on it."""
    try:
        return Lock.taken(lock_file(place))
    except OSError as error:
        hint = "check the owner of the directory"
        raise BadInput(f"{lock_file(place)} cannot be read: {error.strerror}", hint) from None


# --- which process ------------------------------------------------------------------------------------------------------


def record(place: Place) -> None:
    """Write down that this process is the server."""
    pid = os.getpid()
    write_secret(place.pid_file, f"{pid}\n{_started(pid)}\n".encode())


def forget(place: Place) -> None:
    """This process is not the server any more."""
    place.pid_file.unlink(missing_ok=True)


def _recorded(place: Place) -> int | None:
    """The process that the file names, if it is still that one."""
    try:
        lines = place.pid_file.read_text().split()
        pid = int(lines[0])
        return pid if pid > 1 and _started(pid) == lines[1] else None
    except (OSError, ValueError, IndexError):
        return None


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its number that is one process and no other."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[19].decode()


def find(place: Place) -> int | None:
    """The running server's process, if there is one."""
    return _recorded(place) if is_running(place) else None


def send(place: Place, number: signal.Signals) -> bool:
    """Signal the server; False when none runs."""
    pid = find(place)
    if pid is None:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at again: from here on the handle means this process whatever happens to its number.
        if _recorded(place) != pid:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise BadInput(f"process {pid} belongs to another user", "stop the server as the user who started it") from None
    finally:
        os.close(handle)
    return True


def stop(place: Place, timeout: float, now: bool, clock: Clock, say: Callable[[str], None]) -> bool:
    """Ask the server to stop, and wait; False when none ran.

    With `now` it is killed if it has not gone within `timeout` seconds, which costs nothing that was acknowledged. `say`
    gets a dot per second. CopernicusError when it does not go.
    """
    if not send(place, signal.SIGTERM):
        if is_running(place):
            raise Conflict(
                f"a command works on the server {place.directory.name} at the moment", "try again in a moment"
            )
        return False
    if not _gone(place, timeout, clock, say):
        if not now:
            raise CopernicusError(
                f"the server has not stopped within {timeout:g} s",
                "wait on with `cpc-server stop`, or end it with `cpc-server stop --now`: nothing acknowledged is lost",
            )
        send(place, signal.SIGKILL)
        if not _gone(place, 30.0, clock, say):
            raise CopernicusError("the server does not end, not even when killed", "its disk may be stuck: see dmesg")
        forget(place)
    return True


def _gone(place: Place, timeout: float, clock: Clock, say: Callable[[str], None]) -> bool:
    began = clock.monotonic()
    told = 0
    while is_running(place):
        waited = clock.monotonic() - began
        if waited > timeout:
            return False
        if waited > told + 1:
            told += 1
            say(".")
        time.sleep(_TICK)
    return True


# --- systemd ------------------------------------------------------------------------------------------------------------


def notify(state: str) -> None:
    """Tell the service manager (sd_notify), if one asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.sendall(state.encode())
