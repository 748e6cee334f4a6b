"""Passwords: a memory-hard hash, with its parameters stored beside it so that they can be raised later."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata

from cpc.core.chance import Chance
from cpc.core.errors import BadInput

SHORTEST = 8
LONGEST = 1024
COST = 15  # 2¹⁵ blocks of 1 KiB: 32 MiB and some 80 ms for each try
NUL = "\0"  # to HMAC, and so to scrypt, those at the end of a password are as none
_BLOCK = 8
_SIZE = 32


def check(password: str, name: str) -> str:
    """The password if it may be used for this user; BadInput says why not."""
    if len(password) < SHORTEST:
        raise BadInput(f"the password is shorter than {SHORTEST} characters", "take a longer one")
    if len(password) > LONGEST:
        raise BadInput(f"the password is longer than {LONGEST} characters")
    if NUL in password:
        raise BadInput("the password has a NUL in it", "take another one")
    if password.casefold() == name.casefold():
        raise BadInput("the password is the user's name", "take another one")
    return password


class Passwords:
    """Makes and verifies hashes: `scrypt$COST$SALT$HASH`. Slow on purpose; call it off the reactor."""

    def __init__(self, chance: Chance, cost: int = COST) -> None:
        self._chance = chance
        self._cost = cost
        # Verified against when there is no such user, so that the answer takes as long.
        self.nobody = self.hash(base64.b64encode(chance.token()).decode())

    def hash(self, password: str) -> str:
        """The text to store for a password."""
        salt = self._chance.token(16)
        return "$".join(["scrypt", str(self._cost), _text(salt), _text(_derive(password, salt, self._cost))])

    def verify(self, password: str, stored: str) -> bool:
        """Whether `stored` was made of this password. A user without one ("") cannot log in; it takes as long."""
        try:
            scheme, cost, salt, wanted = (stored or self.nobody).split("$")
            found = _derive(password, base64.b64decode(salt, validate=True), int(cost))
            same = hmac.compare_digest(found, base64.b64decode(wanted, validate=True))
        except (ValueError, binascii.Error):
            return False
        return same and scheme == "scrypt" and bool(stored) and NUL not in password

    def is_old(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""
        return not stored.startswith(f"scrypt${self._cost}$")


def _derive(password: str, salt: bytes, cost: int) -> bytes:
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    memory = 128 * _BLOCK * (1 << cost)
    return hashlib.scrypt(text, salt=salt, n=1 << cost, r=_BLOCK, p=1, maxmem=2 * memory, dklen=_SIZE)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
