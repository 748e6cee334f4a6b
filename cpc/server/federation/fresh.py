"""Words that make a request fresh: given to whoever looks at this server, each good for one request, and for a while.

A request is signed, but who was on its way can keep it, and send it again when the server that made it wants something else.
So it has a word in it that this server has given a moment ago. Of those that it gives it keeps none, since anybody can ask for as
many as he likes: a word proves itself. Of those that were used it keeps each for as long as it would be good. A restart makes all
of them void; who has one looks again.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import Refused

GOOD_FOR = 600.0  # seconds: a person may be between the look and the request
_TIME = struct.Struct(">d")
_SALT, _PROOF = 16, 16  # bytes
_SIZE = _SALT + _TIME.size + _PROOF


class Fresh:
    """All words of one life of this server."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance
        self._key = chance.token(32)
        self._used: dict[str, float] = {}  # until when each would be good; in the order in which they were used

    def word(self) -> str:
        """A new one."""
        said = self._chance.token(_SALT) + _TIME.pack(self._clock.monotonic() + GOOD_FOR)
        return (said + self._proof(said)).hex()

    def use(self, word: str) -> None:
        """Refused when it is none of ours, was used, or is too old; it is used now."""
        now = self._clock.monotonic()
        self._used = {each: until for each, until in self._used.items() if until > now}
        until = self._until(word)
        if until <= now or word in self._used:
            raise Refused(
                "the request is not a fresh one: it was sent before, or long ago, or is one of a server that was not asked "
                "for its word first",
                "ask again; if that does not help, compare the releases",
            )
        self._used[word] = until

    def _until(self, word: str) -> float:
        """Until when it is good; 0: it is none of ours. In one writing only: another one of the same word is another word."""
        try:
            data = bytes.fromhex(word)
        except ValueError:
            return 0.0
        if len(data) != _SIZE or data.hex() != word:
            return 0.0
        said, proof = data[:-_PROOF], data[-_PROOF:]
        if not hmac.compare_digest(proof, self._proof(said)):
            return 0.0
        (until,) = _TIME.unpack_from(said, _SALT)
        return float(until)

    def _proof(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, hashlib.sha256)[:_PROOF]
