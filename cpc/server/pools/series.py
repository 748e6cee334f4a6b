"""Allocations that are asked for together: one request, with one token in the batch system, and an index for each.

To us each of them has a token of its own, BASE-INDEX. That of a series ends with an s, as no other does: so what the batch
system says (token, index) and who it is to us follow from each other, also after a crash.
"""

from __future__ import annotations

import re

from cpc.core.allocation import Handle, Seen

#: In one request at most, whatever the batch system would take: its script has the credentials of all of them (2 KB each).
MOST = 100

_ELEMENT = re.compile(r"(.+s)-(\d{1,5})")


def base(token: str) -> str:
    """What the batch system is told of a series whose first allocation would have been `token` by itself."""
    return f"{token}s"


def element(base: str, index: int) -> str:
    """The token of one of a series."""
    return f"{base}-{index}"


def part(token: str) -> tuple[str, int]:
    """(what the batch system is told, index) of an allocation: of a series, or by itself."""
    found = _ELEMENT.fullmatch(token)
    return (found[1], int(found[2])) if found else (token, 0)


def handle(token: str, native: str) -> Handle:
    """How an allocation is spoken of with the batch system."""
    asked, index = part(token)
    return Handle(native, asked, index)


def own(seen: Seen) -> str:
    """The token, to us, of what the batch system has seen."""
    return element(seen.token, seen.index) if seen.token.endswith("s") else seen.token
