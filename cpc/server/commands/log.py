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
    try:
        show(path, count, follow, sys.stdout.buffer)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise BadInput(f"{error.filename or path} cannot be read: {error.strerror}") from None


def show(path: Path, count: int, follow: bool, out: BinaryIO) -> None:
    """Write the last `count` lines to `out`; with `follow` also all that come after them, for ever."""
    lines, file = end_of(path, count)
    try:
        out.writelines(lines)
        out.flush()
        while follow:
            file = _more(path, file, out)
    finally:
        if file is not None:
            file.close()


def end_of(path: Path, count: int) -> tuple[list[bytes], BinaryIO | None]:
    """The last `count` lines (0: all), of turned-over files too; and the newest file, read so far."""
    try:
        newest = path.open("rb")
    except FileNotFoundError:
        return [], None
    most = count or None
    parts, seen = [deque(newest, most)], {_which(newest)}
    for number in range(1, COUNT):
        if count and sum(map(len, parts)) >= count:
            break
        try:
            with path.with_name(f"{path.name}.{number}").open("rb") as file:
                if _which(file) not in seen:  # it was turned over just now
                    seen.add(_which(file))
                    parts.append(deque(file, most))
        except FileNotFoundError:
            break
    return list(deque((line for part in reversed(parts) for line in part), most)), newest


def _more(path: Path, file: BinaryIO | None, out: BinaryIO) -> BinaryIO | None:
    """What was appended since; then the file to go on with. One that was turned over is read to its end first."""
    if file is None:
        if path.exists():
            return path.open("rb")
    elif data := file.read():
        out.write(data)
        out.flush()
        return file
    elif _replaced(path, file):
        out.write(file.read())
        file.close()
        return None
    time.sleep(_PACE)
    return file


def _which(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino


def _replaced(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != _which(file)
    except FileNotFoundError:
        return False
