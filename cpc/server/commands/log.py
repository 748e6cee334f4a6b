"""The server's log."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

import click

from cpc.core.errors import BadInput, NotFound
from cpc.core.numbers import Whole
from cpc.server.commands import Context, pass_context
from cpc.server.logs import COUNT

_PACE = 0.2


@click.command(short_help="Show the server's log.")
@click.option("-n", "count", type=Whole(0), default=40, show_default=True, help="How many lines; 0: all.")
@click.option("-f", "follow", is_flag=True, help="Go on as the log grows.")
@pass_context
def log(context: Context, count: int, follow: bool) -> None:
    """Show the end of the server's log, oldest line first. Times are UTC."""
    path = context.place().log_file
    if not path.exists() and not follow:
        raise NotFound(f"there is no log {path}", "the server was never started")
    out = sys.stdout.buffer
    try:
        for line in last_lines(path, count):
            out.write(line)
        out.flush()
        if follow:
            _follow(path, out)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise BadInput(f"{error.filename or path} cannot be read: {error.strerror}") from None


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines (0: all), of turned-over files too."""
    found: deque[bytes] = deque(maxlen=count or None)
    files = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, COUNT))]
    chosen: list[Path] = []
    lines = 0
    for each in files:
        if not each.exists() or (count and lines >= count):
            break
        chosen.append(each)
        with each.open("rb") as file:
            lines += sum(1 for _ in file)
    for each in reversed(chosen):
        with each.open("rb") as file:
            found.extend(file)
    return list(found)


def _follow(path: Path, out: BinaryIO) -> None:
    """What is appended, for ever; a file that was turned over is read to its end first."""
    file: BinaryIO | None = None
    at_end = True
    while True:
        if file is None and path.exists():
            file = path.open("rb")
            file.seek(0, os.SEEK_END if at_end else os.SEEK_SET)
        at_end = False
        if file is not None:
            data = file.read()
            if data:
                out.write(data)
                out.flush()
                continue
            if _replaced(path, file):
                out.write(file.read())
                file.close()
                file = None
                continue
        time.sleep(_PACE)


def _replaced(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False
