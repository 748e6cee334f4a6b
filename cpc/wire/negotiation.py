"""Which protocol number two machines speak: the newest that both know. The last two numbers, and every number for at least
24 months after the next one, are served, because peers and workers belong to other people.
"""

from __future__ import annotations

from cpc.core.errors import Refused
from cpc.wire.frames import Greeting


class NoCommonProtocol(Refused):
    """The two sides speak no protocol number in common: one of them has to be upgraded, and a certificate changes nothing."""


def negotiate(ours: Greeting, theirs: Greeting, here: str, there: str) -> int:
    """The newest protocol number that both sides speak, or NoCommonProtocol, which says who must be upgraded."""
    number = min(ours.newest, theirs.newest)
    if number < max(ours.oldest, theirs.oldest):
        raise NoCommonProtocol(
            f"no common protocol: {here} has release {ours.release} and speaks {_numbers(ours)}, "
            f"{there} has release {theirs.release} and speaks {_numbers(theirs)}",
            f"upgrade {here if ours.newest < theirs.newest else there}",
        )
    return number


def _numbers(said: Greeting) -> str:
    return str(said.newest) if said.newest == said.oldest else f"{said.oldest} to {said.newest}"
