"""Pools without a running server: their batch systems are asked from the command line, one command after the other."""

from __future__ import annotations

import http.client as http_client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import sqlalchemy as sa

from cpc.api.scheduler import HttpAnswer, NotConnected, Ran, Scheduler, Tools
from cpc.core.allocation import Handle, Seen, SeenState
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import BadInput, NotFound, TooLarge, Unavailable
from cpc.server.pools.commands import MAX_OUTPUT, PASSED
from cpc.server.pools.happening import prefix
from cpc.server.pools.means import read
from cpc.server.pools.schedulers import scheduler_class
from cpc.store import checks, database, pools, schema
from cpc.store.pools import PoolRow


async def run(argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None) -> Ran:
    """`cpc.api.Run`, which is over when it returns."""
    environment = {name: os.environ[name] for name in PASSED if name in os.environ} | {"LC_ALL": "C"} | dict(env or {})
    program = shutil.which(argv[0], path=environment.get("PATH", os.defpath))
    if program is None:
        raise NotFound(f"the command {argv[0]} is not there", "install it, or put its directory into the PATH")
    with subprocess.Popen(
        [program, *argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True, cwd="/",
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(stdin.encode(), timeout)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"{argv[0]} did not end within {timeout:g} s", "see whether the batch system is well"
            ) from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if len(out) + len(err) > MAX_OUTPUT:
        raise TooLarge(f"{argv[0]} printed more than can be read", "ask for less at once")
    code = process.returncode
    return Ran(128 - code if code < 0 else code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


async def http(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout: float = 30.0
) -> HttpAnswer:
    """`cpc.api.Http`, which is over when it returns."""
    connection, path = _connection(url, timeout)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise NotConnected(f"{url} cannot be reached: {error}", "see whether it runs, and its address") from None
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read(MAX_OUTPUT + 1)
    except (OSError, http_client.HTTPException) as error:
        raise Unavailable(f"{url} did not answer: {error}", "see what it writes into its log") from None
    finally:
        connection.close()
    if len(content) > MAX_OUTPUT:
        raise TooLarge(f"{url} answered more than can be read")
    return HttpAnswer(answer.status, content, {name.lower(): value for name, value in answer.getheaders()})


def _connection(url: str, timeout: float) -> tuple[http_client.HTTPConnection, str]:
    """(not connected yet, the path to ask for). BadInput for what is no URL."""
    if url.startswith("unix://"):
        socket_path, colon, rest = url.removeprefix("unix://").partition(":")
        if not colon or not rest.startswith("/"):
            raise BadInput(f"{url[:200]!r} is not the address of a socket", "write unix:///run/service.sock:/path")
        return _Socket(socket_path, timeout), rest
    try:
        parts = urlsplit(url)
        kind = {"http": http_client.HTTPConnection, "https": http_client.HTTPSConnection}[parts.scheme]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return kind(parts.hostname or "", parts.port, timeout=timeout), path
    except (KeyError, ValueError):
        raise BadInput(f"{url[:200]!r} is not the address of an HTTP server") from None


class _Socket(http_client.HTTPConnection):
    """A connection to a socket of this machine."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def each(url: str) -> list[PoolRow]:
    """All pools; none in a database of before pools."""
    if not _has_pools(url):
        return []
    with checks.reading(url) as tx:
        return pools.each(tx)


def _has_pools(url: str) -> bool:
    engine = database.engine(url)
    there = sa.inspect(engine).has_table(schema.pools.name)
    engine.dispose()
    return there


def find(url: str, name: str) -> tuple[PoolRow, bool]:
    """(the pool of this name, whether it is still there): without one, the last that had it. NotFound."""
    from cpc.core import names

    found = each(url)
    for row in found:
        if names.key(row.name) == names.key(name):
            return row, True
    if _has_pools(url):
        with checks.reading(url) as tx:
            gone = pools.gone(tx, name)
        if gone is not None:
            return gone, False
    there = ", ".join(row.name for row in found)
    raise NotFound(f"there is no pool {name[:80]!r}", f"there are: {there}" if there else "this server has none")


def scheduler(row: PoolRow, clock: Clock, chance: Chance) -> Scheduler:
    """A pool's scheduler, for commands that end when they return."""
    return scheduler_class(row.facts.scheduler)(Tools(run, http, clock, chance), read(row.means, row.name).settings)


async def live(asked: Scheduler, row: PoolRow, server_id: str) -> list[Seen]:
    """All that has a token of this pool and has not ended, also what no database knows."""
    found = await asked.adopt(prefix(server_id, row.id))
    return [one for one in found if one.state is not SeenState.ENDED]


async def cancel(asked: Scheduler, found: Sequence[Seen]) -> None:
    """End these."""
    await asked.cancel([Handle(one.native, one.token, one.index) for one in found])
