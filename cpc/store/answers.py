"""The answers of calls that were carried out, by caller and key: the SQL. See `cpc.server.gate`."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_ANSWERS = schema.answers

_FIND = statement.select(_ANSWERS, "call", "time", "answer", key=["principal", "key"])
_ADD = statement.insert(_ANSWERS)
_OLD = Statement(
    sa.select(_ANSWERS.c.principal, _ANSWERS.c.key)
    .where(_ANSWERS.c.time < sa.bindparam("before"), _ANSWERS.c.answer.isnot(None))
    .order_by(_ANSWERS.c.time)
    .limit(sa.bindparam("limit"))
)
_EMPTY = statement.update(_ANSWERS, "answer", key=["principal", "key"])


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What a call was answered at `time` (µs). `call` is its SHA-256; `answer` None once it has expired."""

    call: bytes
    time: int
    answer: bytes | None


def find(tx: Tx, principal: int, key: str) -> AnswerRow | None:
    """The answer to the call that carried this key."""
    found = tx.one(_FIND, {"principal": principal, "key": key})
    return AnswerRow(bytes(found[0]), found[1], None if found[2] is None else bytes(found[2])) if found else None


def add(tx: Tx, principal: int, key: str, call: bytes, answer: bytes) -> None:
    """Keep the answer, in the commit that carried the call out."""
    # Not `later`: a repeat in the same batch must find it.
    tx.run(_ADD, {"principal": principal, "key": key, "time": tx.now, "call": call, "answer": answer})


def expire(tx: Tx, before: int, limit: int) -> int:
    """Drop what was answered before that time (µs), but not the fact that there was an answer; how many."""
    found = tx.rows(_OLD, {"before": before, "limit": limit})
    tx.many(_EMPTY, [{"key_principal": principal, "key_key": key, "answer": None} for principal, key in found])
    return len(found)
