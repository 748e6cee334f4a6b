"""Frames between server and controller processes: whatever is cut where, what was said before is heard."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import BadInput
from cpc.dataflow import turn
from cpc.dataflow.answer import Answer
from cpc.dataflow.turn import Began, Ran, Refused, Reply, Unpacker

replies = st.lists(
    st.one_of(
        st.builds(Began, st.integers(0, 1 << 40)),
        st.builds(Ran, st.integers(0, 1 << 40), st.builds(Answer, log=st.text()), st.integers(0, 1 << 40)),
        st.builds(Refused, st.integers(0, 1 << 40), st.text(), st.text()),
    )
)


@given(st.lists(replies), st.integers(1, 64))
def test_messages_arrive_in_their_order_however_they_are_cut(turns: list[list[Reply]], piece: int) -> None:
    data = b"".join(turn.pack(one) for one in turns)
    unpacker = Unpacker[Reply](list[Reply])
    heard = [reply for at in range(0, len(data), piece) for reply in unpacker.feed(data[at : at + piece])]
    assert heard == [reply for one in turns for reply in one]


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\4junk", b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\3" + msgspec.msgpack.encode([{}])]
)
def test_what_was_said_before_garbage_is_heard(garbage: bytes) -> None:
    heard: list[Reply] = []
    with pytest.raises(BadInput):
        heard.extend(Unpacker[Reply](list[Reply]).feed(turn.pack([Began(7)]) + garbage + b"more"))
    assert heard == [Began(7)]
