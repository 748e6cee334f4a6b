"""Pools without a running server: their batch systems are asked from the command line, one command after the other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import sqlalchemy as sa

from cpc.api.scheduler import HttpAnswer, Ran, Scheduler, Tools
from cpc.core.allocation import Handle, Seen, SeenState
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import NotFound, TooLarge, Unavailable
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
    """`cpc.api.Http`: only a running server asks HTTP servers."""
    raise Unavailable(f"{url} is only asked by a running server", "start it, then cpcc doctor POOL")


def each(url: str) -> list[PoolRow]:
    """All pools; none in a database of before pools."""
    engine = database.engine(url)
    there = sa.inspect(engine).has_table(schema.pools.name)
    engine.dispose()
    if not there:
        return []
    with checks.reading(url) as tx:
        return pools.each(tx)


def find(url: str, name: str) -> PoolRow:
    """The pool of this name, or NotFound."""
    from cpc.core import names

    found = each(url)
    for row in found:
        if names.key(row.name) == names.key(name):
            return row
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
