"""What a node tells that a pool is looked at from, and how far it got on its way to the server.

A worker program is started there as always (`cpc-worker check`); it says what it finds and ends. Where it does not get
through to the server, its exit code is all that is heard of it, by way of the batch system: `Way`.
"""

from __future__ import annotations

import enum

import msgspec

from cpc.core.allocation import Check

#: A file with this name, where workers keep theirs or above, is written by the server: a node that shares the directory
#: sees it.
MARK = ".cpc-shared"


class Way(enum.IntEnum):
    """How far a node got on its way to the server: the exit code of `cpc-worker check`."""

    OPEN = 0  # all the way, and back
    UNKNOWN_HOST = 11
    REFUSED = 12  # the machine answers that nothing listens
    SILENT = 13
    STRANGER = 14  # somebody answers, who is not the server in the bundle
    NO_ROUTE = 15
    TURNED_AWAY = 16  # the server itself says no


#: (what is known then, what to do) of each that is not OPEN, about `node`, `host` and `port`.
WAYS: dict[Way, tuple[str, str]] = {
    Way.UNKNOWN_HOST: (
        "{node} cannot resolve {host}",
        "cpc-server config host NAME, by which the nodes know this machine (or its address); or add it to their /etc/hosts",
    ),
    Way.REFUSED: (
        "{node} reaches {host}, and nothing listens on port {port} there",
        "cpc-server config listen ADDRESS, one that the nodes reach; or a firewall rejects them: open port {port}",
    ),
    Way.SILENT: (
        "from {node} nothing answers at {host} port {port}",
        "a firewall between the nodes and this machine drops what they send: open port {port} for them",
    ),
    Way.STRANGER: (
        "who answers {node} at {host} port {port} is not this server",
        "something else has that address or port there, or the clock of {node} is far off: see `cpc-server config host`",
    ),
    Way.NO_ROUTE: (
        "{node} has no way to {host}",
        "see `ip route get` there; nodes without a way out need a server that is in their own network",
    ),
    Way.TURNED_AWAY: ("this server has turned {node} away", "see `cpc-server log`, then look again"),
}


def way_of(code: int) -> Way | None:
    """What an exit code means; None for those that are none of these, and for success."""
    return Way(code) if code and code in {way.value for way in Way} else None


def words_for(way: Way, node: str, host: str, port: int) -> tuple[str, str]:
    """(what is known, what to do) when a node got no further."""
    words, hint = WAYS[way]
    return words.format(node=node, host=host, port=port), hint.format(node=node, host=host, port=port)


class Tried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One address of the bundle. `way` as in `Way`; `words`: what the node's system or TLS said."""

    host: str
    port: int
    way: int
    words: str = ""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node as the worker program finds it. Sizes in bytes; "" and 0 where nothing is known.

    `node`: what its batch system calls it; `clock`: its time as it sends this, UTC µs. `cores`, `memory`, `gpus`: what it
    has, whatever this allocation may use of it. `platform_trouble`: why the pool's platform cannot be used there.
    `programs` are (name, version). `work`: where workers keep their files, `work_trouble`: why they cannot, `free`: bytes
    there. `marks`: what is in the files of the server that are seen there. `munge`: "ok", or what it said; "" where there is
    none. `further`: what installed packages look at there, by the name of each.
    """

    host: str
    node: str = ""
    release: str = ""
    clock: int = 0
    platform: str = ""
    platform_trouble: str = ""
    cores: int = 0
    memory: int = 0
    gpus: int = 0
    programs: tuple[tuple[str, str], ...] = ()
    work: str = ""
    work_trouble: str = ""
    free: int = 0
    marks: tuple[str, ...] = ()
    munge: str = ""
    tried: tuple[Tried, ...] = ()
    further: tuple[tuple[str, Check], ...] = ()

    @property
    def name(self) -> str:
        """What to call it."""
        return self.node or self.host
