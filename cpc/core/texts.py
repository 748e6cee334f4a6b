"""Texts that machines and programs say, as they are kept and shown."""

from __future__ import annotations


def plain(text: str, limit: int) -> str:
    """At most `limit` characters, without NUL, which PostgreSQL does not take in a text."""
    return text[:limit].replace("\0", "\ufffd")
