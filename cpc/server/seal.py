"""Secrets that must be kept for a repeated call: encrypted under a key that is not in the database.

The answer to "make me a token" is stored so that a repeat of the call gets it again. A copy of the database must not be a
collection of working tokens, so such answers are sealed with a key derived from the server's identity key.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cpc.core.chance import Chance

_MARK = b"\x01"  # no JSON text begins so
_NONCE = 12


class Seal:
    """AES-256-GCM under a key derived from `secret` (the server's identity key, PEM)."""

    def __init__(self, secret: bytes, chance: Chance) -> None:
        derived = HKDF(hashes.SHA256(), 32, None, b"copernicus stored answers").derive(secret)
        self._cipher = AESGCM(derived)
        self._chance = chance

    def close(self, text: bytes, context: bytes) -> bytes:
        """`text` so that only this server can read it, and only for the same `context`."""
        nonce = self._chance.token(_NONCE)
        return _MARK + nonce + self._cipher.encrypt(nonce, text, context)

    def open(self, stored: bytes, context: bytes) -> bytes | None:
        """What was stored, sealed or not; None when it was sealed under another key."""
        if not stored.startswith(_MARK):
            return stored
        body = stored[len(_MARK) :]
        try:
            return self._cipher.decrypt(body[:_NONCE], body[_NONCE:], context)
        except InvalidTag:
            return None
