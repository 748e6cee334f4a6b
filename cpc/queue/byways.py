"""By which other ways the questions of a home have come: a call that brings no question, or a way that is cut, leaves it waiting.

A question that comes by two ways is looked at once, and the one who brought it first is called. If that one is away by then, or
somebody behind it, nobody asks: then the call goes by another one of these ways.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

MOST = 1000  # homes
MOST_WAYS = 4  # of one home


@dataclass(slots=True)
class _Home:
    asked: float  # when it has asked last
    ways: dict[str, float] = field(default_factory=dict)  # peer → until when it would call; the newest comes last


class Byways:
    """Times in seconds, of any one clock."""

    def __init__(self) -> None:
        self._homes: OrderedDict[str, _Home] = OrderedDict()

    def asked(self, home: str, now: float) -> None:
        """A question of this home has come."""
        if home in self._homes:
            self._homes[home].asked = now

    def came(self, home: str, peer: str, now: float, until: float) -> None:
        """One has come again, by this peer: it may be called instead until then."""
        known = self._homes.setdefault(home, _Home(now))
        self._homes.move_to_end(home)
        known.ways.pop(peer, None)
        known.ways[peer] = until
        if len(known.ways) > MOST_WAYS:
            del known.ways[next(iter(known.ways))]
        if len(self._homes) > MOST:
            self._homes.popitem(last=False)

    def has(self, home: str) -> bool:
        """Whether there may be one."""
        return home in self._homes

    def instead(self, home: str, than: str, since: float, now: float) -> str:
        """Who is called for workers of this home instead of that one, which was called at `since`: each once. "": nobody, or it
        has asked meanwhile."""
        known = self._homes.get(home)
        if known is None or known.asked > since:
            return ""
        for peer in reversed(known.ways):
            if peer != than and known.ways[peer] > now:
                del known.ways[peer]
                return peer
        return ""

    def forget(self, peer: str) -> None:
        """It is away."""
        for known in self._homes.values():
            known.ways.pop(peer, None)
