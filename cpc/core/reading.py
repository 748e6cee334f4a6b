"""What msgspec raises for bytes that cannot be read as what they should be."""

from __future__ import annotations

import msgspec

#: A text that is not UTF-8, and nesting without end, are not among msgspec's own errors.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
