"""Values that lie packed (msgpack) in a column, read back; damage is told by what it is, and never as a defect of ours."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cpc.core.errors import Damaged
from cpc.core.reading import UNREADABLE

T = TypeVar("T")


def unpack(data: Any, kind: type[T], what: str) -> T:
    """The value in a column's bytes; Damaged names `what` it should be."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (*UNREADABLE, TypeError) as error:
        raise Damaged(
            f"the database is damaged: {what} in it cannot be read: {error}",
            "see `cpc-server doctor --deep`; restore it from a backup: cpc-server restore FILE --force",
        ) from error
