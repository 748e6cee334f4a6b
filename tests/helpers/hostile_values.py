"""Values for every field of a message: what its type allows at its edges, and what it does not. For hypothesis."""

from __future__ import annotations

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from cpc.core.digest import EMPTY, Content, of_chunk
from cpc.core.lease import Lease

WHOLE = [
    0, 1, -1, 2, 3, 127, 255, 1 << 15, (1 << 31) - 1, 1 << 31, -(1 << 31) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1, -(1 << 63),
]  # fmt: skip
BROKEN = [0.0, -0.0, 1.5, -1.0, 1e-300, 1e18, 1e308, -1e308, float("inf"), float("-inf"), float("nan")]
TEXTS = [
    "", "a", "x", "p", "stdout", "\0", "a\0b", "\n", "\r\n\x1b[31m", "é" * 70, "\u202e", "\U0010ffff", "..", "/",
    "../../etc/passwd", "-", "a" * 300, "b" * 10_000, "1.0",
    "99999999999999999999.1", "'; DROP TABLE jobs; --", "%s", "{lease}", "\ud7ff\ue000",
]  # fmt: skip
BYTES = [
    b"", b"\0", b"out", b"stdout", b"../x", b"/etc/passwd", b"a/../b", b"a//b", b"a\0b", b"\xff\xfe", b"d" * 32, b"e" * 32,
    b"f" * 31, b"p" * 255 + b"/q", b"r" * 256, b"a/" * 2048 + b"a",
    b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
    b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
]  # fmt: skip
_SMALL, _LARGE = b"small", b"large" * 20_000
CONTENTS: list[Any] = [
    {"digest": of_chunk(_SMALL), "size": 5, "chunks": [of_chunk(_SMALL)]},
    {"digest": of_chunk(_LARGE), "size": len(_LARGE), "chunks": [of_chunk(_LARGE)]},
    {"digest": EMPTY, "size": 0, "chunks": []},
    {"digest": b"d" * 32, "size": (1 << 63) - 1, "chunks": [b"d" * 32] * 3},
    {"digest": b"d" * 32, "size": 5 << 20, "chunks": [b"e" * 32, b"f" * 32]},
    {"digest": b"d" * 32, "size": 5 << 20, "chunks": [b"e" * 32, b"e" * 32]},
    {"digest": b"d" * 31, "size": 1, "chunks": [b"d" * 31]},
    {"digest": b"", "size": -1, "chunks": []},
]  # fmt: skip
SMALL_CHUNK, LARGE_CHUNK = (of_chunk(_SMALL), _SMALL), (of_chunk(_LARGE), _LARGE)
WRONG: list[Any] = [None, True, "text", b"bytes", [], [1, [2, [3]]], {}, {"a": 1}, 1.5, 1 << 40]

#: Stands for a lease that the worker really has.
MINE = "the worker's own lease"


def message(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Bodies for a question: most have the right types and values at their edges, some have anything anywhere."""
    right, mixed = _Kinds(wrong=False).of(kind), _Kinds(wrong=True).of(kind)
    return st.integers(0, 4).flatmap(lambda roll: mixed if roll == 3 else right)


class _Kinds:
    """What can be written to msgpack and is a given type; with `wrong`, one value in twelve is something else."""

    def __init__(self, wrong: bool) -> None:
        self._wrong = wrong

    def of(self, kind: Any) -> st.SearchStrategy[Any]:
        right = self._right(kind)
        if not self._wrong:
            return right
        return st.integers(0, 11).flatmap(lambda roll: st.sampled_from(WRONG) if roll == 7 else right)

    def _right(self, kind: Any) -> st.SearchStrategy[Any]:
        origin, inner = get_origin(kind), get_args(kind)
        if kind in _PLAIN:
            return _PLAIN[kind]
        if origin is Annotated:
            return self._bounded(inner[0], inner[1])
        if origin is Literal:
            return st.sampled_from(inner)
        if origin in (Union, types.UnionType):
            return st.one_of([self._right(each) for each in inner])
        if origin is dict:
            return st.dictionaries(self._right(inner[0]), self.of(inner[1]), max_size=3)
        if origin is tuple:
            if len(inner) == 2 and inner[1] is Ellipsis:
                return st.lists(self.of(inner[0]), max_size=3)
            return st.tuples(*map(self.of, inner)).map(list)
        if issubclass(kind, enum.Enum):
            return st.sampled_from([each.value for each in kind])
        assert issubclass(kind, msgspec.Struct), kind
        return self._struct(kind)

    def _bounded(self, kind: type[float], bounds: msgspec.Meta) -> st.SearchStrategy[Any]:
        """Numbers that the type takes, its bounds among them."""
        low, high = bounds.ge, bounds.le
        assert low is not None
        assert high is not None
        known = BROKEN if kind is float else WHOLE
        return st.sampled_from([*(known if self._wrong else (one for one in known if low <= one <= high)), low, high])

    def _struct(self, kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
        fields = {field.name: self.of(field.type) for field in msgspec.structs.fields(kind)}
        if kind.__struct_config__.array_like:
            return st.tuples(*fields.values()).map(list)
        needed = {field.name: fields.pop(field.name) for field in msgspec.structs.fields(kind) if field.required}
        return st.fixed_dictionaries(needed, optional=fields)


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    Lease: st.integers(0, 3).flatmap(
        lambda roll: st.lists(st.sampled_from(WHOLE), min_size=3, max_size=3) if roll == 3 else st.just(MINE)
    ),
    Content: st.sampled_from(CONTENTS),
    bool: st.booleans(),
    int: st.sampled_from(WHOLE),
    float: st.sampled_from(BROKEN),
    str: st.sampled_from(TEXTS) | st.text(max_size=12),
    bytes: st.sampled_from(BYTES) | st.binary(max_size=12),
    type(None): st.none(),
}
_PLAIN[memoryview] = _PLAIN[bytes]


def filled(value: Any, lease: Lease) -> Any:
    """The body with MINE replaced by a lease."""
    if value == MINE:
        return [lease.job, lease.attempt, lease.incarnation]
    if isinstance(value, list):
        return [filled(each, lease) for each in value]
    if isinstance(value, dict):
        return {filled_key(key): filled(each, lease) for key, each in value.items()}
    return value


def filled_key(key: Any) -> Any:
    return "mine" if key == MINE else key
