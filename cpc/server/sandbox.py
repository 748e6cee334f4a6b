"""What controllers can see of this machine: a prefix of their command line that keeps them from the server's own files.

With bubblewrap (`bwrap`) they get the system and their modules read-only, the directories of their steps, a network
and processes of their own, and nothing else: neither the server's keys nor its database.
"""

from __future__ import annotations

import errno
import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpc.core.errors import BadInput

AUTO, NONE = "auto", "none"
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ssl/certs",
)
_FACTS = (
    "/etc/group", "/etc/hosts", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/nsswitch.conf", "/etc/passwd",
)  # fmt: skip
_KEPT = ("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_KEPT_BEGINNINGS = ("LC_", "GMX", "OMP_", "OPENMM_", "OPENBLAS_", "MKL_")
_PROBE_TIME = 10.0
_BUSY = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_EXPOSED = "controllers can read all that the server can"


@dataclass(frozen=True, slots=True)
class Views:
    """Directories that controllers may see besides the system: `read` only, or `write`, too."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()


def prefix(wrap: str, views: Views) -> tuple[str, ...]:
    """What goes before a controller's command line. `wrap`: the setting; `auto` is bubblewrap where it works."""
    if wrap == AUTO:
        return bubblewrap(views) if works() else ()
    return () if wrap == NONE else tuple(split(wrap))


def split(wrap: str) -> list[str]:
    """The words of a command line; BadInput when its quotes do not match."""
    try:
        return shlex.split(wrap)
    except ValueError as error:
        raise BadInput(f"{wrap!r} is no command line: {error}", "write auto, none, or a command") from None


def works() -> bool:
    """Whether bubblewrap can be used here."""
    return why_not() == ""


def why_not() -> str:
    """Why bubblewrap cannot be used here, in words; empty when it can. Tried until that is known.

    As long as a busy machine does not let it be known, it is used: code is never let out because of that.
    """
    try:
        return _tried()
    except _Unknown:
        return ""


class _Unknown(Exception):
    """The machine was too busy to tell."""


@functools.cache  # what it returns; it is tried again when it raises
def _tried() -> str:
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (bwrap) is not installed"
    try:
        done = subprocess.run(
            [*bubblewrap(Views()), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIME,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Unknown from None
    except OSError as error:
        if error.errno in _BUSY:
            raise _Unknown from None
        return f"{program} cannot be used: {error}"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip()
    if any(os.strerror(number) in said for number in _BUSY):
        raise _Unknown
    return f"{program} cannot be used: {said.splitlines()[-1] if said else f'exit code {done.returncode}'}"


def exposed(wrap: str) -> str:
    """What controllers can see that they should not, and what to do, in words; empty when they are kept apart."""
    if wrap == NONE:
        return f"{_EXPOSED}; `cpc-server config controller_wrap auto` puts them in a sandbox"
    if wrap == AUTO and not works():
        return f"{_EXPOSED}: {why_not()}; install it, or let only those whom you trust install modules"
    return ""


def bubblewrap(views: Views) -> tuple[str, ...]:
    """bubblewrap with these views. What a view lies in stays hidden."""
    read = [*_SYSTEM, *_FACTS, *_python(), *(str(path) for path in views.read)]
    arguments = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in read:
        arguments += ["--ro-bind-try", path, path]
    for writable in views.write:
        arguments += ["--bind", str(writable), str(writable)]
    return (*arguments, "--chdir", "/", "--")


def _python() -> list[str]:
    """Where this interpreter and what is installed for it lie; below a home directory, for example."""
    source = Path(__file__).resolve().parents[1]
    places = {
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        str(source),
        *(one for one in sys.path if os.path.isdir(one)),
    }
    return sorted(os.path.abspath(one) for one in places if one)


def environment(env: Mapping[str, str], home: str = "/tmp") -> dict[str, str]:
    """The environment of controllers: of the server's own only what programs need, none of its secrets."""
    kept = {name: value for name, value in env.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)}
    return {"PATH": os.defpath, **kept, "HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}
