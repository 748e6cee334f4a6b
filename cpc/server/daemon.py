"""A process of its own: out of the terminal's session, with its output in the log, and a pipe that says how its start went.

The parent returns when the child has said that it is ready, or why it is not; a child that ends without a word is told of
too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from cpc.core.errors import CopernicusError, from_code
from cpc.core.reading import UNREADABLE

#: Told once: None when the server answers, else why it could not start.
Ready = Callable[[CopernicusError | None], None]


class _Word(msgspec.Struct):
    """What goes through the pipe."""

    code: str = ""
    message: str = ""
    hint: str = ""


class Pipe:
    """The child's end. A word that nobody waits for any more is not an error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, error: CopernicusError | None) -> None:
        """Tell the parent; only the first word counts."""
        if self._descriptor < 0:
            return
        word = _Word(error.code, error.message, error.hint) if error else _Word()
        try:
            os.write(self._descriptor, msgspec.json.encode(word))
        except OSError:
            pass
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def launch(serve: Callable[[Ready], int], log_file: Path) -> None:
    """Run `serve` in a daemon; returns when it is ready. CopernicusError says why it is not."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _detach(serve, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    try:
        word = msgspec.json.decode(text, type=_Word)
    except UNREADABLE:
        raise CopernicusError("the server ended before it was ready", f"see the end of {log_file}") from None
    if word.code:
        raise from_code(word.code, word.message, word.hint)


def _detach(serve: Callable[[Ready], int], writing: int) -> None:
    """In the child: never returns."""
    code = 1
    try:
        os.setsid()
        # A second fork: not the leader of its session, so that it can never get a terminal again.
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.close(nothing)
        code = serve(Pipe(writing).say)
    finally:
        os._exit(code)
