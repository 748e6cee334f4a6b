"""What servers remember of each other: bounded by something that is stated, and gone when nobody needs it any more.

A walk through everything that belongs to the federation of a server counts the entries of every dict, set, list and deque, by the
names of the attributes that lead there. Each place has a bound; one that is not named here may have a few entries for each peer
and worker, so that a dict which somebody adds and never empties is found.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from cpc.queue import asks, callers, tried
from cpc.server.federation import loans, survey
from cpc.wire import calls, questions

if TYPE_CHECKING:
    from tests.simulation.federation.server import PeerServer

#: Whose attributes are looked at. What belongs to the rest of the server has oracles of its own.
OURS = (
    "cpc.server.federation.", "cpc.queue.asks", "cpc.queue.callers", "cpc.queue.sources", "cpc.queue.tried", "cpc.queue.served",
    "cpc.queue.spare", "cpc.spool.cache", "cpc.wire.connection", "cpc.wire.calls", "cpc.wire.questions", "cpc.wire.channel",
)  # fmt: skip
CONTAINERS = (dict, set, list, deque, WeakSet)

#: Entries at most, by the end of the path, for each server that is known.
PER_PEER = {
    "asked._asks._of[]": asks.MOST,
    "asked._callers._offers[]": callers.MOST,
    "asked._tried._tried[]": tried.MOST + 64,
    "_calls._sent": calls.MAX_CALLS + calls.FAR_CALLS + calls.SMALL_CALLS,
    ".waiting": calls.MAX_WAITING,
    # Questions and answers that wait for a link that stands still, in two pieces each.
    "connection.channel._queue": 4 * (calls.MAX_CALLS + calls.FAR_CALLS + calls.SMALL_CALLS),
    "_questions._inbox": questions.MAX_MESSAGES + 1,
    "_questions._bulk_inbox": questions.MAX_MESSAGES + 1,
    "home._owners[].loans[].own": loans.MOST_UNSAID + 256,
    "home._owners[].loans[].tails": 64 * loans.MOST_TAILS,
}
#: And in all.
IN_ALL = {
    "asked._asks._asks": asks.REMEMBERED,
    "surveying._answered": survey.REMEMBERED,
    "_cache._sizes": 100_000,
    "_held._sizes": 100_000,
    "_held._named": 100_000,
}
#: Nothing is left there when all has settled.
REST = (
    "home._owners", "owner._borrowed", "owner._orders", "asking._busy", "asking._promised", "asked._repeats", "asked._under_way",
    "cache._flights", "held.items", "held._named", "custody._owners", "_calls._sent", ".waiting", "._inbox", "._bulk_inbox",
    "surveying._running",
)  # fmt: skip
#: Where the results are that are in custody, and that their owners are to be told of.
KEPT = ("custody.", "home._owners")


def entries(server: PeerServer) -> Counter[str]:
    """How many entries there are, by path."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    _walk(server.federation, "", found, seen)
    return found


def _walk(what: Any, path: str, found: Counter[str], seen: set[int]) -> None:
    if isinstance(what, CONTAINERS):
        found[path] += len(what)
        values = list(what.values()) if isinstance(what, Mapping) else list(what)
        for value in values:
            _walk(value, f"{path}[]", found, seen)
    elif type(what).__module__.startswith(OURS) and id(what) not in seen:
        seen.add(id(what))
        for name, value in _attributes(what):
            _walk(value, f"{path}.{name}" if path else name, found, seen)


def _attributes(what: Any) -> Iterator[tuple[str, Any]]:
    names = [*getattr(what, "__dict__", ()), *getattr(type(what), "__slots__", ())]
    for name in names:
        yield name, getattr(what, name, None)


def too_many(server: PeerServer) -> list[str]:
    """Places where more is remembered than can be needed, in words."""
    peers = len(server.federation.book.rows) + 1
    borrowed = len(server.lending.owner.register._ways)
    workers = len(server.queue.index.sessions) + borrowed
    few = 40 + 8 * peers + 8 * workers + 2 * workers * peers
    found = []
    for path, count in entries(server).items():
        bound = next((most * peers for end, most in PER_PEER.items() if path.endswith(end)), few)
        bound = next((most for end, most in IN_ALL.items() if path.endswith(end)), bound)
        jobs = ("lent", "holds", "results", "checkpoints") if "loans[]" in path else ()
        if count > bound and not path.endswith(jobs):
            found.append(f"{count} entries of {path}, at most {bound}")
    held = server.federation.filing.cache
    if held.size > held._limit():
        found.append(f"{held.size} bytes in the relay cache, at most {held._limit()}")
    return found + list(_bytes(server))


def _bytes(server: PeerServer) -> Iterator[str]:
    """What is held in memory of others' messages, on its way through."""
    for peer, link in server.federation.links._links.items():
        for bulk in (False, True):
            connection = link.connection(bulk)
            if connection is None:
                continue
            waiting = connection._questions
            most = waiting._most + (17 << 20)  # the frame that reaches it is taken
            if waiting._bytes > most:
                yield f"{waiting._bytes} bytes of questions of {peer}, at most {most}"
            for size in (waiting._bulk_bytes, connection._calls._bulk.size):
                if size > calls.BULK_BYTES:
                    yield f"{size} bytes of files of {peer} on their way at once, at most {calls.BULK_BYTES}"


def left(server: PeerServer, custody: bool = False) -> list[str]:
    """What should be gone when all has settled; not what is in custody, if there is to be something."""
    found = [
        f"{count} entries of {path}"
        for path, count in entries(server).items()
        if count and path.endswith(REST) and not (custody and any(part in path for part in KEPT))
    ]
    landing = server.federation.filing.cache.in_hand
    return found + ([f"{landing} bytes on their way to the relay cache"] if landing else [])
