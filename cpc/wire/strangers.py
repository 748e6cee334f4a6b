"""Connections whose other side has not said yet who it is: how many may be open, in all and from one address."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from cpc.core.clock import Timer

T = TypeVar("T")

MAX_STRANGERS = 1_000
MAX_OF_ONE_ADDRESS = 800  # one address leaves room for the others


@dataclass(frozen=True, slots=True)
class _Stranger:
    origin: str
    patience: Timer


class Strangers(Generic[T]):
    """Each with the timer that ends our patience with it."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._here: dict[T, _Stranger] = {}  # keeps the order in which they came
        self._origins: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._here))

    def has_room(self, host: str) -> bool:
        """Whether one more from this address may come."""
        return len(self._here) < self._most and self._origins[origin(host)] < self._most_of_one

    def add(self, one: T, host: str, patience: Timer) -> None:
        """One has come."""
        place = origin(host)
        self._here[one] = _Stranger(place, patience)
        self._origins[place] += 1

    def remove(self, one: T) -> bool:
        """It is known now, or gone; whether it was a stranger until now."""
        stranger = self._here.pop(one, None)
        if stranger is None:
            return False
        if stranger.patience.active():
            stranger.patience.cancel()
        self._origins[stranger.origin] -= 1
        self._origins += Counter()  # without those of whom none is left
        return True


def origin(host: str) -> str:
    """What counts as one address: whoever has one of IPv6 has its whole network of 64 bits. One of IPv4 is one, also as it
    shows where the server listens on all addresses of IPv6."""
    if ":" not in host:
        return host
    found = ipaddress.IPv6Address(host.partition("%")[0])
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return ":".join(found.exploded.split(":")[:4])
