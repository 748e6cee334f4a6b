"""Names: labels that people choose. NFC, a short grammar, and `-` means the same as `_`."""

from __future__ import annotations

import re
import unicodedata

from cpc.core.errors import BadInput

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


def clean(name: str, what: str = "name") -> str:
    """The name in NFC, or BadInput that names `what`. First a letter or digit; then also `_`, `-`, `.`; at most 64."""
    name = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name[:80]!r} cannot be a {what}",
            "use letters, digits, '.', '-' and '_', first a letter or digit, at most 64 characters",
        )
    return name


def key(name: str) -> str:
    """What two names are compared by: `a-b` and `a_b` are the same name; upper and lower case stay apart."""
    return unicodedata.normalize("NFC", name).replace("-", "_")


def find(name: str) -> str:
    """The key to look a name up by; "" for a text that nothing can be called."""
    name = unicodedata.normalize("NFC", name)
    return key(name) if _NAME.fullmatch(name) else ""
