"""Reading from a database that breaks: told in words, and over with the next read."""

from __future__ import annotations

from typing import Any

import pytest

from cpc.core.errors import Unavailable
from cpc.store.database import DatabaseBroken, DatabaseFull
from cpc.store.store import Store
from tests.helpers.stores import result
from tests.unit.test_writer import names, put


class Breaks:
    """A connection whose first statement fails."""

    def __init__(self, real: Any, error: Exception) -> None:
        self._real = real
        self._error = error
        self.dialect = real.dialect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def fetch(self, *_arguments: object) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [DatabaseFull("no space left"), DatabaseBroken("disk I/O error")])
def test_a_database_that_cannot_be_read_is_told_in_words(store: Store, error: Exception) -> None:
    result(store.write(put("a")))
    assert names(store) == ["a"]
    store._reader = Breaks(store._reader, error)  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=f"cannot be read now: {error}"):
        names(store)
    assert names(store) == ["a"]
