"""What a server can tell of a pool without its batch system: whether nodes find it, and what they are said to share.

Programs of this machine are asked (getent, df, test), within a bound of time: a name server or a file system that does
not answer must not stop the server.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence

from cpc.api.scheduler import Ran, Run
from cpc.core.allocation import Check, NodeSeen
from cpc.core.errors import CopernicusError, NotFound
from cpc.pools.facts import Pool
from cpc.server import filesystem, network
from cpc.server.pools.means import Means

#: Seconds that one question may take.
_PATIENCE = 5.0
#: So many names of nodes are looked up until one is found to be of another machine.
_LOOKED_UP = 4
#: The nearest directory above $1 that is there, the type of its file system, and what this machine exports.
_LOOK = """d=$1; while [ ! -e "$d" ] && [ "$d" != / ]; do d=$(dirname "$d"); done
echo "$d"; df --output=fstype -- "$d" | tail -n 1; cat /etc/exports /etc/exports.d/*.exports 2>/dev/null; true"""


class Ground:
    """`host` and `port` are in the bundles of workers; `listen`: the addresses on which the server listens."""

    def __init__(self, host: str, port: int, listen: Sequence[str], machine: str = "") -> None:
        """`machine`: what this one is called, if not as its system says."""
        self._host = host
        self._port = port
        self._listen = tuple(listen)
        self._machine = machine or os.uname().nodename

    async def look(self, run: Run, pool: Pool, means: Means, nodes: Sequence[NodeSeen]) -> tuple[Check, ...]:
        """One Check for each thing that could be looked at. `nodes`: the pool's; without any nothing is said of the way."""
        away = await self._elsewhere(run, nodes)
        checks = list(await self._reach(run, away)) if away else []
        if pool.shared_files:
            checks += await _shared(run, pool, means, away)
        return tuple(checks)

    async def _elsewhere(self, run: Run, nodes: Sequence[NodeSeen]) -> str:
        """A node that is not this machine; "" when there is none."""
        names: dict[str, str] = {}
        for one in nodes:
            address = one.address or one.name
            if _is_address(address):
                if not network.is_here(address):
                    return one.name
            elif _short(address) != _short(self._machine):
                names[address] = one.name
        for address, name in list(names.items())[:_LOOKED_UP]:
            found = await _addresses(run, address)
            if not found or not all(map(network.is_here, found)):
                return name
        return ""

    async def _reach(self, run: Run, node: str) -> tuple[Check, ...]:
        if all(map(network.is_loopback, self._listen)):
            words = f"the server listens on {' and '.join(self._listen)} only: workers on {node} cannot reach it"
            return (Check("way to the server", False, words, "cpc-server config listen ADDRESS, then restart it"),)
        found = await _addresses(run, self._host)
        hint = "cpc-server config host NAME, the name by which the nodes find this machine; then restart it"
        if found is None:
            return ()
        if not found:
            words = f"workers are sent to {self._host}, a name that cannot be resolved on this machine"
            return (Check("way to the server", False, words, hint),)
        if all(map(network.is_loopback, found)):
            words = f"workers on {node} are sent to {self._host}, which is {found[0]} here: their own machine"
            return (Check("way to the server", False, words, hint),)
        words = f"workers are sent to {self._host}:{self._port}; whether {node} gets there is not seen from here"
        return (Check("way to the server", True, words),)


async def _shared(run: Run, pool: Pool, means: Means, away: str) -> list[Check]:
    """Whether what all nodes are said to see can be so. What this machine does not see it says nothing against."""
    place = means.work or (means.directory if means.directory != "/" else "")
    if not place:
        words = "its nodes are said to share files, but workers keep theirs in $TMPDIR of their node"
        return [Check("shared files", False, words, f"cpcc pool set {pool.name} --work DIR, which all nodes see")]
    checks = []
    try:
        there, kind, exported = await _stand(run, place)
        if there == "/":
            words = f"{place} is not on the server's machine: whether all nodes see it is not seen from here"
            checks.append(Check("shared files", True, words))
        elif filesystem.is_network(kind) or exported or not away:
            checks.append(Check("shared files", True, f"{place} is on {kind}{', and exported' if exported else ''}"))
        else:
            words = f"{place} is on a disk of this machine ({kind}), which {away} does not see"
            hint = (
                "give --work a directory that all nodes see, export this one (/etc/exports), or set --no-shared-files"
            )
            checks.append(Check("shared files", False, words, hint))
        program = means.worker
        if program.startswith("/"):
            _, kind, exported = await _stand(run, os.path.dirname(program))
            with_it = program.startswith((f"{place.rstrip('/')}/", f"{means.directory.rstrip('/') or place}/"))
            if (filesystem.is_network(kind) or exported or (with_it and there != "/")) and (
                await _ask(run, "test", "-x", program)
            ).code:
                words = f"{program}, on what the nodes share, is not there or cannot be run"
                hint = f"install it there, or cpcc pool set {pool.name} --worker PATH"
                checks.append(Check("worker program", False, words, hint))
    except NotFound:
        return checks  # a machine without df: nothing can be said
    except CopernicusError as error:
        checks.append(
            Check("shared files", False, f"{place} does not answer: {error.message}", "see what is mounted there")
        )
    return checks


async def _stand(run: Run, path: str) -> tuple[str, str, bool]:
    """(the nearest directory above `path` that is there, the type of its file system, whether this machine exports it)."""
    there, kind, *lines = (await _ask(run, "sh", "-c", _LOOK, "sh", path)).out.splitlines() or ["/", ""]
    exports = [line.split()[0].strip('"').rstrip("/") for line in lines if line.strip() and not line.startswith("#")]
    return there, kind.strip(), any(f"{path}/".startswith(f"{one}/") for one in exports)


async def _addresses(run: Run, name: str) -> tuple[str, ...] | None:
    """What a name stands for on this machine; None where nobody can be asked."""
    if _is_address(name):
        return (name,)
    try:
        ran = await _ask(run, "getent", "ahosts", name)
    except CopernicusError:
        return None
    found = [line.split()[0] for line in ran.out.splitlines() if line.strip()]
    return tuple(dict.fromkeys(one for one in found if _is_address(one)))


async def _ask(run: Run, *argv: str) -> Ran:
    return await run(argv, "", _PATIENCE)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _short(name: str) -> str:
    return name.partition(".")[0].lower()
